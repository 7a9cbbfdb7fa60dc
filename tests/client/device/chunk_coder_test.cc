#include "client/device/chunk_coder.h"

#include <gtest/gtest.h>

#include "tests/kernels/format/test_containers.h"
#include "tests/kernels/layout/test_specs.h"

namespace kdn {
namespace {

// Four layers of four heads: layers 0 and 1 coded over heads 0-1 and over heads 2-3, layers 2 and 3 narrow.
class IncomingContainerTest : public ::testing::Test {
 protected:
  IncomingContainer Announce(const CellSet& take) const {
    return {spec_, map_, container_, {container_.size(), header_.header_bytes, take, false}};
  }
  CellSet Heads(uint32_t begin, uint32_t end) const {
    CellSet cells(map_.num_cells());
    for (uint32_t head = begin; head < end; ++head) cells.Insert(map_.CellOf(0, head));
    return cells;
  }
  ChunkId Chunk() const {
    ChunkId chunk;
    chunk.digest = recipe_.chunk_digest;
    chunk.num_tokens = recipe_.num_tokens;
    return chunk;
  }
  IncomingContainer::Ready Advance(IncomingContainer& container, uint64_t end) const {
    return container.Advance(FingerprintOf(spec_), Chunk(), end);
  }

  const ModelSpec spec_ = testing::FullAttentionSpec(4, 4, 16);
  const CellMap map_{spec_, 32};
  const testing::ContainerRecipe recipe_ = [] {
    testing::ContainerRecipe recipe;
    recipe.num_tokens = 32;
    recipe.tile_tokens = 16;
    recipe.wide = {{0, 2, 0, 2}, {0, 2, 2, 2}};
    return recipe;
  }();
  const std::vector<uint8_t> container_ = testing::MakeContainer(spec_, map_, recipe_);
  const ContainerHeader header_ = ParseContainerHeader(container_).value();
};

// A reader of one head alone, first or not, is never done before every section of that head is there.
TEST_F(IncomingContainerTest, WaitsForEverySectionOfItsCells) {
  for (uint32_t head = 0; head < 4; ++head) {
    for (const SectionEntry& section : header_.sections) {
      const bool mine = head >= section.head_begin && head - section.head_begin < section.head_count;
      IncomingContainer container = Announce(Heads(head, head + 1));
      EXPECT_FALSE(Advance(container, header_.header_bytes).fault.has_value());
      EXPECT_EQ(container.IsTaken(section), mine);
      // All but the last byte of the section.
      const uint64_t end = header_.header_bytes + section.offset + section.length;
      Advance(container, end - 1);
      if (mine) {
        EXPECT_FALSE(container.Complete()) << "head " << head << ", section at " << section.offset;
      }
      Advance(container, container_.size());
      EXPECT_TRUE(container.Complete());
    }
  }
}

TEST_F(IncomingContainerTest, ReportsAWideSectionToReadersOfEachOfItsHeads) {
  ASSERT_TRUE(header_.sections[0].wide && header_.sections[1].wide);
  const uint64_t first_end = header_.header_bytes + header_.sections[0].length;
  const uint64_t second_end = first_end + header_.sections[1].length;
  for (uint32_t head = 0; head < 4; ++head) {
    IncomingContainer container = Announce(Heads(head, head + 1));
    const size_t mine = head < 2 ? 0 : 1;
    EXPECT_EQ(Advance(container, header_.header_bytes).last, mine) << head;  // others are passed over
    EXPECT_GT(Advance(container, mine == 0 ? first_end : second_end).last, mine) << head;
  }
}

TEST_F(IncomingContainerTest, CellsWithoutTheirCompanionsAreRefused) {
  testing::ContainerRecipe recipe = recipe_;
  recipe.cells = Heads(0, 2);
  const std::vector<uint8_t> half = testing::MakeContainer(spec_, map_, recipe);
  const uint32_t header_bytes = ParseContainerHeader(half)->header_bytes;
  IncomingContainer container(spec_, map_, half, {half.size(), header_bytes, Heads(1, 3), false});
  const auto ready = Advance(container, half.size());
  ASSERT_TRUE(ready.fault.has_value());
  EXPECT_EQ(ready.fault->reason, MissReason::kIncompatible);
}

}  // namespace
}  // namespace kdn
