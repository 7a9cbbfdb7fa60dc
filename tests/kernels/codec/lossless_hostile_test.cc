// The lossless decoder against bytes nobody encoded: every answer is a status or some output, the same one on every
// instruction set. Run under AddressSanitizer, this is also the proof that nothing is read or written out of bounds.
#include <gtest/gtest.h>

#include "kernels/codec/tile_codec.h"
#include "tests/kernels/codec/test_tiles.h"

namespace kdn {
namespace {

constexpr TileGeometry kSmall = {DType::kBf16, 8, 48, 0, 0, KvKind::kK};

// Decodes a heap copy of exactly the given bytes with every instruction set; returns the scalar status.
absl::Status DecodeEverywhere(const TileGeometry& geometry, ByteSpan coded) {
  const std::vector<uint8_t> exact(coded.begin(), coded.end());
  std::vector<uint8_t> reference(geometry.raw_bytes());
  const absl::Status status = TileDecoder({}, Isa::kScalar).Decode(geometry, ProfileId::kLossless, exact, reference);
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
    if (!IsaSupported(isa)) continue;
    std::vector<uint8_t> rows(geometry.raw_bytes());
    const absl::Status other = TileDecoder({}, isa).Decode(geometry, ProfileId::kLossless, exact, rows);
    EXPECT_EQ(other.ok(), status.ok()) << IsaName(isa) << ": " << other << " scalar: " << status;
    if (status.ok()) {
      EXPECT_EQ(rows, reference) << IsaName(isa);
    }
  }
  return status;
}

std::vector<uint8_t> EncodeTile(const TileGeometry& geometry, TilePattern pattern, uint64_t seed) {
  std::vector<uint8_t> coded;
  TileEncoder encoder;
  const auto profile = encoder.Encode(geometry, MakeRows(geometry, pattern, seed), ProfileId::kLossless, coded);
  EXPECT_TRUE(profile.ok() && *profile == ProfileId::kLossless) << DTypeName(geometry.dtype);
  return coded;
}

TEST(LosslessHostileTest, RefusesEveryTruncation) {
  for (const DType dtype : {DType::kBf16, DType::kFp8E5M2, DType::kFp32}) {
    const TileGeometry geometry = {dtype, 64, 48, 0, 0, KvKind::kK};
    const std::vector<uint8_t> coded = EncodeTile(geometry, TilePattern::kKvLike, 1);
    ASSERT_EQ(DecodeEverywhere(geometry, coded), absl::OkStatus());
    for (size_t size = 0; size < coded.size(); ++size) {
      ASSERT_EQ(DecodeEverywhere(geometry, ByteSpan(coded).first(size)).code(), absl::StatusCode::kDataLoss) << size;
    }
  }
}

TEST(LosslessHostileTest, RefusesTrailingBytes) {
  std::vector<uint8_t> coded = EncodeTile(kSmall, TilePattern::kKvLike, 2);
  coded.push_back(0);
  EXPECT_EQ(DecodeEverywhere(kSmall, coded).code(), absl::StatusCode::kDataLoss);
}

TEST(LosslessHostileTest, SurvivesEverySingleBitFlip) {
  for (const TilePattern pattern : {TilePattern::kKvLike, TilePattern::kSparse}) {
    const TileGeometry geometry = {DType::kBf16, 24, 48, 0, 0, KvKind::kK};
    std::vector<uint8_t> coded = EncodeTile(geometry, pattern, 3);
    size_t refused = 0;
    for (size_t bit = 0; bit < coded.size() * 8; ++bit) {
      coded[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
      refused += !DecodeEverywhere(geometry, coded).ok();
      coded[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    }
    // Header, states and refill words are guarded by the final states; raw bits cannot be.
    EXPECT_GT(refused, size_t{8} * LosslessTileLayout::kStatesBytes);
  }
}

TEST(LosslessHostileTest, SurvivesRandomBytes) {
  std::mt19937_64 random(4);
  for (int round = 0; round < 2000; ++round) {
    const TileGeometry geometry = {kAllDTypes[random() % 5],
                                   static_cast<uint32_t>(1 + random() % 20),
                                   static_cast<uint32_t>(16 * (1 + random() % 6)),
                                   0,
                                   0,
                                   KvKind::kK};
    const LosslessTileLayout layout(geometry, LosslessTables::BuiltIn());
    const uint32_t words = static_cast<uint32_t>(random() % (geometry.elements() + 1));
    std::vector<uint8_t> coded(layout.words_offset + 2 * words + random() % (geometry.elements() + 1));
    for (uint8_t& byte : coded) byte = static_cast<uint8_t>(random());
    StoreLe<uint32_t>((words << 8) | (random() & 0xff), coded.data());
    DecodeEverywhere(geometry, coded).IgnoreError();
  }
}

TEST(LosslessHostileTest, RefusesWordCountsBeyondTheTile) {
  std::vector<uint8_t> coded = EncodeTile(kSmall, TilePattern::kKvLike, 5);
  for (const uint32_t words : {uint32_t{0}, uint32_t{1}, uint32_t{0xffffff}}) {
    StoreLe<uint32_t>((words << 8) | 130, coded.data());
    EXPECT_EQ(DecodeEverywhere(kSmall, coded).code(), absl::StatusCode::kDataLoss) << words;
  }
}

TEST(LosslessHostileTest, RefusesShapesTheSetDoesNotHave) {
  LosslessObjectSpec spec;
  spec.shapes_per_set = 2;
  LosslessShape shape;
  shape.fill(64);
  spec.shapes = {shape, shape};
  const auto tables = LosslessTables::Create(spec);
  ASSERT_TRUE(tables.ok()) << tables.status();
  std::vector<uint8_t> coded = EncodeTile(kSmall, TilePattern::kKvLike, 6);
  coded[LosslessTileLayout::kChannelsOffset] = 2;
  std::vector<uint8_t> rows(kSmall.raw_bytes());
  const absl::Status status = TileDecoder({&*tables}).Decode(kSmall, ProfileId::kLossless, coded, rows);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace kdn
