#include "kernels/layout/kv_view.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/kernels/layout/test_specs.h"

namespace kdn {
namespace {

// A view of `spec` over memory that is never touched: for validation only.
KvView ViewOf(const ModelSpec& spec, uint32_t tokens) {
  static uint8_t byte;
  KvView view;
  view.dtype = spec.dtype;
  view.num_tokens = tokens;
  view.head_count = spec.layers[0].num_kv_heads;
  for (uint32_t i = 0; i < spec.layers.size(); ++i) {
    KvLayerView layer;
    layer.layer = i;
    layer.k.data = &byte;
    if (spec.layers[i].v_head_dim != 0) layer.v.data = &byte;
    view.layers.push_back(layer);
  }
  return view;
}

TEST(KvViewTest, AddressFollowsStridesAndBlockTable) {
  uint8_t base[1];
  const KvPlane plane{base, 10, 1000, 1, 100000};
  EXPECT_EQ(ElementAddress(plane, {}, 7, 2) - base, 2070);
  const int32_t blocks[] = {5, 3};
  EXPECT_EQ(ElementAddress(plane, {blocks, 16}, 17, 1) - base, 3 * 100000 + 10 + 1000);
}

TEST(KvViewTest, AcceptsWholeRankAndLatentViews) {
  const ModelSpec spec = testing::FullAttentionSpec(4, 8, 64);
  KvView view = ViewOf(spec, 100);
  EXPECT_TRUE(ValidateKvView(spec, view).ok());
  view.head_begin = 6;
  view.head_count = 2;
  EXPECT_TRUE(ValidateKvView(spec, view).ok());
  const ModelSpec latent = testing::LatentSpec(2);
  EXPECT_TRUE(ValidateKvView(latent, ViewOf(latent, 5)).ok());
}

TEST(KvViewTest, RefusesWhatDoesNotFit) {
  const ModelSpec spec = testing::FullAttentionSpec(4, 8, 64);
  const auto refused = [&spec](auto change) {
    KvView view = ViewOf(spec, 100);
    change(view);
    return ValidateKvView(spec, view).code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](KvView& v) { v.dtype = DType::kFp16; }));
  EXPECT_TRUE(refused([](KvView& v) { v.head_begin = 1; }));
  EXPECT_TRUE(refused([](KvView& v) { v.head_count = 0; }));
  EXPECT_TRUE(refused([](KvView& v) { v.layers[1].layer = 0; }));
  EXPECT_TRUE(refused([](KvView& v) { v.layers[3].layer = 4; }));
  EXPECT_TRUE(refused([](KvView& v) { v.layers[2].k.data = nullptr; }));
  EXPECT_TRUE(refused([](KvView& v) { v.layers[2].v.data = nullptr; }));
  EXPECT_TRUE(refused([](KvView& v) { v.layers[2].first_row = 101; }));
  static const int32_t kBlocks[] = {0, 1, -1, 2, 3, 4, 5};
  EXPECT_TRUE(refused([](KvView& v) { v.block_table = {std::span(kBlocks).first(2), 16}; }));
  EXPECT_TRUE(refused([](KvView& v) { v.block_table = {kBlocks, 16}; }));
}

// [layer][K or V][token][head][channel], one behind the other.
KvView DenseView(const ModelSpec& spec, uint32_t tokens, std::vector<uint8_t>& memory) {
  KvView view = ViewOf(spec, tokens);
  const LayerSpec& layer = spec.layers[0];
  const int64_t row_bytes = int64_t{layer.k_head_dim} * DTypeBytes(spec.dtype);
  const int64_t plane_bytes = row_bytes * layer.num_kv_heads * tokens;
  memory.resize(static_cast<size_t>(plane_bytes) * 2 * spec.layers.size());
  uint8_t* at = memory.data();
  for (KvLayerView& held : view.layers) {
    for (KvPlane* plane : {&held.k, &held.v}) {
      *plane = {at, row_bytes * layer.num_kv_heads, row_bytes, DTypeBytes(spec.dtype), 0};
      at += plane_bytes;
    }
  }
  return view;
}

TEST(KvViewTest, TakesDestinationsWhoseElementsLieApart) {
  const ModelSpec spec = testing::FullAttentionSpec(2, 4, 16);
  std::vector<uint8_t> memory;
  KvView view = DenseView(spec, 64, memory);
  EXPECT_TRUE(ValidateDestination(spec, view).ok()) << ValidateDestination(spec, view);
  for (KvLayerView& layer : view.layers) {
    layer.k.data += 63 * layer.k.token_stride_bytes;
    layer.k.token_stride_bytes = -layer.k.token_stride_bytes;
  }
  EXPECT_TRUE(ValidateDestination(spec, view).ok()) << ValidateDestination(spec, view);

  view = DenseView(spec, 64, memory);
  const int32_t blocks[] = {2, 2, 0, 1};  // the first two hold rows that every layer has dropped
  view.block_table = {blocks, 16};
  for (KvLayerView& layer : view.layers) {
    for (KvPlane* plane : {&layer.k, &layer.v}) plane->block_stride_bytes = 16 * plane->token_stride_bytes;
    layer.first_row = 32;
  }
  EXPECT_TRUE(ValidateDestination(spec, view).ok()) << ValidateDestination(spec, view);
  view.layers[1].first_row = 0;
  EXPECT_FALSE(ValidateDestination(spec, view).ok());
}

TEST(KvViewTest, RefusesDestinationsWhoseElementsOverlap) {
  const ModelSpec spec = testing::FullAttentionSpec(2, 4, 16);
  const auto refused = [&spec](auto change) {
    std::vector<uint8_t> memory;
    KvView view = DenseView(spec, 64, memory);
    change(view);
    return absl::IsInvalidArgument(ValidateDestination(spec, view));
  };
  EXPECT_TRUE(refused([](KvView& view) { view.layers[0].k.token_stride_bytes = 0; }));
  EXPECT_TRUE(refused([](KvView& view) { view.layers[0].v.head_stride_bytes = 0; }));
  EXPECT_TRUE(refused([](KvView& view) { view.layers[1].v.channel_stride_bytes = 0; }));
  EXPECT_TRUE(refused([](KvView& view) { view.layers[1].k.token_stride_bytes -= 2; }));
  EXPECT_TRUE(refused([](KvView& view) { view.layers[1].k.token_stride_bytes = INT64_MIN; }));
  EXPECT_TRUE(refused([](KvView& view) { view.layers[1].k = view.layers[0].k; }));
  EXPECT_TRUE(refused([](KvView& view) { view.layers[0].v = view.layers[0].k; }));
}

TEST(KvViewTest, BytesLeaveAbsentRowsOut) {
  const ModelSpec spec = testing::FullAttentionSpec(2, 3, 64);
  KvView view = ViewOf(spec, 100);
  EXPECT_EQ(ViewBytes(spec, view, 0, 100), 100 * TokenBytes(spec));
  view.layers[1].first_row = 40;
  EXPECT_EQ(ViewBytes(spec, view, 0, 100), (100 + 60) * LayerTokenBytes(spec, 0));
  EXPECT_EQ(ViewBytes(spec, view, 0, 30), 30 * LayerTokenBytes(spec, 0));
}

}  // namespace
}  // namespace kdn
