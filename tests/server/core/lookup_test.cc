#include <random>

#include "tests/server/core/core_fixture.h"

namespace kdn {
namespace {

using testing::ContainerRecipe;
using testing::CoreTest;
using testing::FullAttentionSpec;
using testing::RandomSpec;
using testing::Share;
using testing::SlidingSpec;
using testing::TestModel;

class LookupTest : public CoreTest {
 protected:
  const TestModel full_{FullAttentionSpec(2, 8, 16), 32};
  // 5 sliding layers and a full one; the window reaches back over one and a half chunks.
  const TestModel sliding_{SlidingSpec(6, 16, 48), 32};

  void StoreWindowed(uint32_t i, uint32_t first_row) {
    ContainerRecipe recipe = sliding_.Recipe(i);
    recipe.windowed_first_row = first_row;
    const auto outcome = store_->Store(caller_, sliding_.Request(i), Share(sliding_.Container(recipe)));
    ASSERT_TRUE(outcome.ok()) << outcome.status();
  }
  // Only the full layer's cells.
  void StoreWithoutWindows(uint32_t i) {
    CellSet cells(sliding_.cells.num_cells());
    for (const LayerBand& band : sliding_.cells.bands()) {
      if (band.window == 0) cells.Insert(band.first_cell);
    }
    ASSERT_TRUE(StoreCells(sliding_, i, cells).ok());
  }
};

TEST_F(LookupTest, CountsTheChunksFromTheFirst) {
  Register(full_);
  for (const uint32_t i : {0u, 1u, 2u, 4u}) ASSERT_TRUE(Store(full_, i).ok());
  EXPECT_EQ(HitChunks(full_, 6), 3u);
  EXPECT_EQ(HitChunks(full_, 2), 2u);
  EXPECT_EQ(HitChunks(full_, 0), 0u);
  EXPECT_EQ(events_["lookup_chunks"], 8u);
  EXPECT_EQ(events_["lookup_hit_chunks"], 5u);
}

TEST_F(LookupTest, NeedsEveryCellOfTheReader) {
  Register(full_);
  ASSERT_TRUE(Store(full_, 0).ok());
  ASSERT_TRUE(StoreCells(full_, 1, full_.Heads(0, 4)).ok());
  EXPECT_EQ(HitChunks(full_, 2), 1u);
  EXPECT_EQ(HitChunks(full_, 2, full_.Heads(0, 4)), 2u);
  EXPECT_EQ(HitChunks(full_, 2, full_.Heads(2, 6)), 1u);
}

TEST_F(LookupTest, ShortLastChunkMustMatch) {
  Register(full_);
  ASSERT_TRUE(Store(full_, 0).ok());
  ContainerRecipe recipe = full_.Recipe(1);
  recipe.num_tokens = 20;
  ASSERT_TRUE(store_->Store(caller_, full_.Request(1), Share(full_.Container(recipe))).ok());
  const std::vector<Digest> digests = {TestModel::ChunkDigest(0), TestModel::ChunkDigest(1)};
  LookupQuery query{full_.fingerprint, digests, 20, std::nullopt, LookupMode::kPrefix};
  EXPECT_EQ(store_->Lookup(caller_, query)->hit_tokens, 52u);
  query.last_chunk_tokens = 0;
  EXPECT_EQ(store_->Lookup(caller_, query)->hit_tokens, 32u);
  query.last_chunk_tokens = 19;
  EXPECT_EQ(store_->Lookup(caller_, query)->hit_tokens, 32u);
  query.last_chunk_tokens = 33;
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Lookup(caller_, query).status()));
}

TEST_F(LookupTest, ExpiredChunkEndsThePrefix) {
  Register(full_);
  ASSERT_TRUE(Store(full_, 0).ok());
  StoreRequest request = full_.Request(1);
  request.ttl_ms = 100;
  ASSERT_TRUE(store_->Store(caller_, request, Share(full_.Container(full_.Recipe(1)))).ok());
  EXPECT_EQ(HitChunks(full_, 2), 2u);
  clock_.Advance(100);
  EXPECT_EQ(HitChunks(full_, 2), 1u);
}

TEST_F(LookupTest, SlidingLayersNeedOnlyTheirWindow) {
  Register(sliding_);
  StoreWithoutWindows(0);
  StoreWithoutWindows(1);
  StoreWindowed(2, 0);
  StoreWindowed(3, 0);
  // A prefix of 4 chunks ends at 128: its window starts at 81, in chunk 2.
  EXPECT_EQ(HitChunks(sliding_, 4), 4u);
  // One of 3 ends at 96 and needs rows from 49 on, which chunk 1 does not have; 2 and 1 need theirs as well.
  EXPECT_EQ(HitChunks(sliding_, 3), 0u);
}

TEST_F(LookupTest, PartialWindowRowsSufficeWhereTheyAreNeeded) {
  Register(sliding_);
  StoreWithoutWindows(0);
  StoreWindowed(1, 16);  // holds positions 48 to 63
  StoreWindowed(2, 0);
  EXPECT_EQ(HitChunks(sliding_, 3), 3u);  // needs rows from 49 on
  Open();
  Register(sliding_);
  StoreWithoutWindows(0);
  StoreWindowed(1, 24);  // holds positions 56 to 63
  StoreWindowed(2, 0);
  EXPECT_EQ(HitChunks(sliding_, 3), 0u);
}

TEST_F(LookupTest, SlidingLookupFallsBackToAShorterPrefix) {
  Register(sliding_);
  StoreWindowed(0, 0);
  StoreWindowed(1, 0);
  StoreWithoutWindows(2);
  StoreWindowed(3, 0);
  // 4 chunks would need chunk 2's rows from 81 on, 3 chunks all of chunk 2's: 2 is what a reader can load.
  EXPECT_EQ(HitChunks(sliding_, 4), 2u);
}

// The one-pass judgement against trying every prefix and every chunk, on random models and holdings.
TEST_F(LookupTest, MatchesTheDefinitionOnRandomHoldings) {
  std::mt19937 rng(11);
  for (int round = 0; round < 60; ++round) {
    Open();
    const TestModel model(RandomSpec(rng), 16);
    Register(model);
    constexpr uint32_t kChunks = 8;
    std::vector<std::optional<v1::ChunkRecord>> rows;
    for (uint32_t i = 0; i < kChunks; ++i) {
      v1::ChunkRecord row;
      row.set_fingerprint(std::string(model.fingerprint.view()));
      row.set_kind(1);
      row.set_token_begin(uint64_t{i} * 16);
      row.set_num_tokens(16);
      v1::PartRecord& part = *row.add_parts();
      for (uint32_t cell = 0; cell < model.cells.num_cells(); ++cell) {
        const bool windowed = model.cells.BandOfCell(cell).window > 0;
        if (windowed ? rng() % 4 == 0 : rng() % 40 == 0) continue;
        v1::CellRecord& held = *part.add_cells();
        held.set_cell(cell);
        held.set_first_row(windowed && rng() % 2 == 0 ? rng() % 17 : 0);
      }
      index_->PutRow(KeyOf(i), row);
      rows.emplace_back(row);
    }
    uint32_t expected = 0;
    for (uint32_t length = 1; length <= kChunks; ++length) {
      bool loadable = true;
      for (uint32_t i = 0; i < length; ++i) {
        const std::vector<HeldCell> held = HeldCells(*rows[i], model.cells.num_cells(), std::nullopt);
        for (uint32_t cell = 0; cell < model.cells.num_cells(); ++cell) {
          const uint32_t needed = NeededRow(model.cells, cell, uint64_t{length} * 16, *rows[i]);
          loadable &= needed == 16 || (held[cell].held() && held[cell].first_row <= needed);
        }
      }
      if (loadable) expected = length;
    }
    ASSERT_EQ(HitChunks(model, kChunks), expected) << "round " << round;
  }
}

TEST_F(LookupTest, SegmentsAreJudgedOneByOne) {
  Register(full_);
  for (const uint32_t i : {0u, 2u}) {
    StoreRequest request = full_.Request(i);
    request.kind = ChunkKind::kSegment;
    request.parent_digest.reset();
    ASSERT_TRUE(store_->Store(caller_, request, Share(full_.Container(full_.Recipe(i)))).ok());
  }
  const std::vector<Digest> digests = {TestModel::ChunkDigest(0), TestModel::ChunkDigest(1), TestModel::ChunkDigest(2)};
  LookupQuery query{full_.fingerprint, digests, 0, std::nullopt, LookupMode::kSegments};
  const auto result = store_->Lookup(caller_, query);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->present, (std::vector<bool>{true, false, true}));
  EXPECT_EQ(result->hit_chunks, 2u);
  EXPECT_EQ(result->hit_tokens, 64u);
  EXPECT_EQ(HitChunks(full_, 1), 0u);  // a segment is no prefix
}

TEST_F(LookupTest, FindMissingNamesCellsAndRows) {
  Register(sliding_);
  StoreWindowed(0, 16);
  ChunkOffer all{TestModel::ChunkDigest(0), std::nullopt, {}};
  ChunkOffer newest = all;
  for (uint32_t cell = 0; cell < sliding_.cells.num_cells(); ++cell) {
    if (sliding_.cells.BandOfCell(cell).window > 0) newest.partial.push_back({cell, 16});
  }
  ChunkOffer absent{TestModel::ChunkDigest(1), std::nullopt, {}};
  const auto missing =
      store_->FindMissing(caller_, sliding_.fingerprint, std::vector<ChunkOffer>{all, newest, absent}, std::nullopt);
  ASSERT_TRUE(missing.ok());
  for (const uint32_t cell : (*missing)[0].ToVector()) EXPECT_GT(sliding_.cells.BandOfCell(cell).window, 0u);
  EXPECT_FALSE((*missing)[0].Empty());
  EXPECT_TRUE((*missing)[1].Empty());
  EXPECT_EQ((*missing)[2].Count(), sliding_.cells.num_cells());
}

TEST_F(LookupTest, FindMissingRefusesCellsTheModelDoesNotHave) {
  Register(full_);
  ChunkOffer wrong_set{TestModel::ChunkDigest(0), CellSet(full_.cells.num_cells() + 8), {}};
  EXPECT_TRUE(absl::IsInvalidArgument(
      store_->FindMissing(caller_, full_.fingerprint, std::span(&wrong_set, 1), std::nullopt).status()));
  // A bitmap on the wire says no more than how many bytes it has.
  ChunkOffer rounded{TestModel::ChunkDigest(0), CellSet(8 * ((full_.cells.num_cells() + 7) / 8)), {}};
  rounded.cells->Insert(0);
  const auto lacking = store_->FindMissing(caller_, full_.fingerprint, std::span(&rounded, 1), std::nullopt);
  ASSERT_TRUE(lacking.ok()) << lacking.status();
  EXPECT_EQ((*lacking)[0].num_cells(), full_.cells.num_cells());
  EXPECT_EQ((*lacking)[0].ToVector(), std::vector<uint32_t>{0});
  ChunkOffer wrong_cell{TestModel::ChunkDigest(0), std::nullopt, {{full_.cells.num_cells(), 0}}};
  EXPECT_TRUE(absl::IsInvalidArgument(
      store_->FindMissing(caller_, full_.fingerprint, std::span(&wrong_cell, 1), std::nullopt).status()));
}

TEST_F(LookupTest, UnknownModelIsNotFound) {
  const std::vector<Digest> digests = {TestModel::ChunkDigest(0)};
  LookupQuery query{full_.fingerprint, digests, 0, std::nullopt, LookupMode::kPrefix};
  EXPECT_TRUE(absl::IsNotFound(store_->Lookup(caller_, query).status()));
}

}  // namespace
}  // namespace kdn
