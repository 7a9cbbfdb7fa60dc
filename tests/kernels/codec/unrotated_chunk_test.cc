// Containers that hold K before its rotary embedding.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/codec/chunk_codec.h"
#include "kernels/codec/element_core.h"
#include "tests/kernels/codec/test_tiles.h"
#include "tests/kernels/layout/test_specs.h"

namespace kdn {
namespace {

constexpr uint32_t kTokens = 48;
constexpr uint64_t kPosition = 1000;

// A bf16 cache in plain memory: [layer][K, V][head][token][channel].
class PlainCache {
 public:
  explicit PlainCache(const ModelSpec& spec) {
    size_t elements = 0;
    for (const LayerSpec& layer : spec.layers) {
      elements += size_t{kTokens} * layer.num_kv_heads * (layer.k_head_dim + layer.v_head_dim);
    }
    values_.resize(elements);
    view_.num_tokens = kTokens;
    view_.head_count = spec.layers[0].num_kv_heads;
    uint16_t* at = values_.data();
    for (uint32_t layer = 0; layer < spec.layers.size(); ++layer) {
      const KvPlane k = PlaneAt(at, spec.layers[layer].k_head_dim);
      const uint32_t v_dim = spec.layers[layer].v_head_dim;
      view_.layers.push_back({layer, 0, k, v_dim == 0 ? KvPlane{} : PlaneAt(at, v_dim)});
    }
  }

  const KvView& view() const { return view_; }
  std::vector<uint16_t>& values() { return values_; }

  uint16_t& At(uint32_t layer, KvKind kind, uint32_t head, uint32_t token, uint32_t channel) {
    const KvPlane& plane = kind == KvKind::kK ? view_.layers[layer].k : view_.layers[layer].v;
    return reinterpret_cast<uint16_t*>(ElementAddress(plane, view_.block_table, token, head))[channel];
  }

 private:
  KvPlane PlaneAt(uint16_t*& at, uint32_t dim) const {
    const int64_t row = int64_t{2} * dim;
    const KvPlane plane = {reinterpret_cast<uint8_t*>(at), row, row * kTokens, 2, 0};
    at += size_t{kTokens} * view_.head_count * dim;
    return plane;
  }

  std::vector<uint16_t> values_;
  KvView view_;
};

class UnrotatedChunk : public ::testing::Test {
 protected:
  void Make(ModelSpec spec) {
    spec_ = std::move(spec);
    ASSERT_EQ(ValidateModelSpec(spec_), absl::OkStatus());
    source_ = std::make_unique<PlainCache>(spec_);
    std::mt19937_64 random(11);
    for (uint16_t& value : source_->values()) value = ToBf16(RoughNormal(random) + 0.5f);
    cells_ = std::make_unique<CellMap>(spec_, kTokens);
    ContainerHeader header;
    header.fingerprint = FingerprintOf(spec_);
    header.chunk_digest = Sha256::Of(AsBytes("chunk"));
    header.token_begin = kPosition;
    header.num_tokens = kTokens;
    header.tile_tokens = 32;
    header.cells = CellSet::All(cells_->num_cells());
    for (const RopeState state : {RopeState::kRotated, RopeState::kUnrotated}) {
      header.rope_state = state;
      auto container = EncodeChunk(spec_, *cells_, header, {&source_->view(), 0}, ProfileId::kLossless);
      ASSERT_TRUE(container.ok()) << container.status();
      containers_[state == RopeState::kUnrotated] = *std::move(container);
    }
  }

  std::unique_ptr<PlainCache> Decode(std::optional<uint64_t> position) {
    auto destination = std::make_unique<PlainCache>(spec_);
    const ContainerHeader header = ParseContainerHeader(containers_[1]).value();
    EXPECT_EQ(CheckAgainstModel(header, spec_, *cells_), absl::OkStatus());
    EXPECT_EQ(DecodeContainer(spec_, header, ByteSpan(containers_[1]).subspan(header.header_bytes),
                              {&destination->view(), 0, 0, kTokens, position}),
              absl::OkStatus());
    return destination;
  }

  // Every K row of `decoded` is the source's, turned by `shift` positions, but for two roundings to bf16 (2^-8 each); V
  // is exact.
  void ExpectShifted(PlainCache& decoded, double shift) {
    for (uint32_t layer = 0; layer < spec_.layers.size(); ++layer) {
      const LayerSpec& model = spec_.layers[layer];
      const RopeSpec& rope = spec_.ropes[model.rope_index];
      std::vector<double> angles(model.k_head_dim);
      std::vector<uint32_t> partner(model.k_head_dim);
      std::vector<double> side(model.k_head_dim);  // of the pair: -1 first, 1 second, 0 does not rotate
      for (uint32_t i = 0; i < rope.inv_freq.size(); ++i) {
        const bool halves = rope.style == RopeStyle::kHalfSplit;
        const uint32_t a = rope.rotary_offset + (halves ? i : 2 * i);
        const uint32_t b = rope.rotary_offset + (halves ? i + rope.rotary_dim / 2 : 2 * i + 1);
        angles[a] = angles[b] = shift * double{rope.inv_freq[i]};
        partner[a] = b;
        partner[b] = a;
        side[a] = -1;
        side[b] = 1;
      }
      for (uint32_t head = 0; head < model.num_kv_heads; ++head) {
        for (uint32_t token = 0; token < kTokens; ++token) {
          for (uint32_t channel = 0; channel < model.k_head_dim; ++channel) {
            const auto value = [&](PlainCache& cache, uint32_t c) {
              return double{WidenElement<DType::kBf16>(cache.At(layer, KvKind::kK, head, token, c))};
            };
            const double x = value(*source_, channel);
            const double y = side[channel] == 0 ? 0 : value(*source_, partner[channel]);
            const double expected = x * std::cos(angles[channel]) + side[channel] * y * std::sin(angles[channel]);
            ASSERT_NEAR(value(decoded, channel), expected, std::hypot(x, y) * std::ldexp(1.01, -7))
                << "layer " << layer << " token " << token << " channel " << channel;
          }
          for (uint32_t channel = 0; channel < model.v_head_dim; ++channel) {
            ASSERT_EQ(decoded.At(layer, KvKind::kV, head, token, channel),
                      source_->At(layer, KvKind::kV, head, token, channel));
          }
        }
      }
    }
  }

  ModelSpec spec_;
  std::unique_ptr<CellMap> cells_;
  std::unique_ptr<PlainCache> source_;
  std::vector<uint8_t> containers_[2];
};

TEST_F(UnrotatedChunk, DecodesToTheSourcePositions) {
  Make(testing::FullAttentionSpec(2, 2, 64));
  ExpectShifted(*Decode(std::nullopt), 0);
}

TEST_F(UnrotatedChunk, DecodesToAnotherPosition) {
  Make(testing::FullAttentionSpec(2, 2, 64));
  ExpectShifted(*Decode(3), 3 - static_cast<double>(kPosition));
  ExpectShifted(*Decode(5000), 5000 - static_cast<double>(kPosition));
}

TEST_F(UnrotatedChunk, TakesEachLayersOwnRope) {
  ModelSpec spec = testing::SlidingSpec(6, 48, 64);
  spec.ropes[1].style = RopeStyle::kInterleaved;
  spec.ropes[1].amplitude = 1.25f;
  Make(spec);
  ExpectShifted(*Decode(1007), 7);
}

TEST_F(UnrotatedChunk, TurnsOnlyTheRotarySliceOfLatents) {
  Make(testing::LatentSpec(2));
  ExpectShifted(*Decode(40), 40 - static_cast<double>(kPosition));
}

TEST_F(UnrotatedChunk, LeavesPositionFreeKeysBitExact) {
  ModelSpec spec = testing::FullAttentionSpec(1, 2, 64);
  spec.ropes = {RopeSpec{}};
  Make(spec);
  EXPECT_EQ(Decode(9)->values(), source_->values());
}

TEST_F(UnrotatedChunk, StoresOtherKeysAndTheSameValues) {
  Make(testing::FullAttentionSpec(1, 1, 64));
  const ContainerHeader rotated = ParseContainerHeader(containers_[0]).value();
  const ContainerHeader unrotated = ParseContainerHeader(containers_[1]).value();
  ASSERT_EQ(unrotated.rope_state, RopeState::kUnrotated);
  EXPECT_NE(rotated.sections[0].crc32c, unrotated.sections[0].crc32c);
  EXPECT_EQ(rotated.sections[1].crc32c, unrotated.sections[1].crc32c);
}

}  // namespace
}  // namespace kdn
