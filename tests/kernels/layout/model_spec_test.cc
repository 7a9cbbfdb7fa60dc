#include "kernels/layout/model_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "kernels/base/status.h"
#include "tests/kernels/layout/test_specs.h"

namespace kdn {
namespace {

using ::testing::HasSubstr;

TEST(ModelSpecTest, EncodingRoundTripsForRandomSpecs) {
  std::mt19937 rng(1);
  for (int i = 0; i < 500; ++i) {
    const ModelSpec spec = testing::RandomSpec(rng);
    ASSERT_TRUE(ValidateModelSpec(spec).ok()) << ValidateModelSpec(spec);
    const auto decoded = DecodeModelSpec(EncodeModelSpec(spec));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, spec);
  }
}

TEST(ModelSpecTest, EveryFieldChangesTheFingerprint) {
  ModelSpec base = testing::SlidingSpec(12, 64, 512);
  base.dtype = DType::kFp8E4M3;
  base.k_scales.assign(12, 0.5f);
  const std::pair<const char*, std::function<void(ModelSpec&)>> changes[] = {
      {"weights", [](ModelSpec& s) { s.weights_digest.bytes[0] ^= 1; }},
      {"tokenizer", [](ModelSpec& s) { s.tokenizer_digest.bytes[31] ^= 1; }},
      {"adapter", [](ModelSpec& s) { s.adapter_digest.bytes[5] ^= 1; }},
      {"dtype", [](ModelSpec& s) { s.dtype = DType::kFp8E5M2; }},
      {"rope style", [](ModelSpec& s) { s.ropes[0].style = RopeStyle::kInterleaved; }},
      {"inv_freq", [](ModelSpec& s) { s.ropes[1].inv_freq[3] *= 2; }},
      {"amplitude", [](ModelSpec& s) { s.ropes[0].amplitude = 1.25f; }},
      {"window", [](ModelSpec& s) { s.layers[0].window = 256; }},
      {"v head dim", [](ModelSpec& s) { s.layers[3].v_head_dim = 32; }},
      {"kv heads", [](ModelSpec& s) { s.layers[3].num_kv_heads = 2; }},
      {"k scale", [](ModelSpec& s) { s.k_scales[2] = 0.25f; }},
      {"v scales", [](ModelSpec& s) { s.v_scales.assign(12, 1.0f); }},
      {"extra", [](ModelSpec& s) { s.extra = {"quant=awq"}; }},
      {"layer removed",
       [](ModelSpec& s) {
         s.layers.pop_back();
         s.k_scales.pop_back();
       }},
  };
  for (const auto& [name, change] : changes) {
    ModelSpec changed = base;
    change(changed);
    ASSERT_TRUE(ValidateModelSpec(changed).ok()) << name << ": " << ValidateModelSpec(changed);
    EXPECT_NE(FingerprintOf(changed), FingerprintOf(base)) << name;
  }
}

TEST(ModelSpecTest, ValidationNamesFieldAndValue) {
  const std::pair<const char*, std::function<void(ModelSpec&)>> damages[] = {
      {"weights_digest", [](ModelSpec& s) { s.weights_digest = {}; }},
      {"tokenizer_digest", [](ModelSpec& s) { s.tokenizer_digest = {}; }},
      {"dtype", [](ModelSpec& s) { s.dtype = static_cast<DType>(9); }},
      {"layers", [](ModelSpec& s) { s.layers.clear(); }},
      {"ropes", [](ModelSpec& s) { s.ropes.clear(); }},
      {"rope_index", [](ModelSpec& s) { s.layers[1].rope_index = 7; }},
      {"k_head_dim", [](ModelSpec& s) { s.layers[1].k_head_dim = 60; }},
      {"v_head_dim", [](ModelSpec& s) { s.layers[1].v_head_dim = 0; }},
      {"num_kv_heads", [](ModelSpec& s) { s.layers[1].num_kv_heads = 0; }},
      {"window", [](ModelSpec& s) { s.layers[1].window = 5; }},
      {"inv_freq", [](ModelSpec& s) { s.ropes[0].inv_freq[0] = std::numeric_limits<float>::quiet_NaN(); }},
      {"inv_freq", [](ModelSpec& s) { s.ropes[0].inv_freq.pop_back(); }},
      {"amplitude", [](ModelSpec& s) { s.ropes[0].amplitude = 0; }},
      {"amplitude", [](ModelSpec& s) { s.ropes[0].amplitude = std::numeric_limits<float>::quiet_NaN(); }},
      {"amplitude", [](ModelSpec& s) { s.ropes[0].amplitude = 1e-39f; }},
      {"amplitude", [](ModelSpec& s) { s.ropes[0].amplitude = 17; }},
      {"k_scales", [](ModelSpec& s) { s.k_scales = {1.0f}; }},
      {"extra",
       [](ModelSpec& s) {
         s.extra = {"b", "a"};
       }},
      {"extra", [](ModelSpec& s) { s.extra = {std::string(kMaxExtraBytes + 1, 'x')}; }},
  };
  for (const auto& [field, damage] : damages) {
    ModelSpec spec = testing::FullAttentionSpec(4, 2, 64);
    damage(spec);
    const absl::Status status = ValidateModelSpec(spec);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
    EXPECT_THAT(std::string(FromAbsl(status.message())), HasSubstr(field));
    EXPECT_FALSE(DecodeModelSpec(EncodeModelSpec(spec)).ok()) << field;
  }
}

TEST(ModelSpecTest, EveryTruncationIsRefused) {
  const std::vector<uint8_t> bytes = EncodeModelSpec(testing::SlidingSpec(6, 32, 64));
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeModelSpec(ByteSpan(bytes).first(size)).ok()) << size;
  }
  std::vector<uint8_t> longer = bytes;
  longer.push_back(0);
  EXPECT_FALSE(DecodeModelSpec(longer).ok());
}

TEST(ModelSpecTest, EveryBitFlipIsRefusedOrAnotherSpec) {
  const ModelSpec spec = testing::SlidingSpec(6, 32, 64);
  const std::vector<uint8_t> bytes = EncodeModelSpec(spec);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::vector<uint8_t> flipped = bytes;
    flipped[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    const auto decoded = DecodeModelSpec(flipped);
    if (decoded.ok()) {
      EXPECT_EQ(EncodeModelSpec(*decoded), flipped) << bit;
    }
  }
}

TEST(ModelSpecTest, LaterVersionIsUnimplemented) {
  std::vector<uint8_t> bytes = EncodeModelSpec(testing::SmolLm2Spec());
  bytes[8] = 2;
  EXPECT_EQ(DecodeModelSpec(bytes).status().code(), absl::StatusCode::kUnimplemented);
}

TEST(ModelSpecTest, TokenBytesCountsEveryPlane) {
  EXPECT_EQ(TokenBytes(testing::SmolLm2Spec()), 30u * 3 * 64 * 2 * 2);
  EXPECT_EQ(TokenBytes(testing::LatentSpec(4)), 4u * 576 * 2);
}

}  // namespace
}  // namespace kdn
