#include "kernels/layout/cell_map.h"

#include <gtest/gtest.h>

#include "tests/kernels/layout/test_specs.h"

namespace kdn {
namespace {

TEST(CellMapTest, SmallModelHasOneCellPerHead) {
  const CellMap map(testing::SmolLm2Spec(), 256);
  EXPECT_EQ(map.bands().size(), 1u);
  EXPECT_EQ(map.num_cells(), 3u);
  EXPECT_EQ(map.CellOf(29, 2), 2u);
}

TEST(CellMapTest, BandsStayUnderTheRawLimit) {
  // 8 KV heads x 128, 32 layers: one head of a layer takes 128 KiB at 256 tokens, so 32 layers fill 4 MiB exactly.
  EXPECT_EQ(CellMap(testing::FullAttentionSpec(32, 8, 128), 256).bands().size(), 1u);
  const CellMap map(testing::FullAttentionSpec(80, 8, 128), 256);
  ASSERT_EQ(map.bands().size(), 3u);
  EXPECT_EQ(map.bands()[0].layers.size(), 32u);
  EXPECT_EQ(map.bands()[2].layers.size(), 16u);
  EXPECT_EQ(map.num_cells(), 24u);
  EXPECT_EQ(map.CellOf(79, 7), 23u);
  EXPECT_EQ(map.HeadOfCell(23), 7u);
  EXPECT_EQ(&map.BandOfCell(16), &map.bands()[2]);
}

TEST(CellMapTest, SlidingLayersFormBandsOfTheirOwn) {
  const CellMap map(testing::SlidingSpec(18, 256, 512), 256);
  ASSERT_EQ(map.bands().size(), 2u);
  EXPECT_EQ(map.bands()[0].window, 512u);
  EXPECT_EQ(map.bands()[0].layers.size(), 15u);
  EXPECT_EQ(map.bands()[1].layers, (std::vector<uint32_t>{5, 11, 17}));
}

TEST(CellMapTest, EveryPlaneBelongsToExactlyOneCell) {
  std::mt19937 rng(2);
  for (int i = 0; i < 200; ++i) {
    const ModelSpec spec = testing::RandomSpec(rng);
    const CellMap map(spec, 16 * (1 + rng() % 64));
    std::vector<int> planes(map.num_cells());
    for (uint32_t layer = 0; layer < spec.layers.size(); ++layer) {
      for (uint32_t head = 0; head < spec.layers[layer].num_kv_heads; ++head) {
        const uint32_t cell = map.CellOf(layer, head);
        ASSERT_LT(cell, map.num_cells());
        EXPECT_EQ(map.HeadOfCell(cell), head);
        ++planes[cell];
      }
    }
    for (uint32_t cell = 0; cell < map.num_cells(); ++cell) {
      EXPECT_EQ(planes[cell], static_cast<int>(map.BandOfCell(cell).layers.size()));
    }
  }
}

TEST(CellSetTest, BytesRoundTripAndRefuseStrayBits) {
  CellSet set(70);
  set.Insert(0);
  set.Insert(69);
  EXPECT_EQ(CellSet::FromBytes(set.ToBytes(), 70).value(), set);
  std::vector<uint8_t> stray = set.ToBytes();
  stray[8] |= 0x80;  // cell 71
  EXPECT_FALSE(CellSet::FromBytes(stray, 70).ok());
  EXPECT_FALSE(CellSet::FromBytes(set.ToBytes(), 80).ok());
  set.Erase(69);
  EXPECT_EQ(set.ToVector(), std::vector<uint32_t>{0});
  EXPECT_EQ(CellSet::All(70).Count(), 70u);
}

TEST(FirstNeededRowTest, FullAttentionNeedsEveryRow) {
  EXPECT_EQ(FirstNeededRow(AttentionKind::kFull, 0, 1000, 256, 256), 0u);
  EXPECT_EQ(FirstNeededRow(AttentionKind::kLatent, 0, 1000, 0, 256), 0u);
}

TEST(FirstNeededRowTest, SlidingWindowNeedsWhatTheNextQuerySees) {
  // The query at position 1000 sees keys at positions above 1000 - 512.
  EXPECT_EQ(FirstNeededRow(AttentionKind::kSlidingWindow, 512, 1000, 256, 256), 489u - 256);
  EXPECT_EQ(FirstNeededRow(AttentionKind::kSlidingWindow, 512, 1000, 0, 256), 256u);
  EXPECT_EQ(FirstNeededRow(AttentionKind::kSlidingWindow, 512, 1000, 512, 256), 0u);
  EXPECT_EQ(FirstNeededRow(AttentionKind::kSlidingWindow, 512, 511, 0, 256), 0u);
  EXPECT_EQ(FirstNeededRow(AttentionKind::kSlidingWindow, 512, 512, 0, 256), 1u);
}

TEST(FirstNeededRowTest, ChunkedWindowNeedsItsOwnBlock) {
  EXPECT_EQ(FirstNeededRow(AttentionKind::kChunkedWindow, 100, 350, 256, 256), 300u - 256);
  EXPECT_EQ(FirstNeededRow(AttentionKind::kChunkedWindow, 100, 300, 256, 44), 44u);
}

}  // namespace
}  // namespace kdn
