#include "tests/server/core/core_fixture.h"

// Sections that code several cells together: whoever asks for one of the cells is sent them.

namespace kdn {
namespace {

using testing::ContainerRecipe;
using testing::CoreTest;
using testing::FullAttentionSpec;
using testing::IntactCells;
using testing::Share;
using testing::SlidingSpec;
using testing::TestModel;

class WideSectionStoreTest : public CoreTest {
 protected:
  void SetUp() override {
    CoreTest::SetUp();
    Register(model_);
  }

  // Layers 0 and 1 coded over all heads, layer 2 over halves of them; layer 3 narrow. Of a container that lacks heads,
  // what is coded over them is narrow.
  ContainerRecipe Recipe(uint32_t i, std::optional<CellSet> cells = std::nullopt) const {
    ContainerRecipe recipe = model_.Recipe(i);
    recipe.wide = {{0, 2, 0, 8}, {2, 1, 0, 4}, {2, 1, 4, 4}};
    recipe.cells = std::move(cells);
    return recipe;
  }
  absl::StatusOr<StoreOutcome> Put(uint32_t i, const ContainerRecipe& recipe) {
    return store_->Store(caller_, model_.Request(i), Share(model_.Container(recipe)));
  }

  // Every rank of a reader gets its cells, with every section of them intact.
  void ExpectReadable(uint32_t i, uint32_t ranks) {
    for (uint32_t rank = 0; rank < ranks; ++rank) {
      const CellSet wanted = model_.Heads(8 / ranks * rank, 8 / ranks * (rank + 1));
      const RetrievedChunk chunk = Retrieve(model_, i, wanted);
      ASSERT_FALSE(chunk.miss.has_value()) << chunk.miss_message;
      CellSet got(model_.cells.num_cells());
      for (const RetrievedPart& part : chunk.parts) {
        const CellSet intact = IntactCells(model_, part);
        for (const uint32_t cell : part.cells.ToVector()) {
          EXPECT_TRUE(intact.Contains(cell)) << "cell " << cell << " of " << ranks << " ranks";
          EXPECT_FALSE(got.Contains(cell));
          got.Insert(cell);
        }
      }
      EXPECT_EQ(got, wanted);
    }
  }

  const TestModel model_{FullAttentionSpec(4, 8, 16), 32};
};

TEST_F(WideSectionStoreTest, WhatOneRankStoredTwoAndFourAndEightRead) {
  ASSERT_EQ(*Put(0, Recipe(0)), StoreOutcome::kStored);
  for (const uint32_t ranks : {1u, 2u, 4u, 8u}) ExpectReadable(0, ranks);
  ChunkStoreOptions options = DefaultOptions();
  options.ram_tier_bytes = 64 << 20;
  Open(options);
  Register(model_);
  ASSERT_EQ(*Put(0, Recipe(0)), StoreOutcome::kStored);
  for (const uint32_t ranks : {1u, 2u, 4u, 8u}) ExpectReadable(0, ranks);
  EXPECT_EQ(values_->gets(), 0u);
}

TEST_F(WideSectionStoreTest, AReaderOfOneHeadIsSentWhatIsCodedWithItAndNoMore) {
  ASSERT_TRUE(Put(0, Recipe(0)).ok());
  const ContainerHeader header = *ParseContainerHeader(model_.Container(Recipe(0)));
  for (const uint32_t head : {0u, 3u, 5u, 7u}) {
    const CellSet wanted = model_.Heads(head, head + 1);
    uint64_t expected = header.header_bytes;
    uint32_t wide = 0;
    for (const SectionEntry& section : header.sections) {
      const bool covers = head >= section.head_begin && head - section.head_begin < section.head_count;
      if (!covers) continue;
      expected += section.length;
      wide += section.wide ? 1 : 0;
    }
    EXPECT_EQ(wide, 2u);
    const RetrievedChunk chunk = Retrieve(model_, 0, wanted);
    ASSERT_EQ(chunk.parts.size(), 1u);
    EXPECT_EQ(chunk.parts[0].cells, wanted);
    uint64_t sent = 0;
    for (const auto& slice : chunk.parts[0].slices) sent += slice.bytes.size();
    EXPECT_EQ(sent, expected) << "head " << head;
  }
}

TEST_F(WideSectionStoreTest, APartOverCellsThatAreThereProvidesTheOthersWhole) {
  ASSERT_EQ(*Put(0, Recipe(0, model_.Heads(2, 6))), StoreOutcome::kStored);
  ASSERT_EQ(*Put(0, Recipe(0)), StoreOutcome::kStored);
  const v1::ChunkRecord row = Row(0);
  ASSERT_EQ(row.parts_size(), 2);
  EXPECT_EQ(row.parts(0).cells_size(), 4);
  EXPECT_EQ(row.parts(1).cells_size(), 4);
  for (const uint32_t ranks : {1u, 2u, 4u, 8u}) ExpectReadable(0, ranks);
  // Heads 2 to 5 still come from where they came from.
  const RetrievedChunk middle = Retrieve(model_, 0, model_.Heads(2, 6));
  ASSERT_EQ(middle.parts.size(), 1u);
  EXPECT_EQ(testing::Assemble(middle.parts[0]), model_.Container(Recipe(0, model_.Heads(2, 6))));
}

TEST_F(WideSectionStoreTest, LosingAPartLosesItsCellsOnly) {
  ASSERT_EQ(*Put(0, Recipe(0)), StoreOutcome::kStored);
  const ValueLocation whole = LocationOfPart(0);
  ASSERT_EQ(*Put(1, Recipe(1, model_.Heads(0, 4))), StoreOutcome::kStored);
  ASSERT_EQ(*Put(1, Recipe(1)), StoreOutcome::kStored);
  ASSERT_EQ(Row(1).parts_size(), 2);
  values_->Corrupt(LocationOfPart(1, 1), whole.length / 2);
  values_->Corrupt(LocationOfPart(1, 1), 2000);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(Retrieve(model_, 1).miss, MissReason::kCorrupt);
  ::testing::internal::GetCapturedStderr();
  EXPECT_FALSE(Retrieve(model_, 1, model_.Heads(0, 4)).miss.has_value());
  EXPECT_EQ(Retrieve(model_, 1, model_.Heads(3, 5)).miss, MissReason::kIncomplete);
  ASSERT_EQ(*Put(1, Recipe(1)), StoreOutcome::kStored);
  for (const uint32_t ranks : {1u, 2u, 4u, 8u}) ExpectReadable(1, ranks);
}

TEST_F(WideSectionStoreTest, DivergenceIsCountedForEachCellOfTheSection) {
  ASSERT_EQ(*Put(0, Recipe(0)), StoreOutcome::kStored);
  EXPECT_EQ(*Put(0, Recipe(0)), StoreOutcome::kDeduplicated);
  EXPECT_EQ(events_["divergent_cells"], 0u);
  // The same but for the second half of layer 2.
  const std::vector<uint8_t> stored = model_.Container(Recipe(0));
  const ContainerHeader header = *ParseContainerHeader(stored);
  ContainerBuilder builder(header);
  for (const SectionEntry& section : header.sections) {
    builder.BeginSection(section);
    const bool other = section.wide && section.layer == 2 && section.head_begin == 4;
    for (const TileEntry& tile : header.TilesOf(section)) {
      const ByteSpan bytes = ByteSpan(stored).subspan(header.header_bytes + section.offset + tile.offset, tile.length);
      std::vector<uint8_t> coded(bytes.begin(), bytes.end());
      if (other) coded[0] ^= 1;
      builder.AddTile(tile.profile, coded);
    }
  }
  EXPECT_EQ(*store_->Store(caller_, model_.Request(0), Share(*std::move(builder).Finish())),
            StoreOutcome::kKeptExisting);
  EXPECT_EQ(events_["divergent_cells"], 4u);
  EXPECT_EQ(testing::Assemble(Retrieve(model_, 0).parts[0]), stored);
}

TEST_F(WideSectionStoreTest, WindowedCellsAreJudgedByTheRowsTheyAllHave) {
  const TestModel sliding(SlidingSpec(6, 16, 24), 32);
  Register(sliding);
  ContainerRecipe recipe = sliding.Recipe(0);
  recipe.wide = {{0, 5, 0, 1}};
  recipe.windowed_first_row = 16;
  ASSERT_EQ(*store_->Store(caller_, sliding.Request(0), Share(sliding.Container(recipe))), StoreOutcome::kStored);
  EXPECT_EQ(Retrieve(sliding, 0, std::nullopt, 32).miss, MissReason::kIncomplete);  // rows from 9 on
  EXPECT_FALSE(Retrieve(sliding, 0, std::nullopt, 40).miss.has_value());            // from 17 on
  recipe.windowed_first_row = 0;
  ASSERT_EQ(*store_->Store(caller_, sliding.Request(0), Share(sliding.Container(recipe))), StoreOutcome::kStored);
  EXPECT_FALSE(Retrieve(sliding, 0, std::nullopt, 32).miss.has_value());
}

TEST_F(WideSectionStoreTest, SectionsOverCellsThatTheContainerLacksAreRefused) {
  ContainerHeader header = *ParseContainerHeader(model_.Container(Recipe(0)));
  header.cells.Erase(7);
  ContainerBuilder builder(header);
  for (const SectionEntry& section : header.sections) {
    if (!section.wide && section.head_begin == 7) continue;
    builder.BeginSection(section);
    for (const TileEntry& tile : header.TilesOf(section)) {
      builder.AddTile(tile.profile, std::vector<uint8_t>(tile.length));
    }
  }
  const auto outcome = store_->Store(caller_, model_.Request(0), Share(*std::move(builder).Finish()));
  EXPECT_TRUE(absl::IsInvalidArgument(outcome.status())) << outcome.status();
  EXPECT_FALSE(HasRow(0));
}

TEST_F(WideSectionStoreTest, InspectionShowsThem) {
  ASSERT_TRUE(Put(0, Recipe(0)).ok());
  const auto details = store_->InspectChunk(caller_, TestModel::ChunkDigest(0), ChunkStore::Verify::kEveryByte);
  ASSERT_TRUE(details.ok()) << details.status();
  EXPECT_TRUE(details->verified.ok()) << details->verified;
  EXPECT_EQ(details->info.profile, ProfileId::kTransform);
  EXPECT_EQ(details->info.cells_present, 8u);
  uint32_t wide = 0;
  for (const SectionEntry& section : details->parts.at(0).header.sections) wide += section.wide ? 1 : 0;
  EXPECT_EQ(wide, 3u);
}

}  // namespace
}  // namespace kdn
