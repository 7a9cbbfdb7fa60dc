// Whole containers at profile q4: K before its rotary embedding, sinks, short tails, what falls back.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/codec/chunk_codec.h"
#include "kernels/codec/element_core.h"
#include "tests/kernels/codec/test_tiles.h"
#include "tests/kernels/layout/test_specs.h"

namespace kdn {
namespace {

// A bf16 cache of one layer set in plain memory: [layer][K, V][head][token][channel].
struct PlainCache {
  PlainCache(const ModelSpec& spec, uint32_t tokens) {
    view.num_tokens = tokens;
    view.head_count = spec.layers[0].num_kv_heads;
    size_t elements = 0;
    for (const LayerSpec& layer : spec.layers) {
      elements += size_t{tokens} * layer.num_kv_heads * (layer.k_head_dim + layer.v_head_dim);
    }
    values.resize(elements);
    uint16_t* at = values.data();
    const auto plane = [&](uint32_t dim) {
      const int64_t row = int64_t{2} * dim;
      const KvPlane made = {reinterpret_cast<uint8_t*>(at), row, row * tokens, 2, 0};
      at += size_t{tokens} * view.head_count * dim;
      return made;
    };
    for (uint32_t layer = 0; layer < spec.layers.size(); ++layer) {
      const KvPlane k = plane(spec.layers[layer].k_head_dim);
      const uint32_t v_dim = spec.layers[layer].v_head_dim;
      view.layers.push_back({layer, 0, k, v_dim == 0 ? KvPlane{} : plane(v_dim)});
    }
  }
  std::vector<uint16_t> values;
  KvView view;
};

class Q4Chunk : public ::testing::Test {
 protected:
  static constexpr uint32_t kTokens = 96;

  void Make(ModelSpec spec, uint64_t position) {
    spec_ = std::move(spec);
    cells_ = std::make_unique<CellMap>(spec_, kTokens);
    source_ = std::make_unique<PlainCache>(spec_, kTokens);
    std::mt19937_64 random(21);
    for (uint16_t& value : source_->values) value = ToBf16(RoughNormal(random));
    header_.fingerprint = FingerprintOf(spec_);
    header_.chunk_digest = Sha256::Of(AsBytes("chunk"));
    header_.token_begin = position;
    header_.num_tokens = kTokens;
    header_.tile_tokens = DefaultTileTokens(spec_, ProfileId::kQ4);
    header_.rope_state = StoredRopeState(ProfileId::kQ4);
    header_.cells = CellSet::All(cells_->num_cells());
  }

  void EncodeAndDecode() {
    const auto container = EncodeChunk(spec_, *cells_, header_, {&source_->view, 0}, ProfileId::kQ4);
    ASSERT_TRUE(container.ok()) << container.status();
    parsed_ = ParseContainerHeader(*container).value();
    decoded_ = std::make_unique<PlainCache>(spec_, kTokens);
    ASSERT_EQ(DecodeContainer(spec_, parsed_, ByteSpan(*container).subspan(parsed_.header_bytes),
                              {&decoded_->view, 0, 0, kTokens}),
              absl::OkStatus());
    container_bytes_ = container->size();
  }

  // Root mean square of the difference in rows [first, last) of a plane's heads.
  double ErrorOf(uint32_t layer, KvKind kind, uint32_t first, uint32_t last) const {
    const uint32_t dim = kind == KvKind::kK ? spec_.layers[layer].k_head_dim : spec_.layers[layer].v_head_dim;
    double error = 0;
    for (uint32_t head = 0; head < source_->view.head_count; ++head) {
      for (uint32_t token = first; token < last; ++token) {
        for (uint32_t channel = 0; channel < dim; ++channel) {
          const double off = double{Value(*source_, layer, kind, head, token, channel)} -
                             Value(*decoded_, layer, kind, head, token, channel);
          error += off * off;
        }
      }
    }
    return std::sqrt(error / (source_->view.head_count * (last - first) * dim));
  }

  static float Value(const PlainCache& cache, uint32_t layer, KvKind kind, uint32_t head, uint32_t token,
                     uint32_t channel) {
    const KvPlane& plane = kind == KvKind::kK ? cache.view.layers[layer].k : cache.view.layers[layer].v;
    const uint8_t* row = ElementAddress(plane, cache.view.block_table, token, head);
    return WidenElement<DType::kBf16>(LoadLe<uint16_t>(row + size_t{2} * channel));
  }

  ModelSpec spec_;
  std::unique_ptr<CellMap> cells_;
  std::unique_ptr<PlainCache> source_;
  std::unique_ptr<PlainCache> decoded_;
  ContainerHeader header_;
  ContainerHeader parsed_;
  size_t container_bytes_ = 0;
};

TEST_F(Q4Chunk, ComesBackWithFourBitsError) {
  Make(testing::FullAttentionSpec(2, 2, 64), 96);
  EncodeAndDecode();
  EXPECT_EQ(parsed_.rope_state, RopeState::kUnrotated);
  for (const TileEntry& tile : parsed_.tiles) EXPECT_EQ(tile.profile, ProfileId::kQ4);
  EXPECT_LT(container_bytes_ * 33 / 10, source_->values.size() * 2);
  for (uint32_t layer = 0; layer < 2; ++layer) {
    for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
      EXPECT_LT(ErrorOf(layer, kind, 0, kTokens), 0.1);
      EXPECT_GT(ErrorOf(layer, kind, 0, 4), 0.03);  // no sinks behind position 3
    }
  }
}

TEST_F(Q4Chunk, KeepsTheSequencesFirstTokens) {
  Make(testing::FullAttentionSpec(1, 2, 64), 0);
  EncodeAndDecode();
  EXPECT_EQ(ErrorOf(0, KvKind::kV, 0, 4), 0);
  EXPECT_LT(ErrorOf(0, KvKind::kK, 0, 4), 0.005);  // two roundings to bf16
  EXPECT_GT(ErrorOf(0, KvKind::kV, 4, 5), 0.03);
  Make(testing::FullAttentionSpec(1, 2, 64), 2);
  EncodeAndDecode();
  EXPECT_EQ(ErrorOf(0, KvKind::kV, 0, 2), 0);
  EXPECT_GT(ErrorOf(0, KvKind::kV, 2, 3), 0.03);
}

TEST_F(Q4Chunk, CodesLatents) {
  Make(testing::LatentSpec(2), 500);
  EncodeAndDecode();
  for (const TileEntry& tile : parsed_.tiles) EXPECT_EQ(tile.profile, ProfileId::kQ4);
  EXPECT_LT(ErrorOf(1, KvKind::kK, 0, kTokens), 0.1);
}

TEST_F(Q4Chunk, OneBadElementCostsOnlyItsTile) {
  Make(testing::FullAttentionSpec(2, 2, 64), 0);
  auto* v = reinterpret_cast<uint16_t*>(ElementAddress(source_->view.layers[1].v, {}, 40, 1));
  v[7] = 0x7fc0;
  EncodeAndDecode();
  size_t lossless = 0;
  for (const TileEntry& tile : parsed_.tiles) lossless += tile.profile == ProfileId::kLossless;
  EXPECT_EQ(lossless, 1u);
  const auto* head = reinterpret_cast<const uint16_t*>(ElementAddress(source_->view.layers[1].v, {}, 0, 1));
  const auto* back = reinterpret_cast<const uint16_t*>(ElementAddress(decoded_->view.layers[1].v, {}, 0, 1));
  EXPECT_TRUE(std::equal(head, head + kTokens * 64, back));
}

}  // namespace
}  // namespace kdn
