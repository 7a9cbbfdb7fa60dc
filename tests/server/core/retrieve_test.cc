#include <atomic>
#include <thread>

#include "tests/server/core/core_fixture.h"

namespace kdn {
namespace {

using testing::Assemble;
using testing::ContainerRecipe;
using testing::CoreTest;
using testing::FullAttentionSpec;
using testing::IntactCells;
using testing::Share;
using testing::SlidingSpec;
using testing::TestModel;

class RetrieveTest : public CoreTest {
 protected:
  void SetUp() override {
    CoreTest::SetUp();
    Register(model_);
  }
  void OpenWithRam() {
    ChunkStoreOptions options = DefaultOptions();
    options.ram_tier_bytes = 64 << 20;
    Open(options);
    Register(model_);
  }

  // Every rank of a reader gets its cells, intact.
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

TEST_F(RetrieveTest, ReturnsExactlyWhatWasStored) {
  ASSERT_TRUE(Store(model_, 0).ok());
  const RetrievedChunk chunk = Retrieve(model_, 0);
  ASSERT_EQ(chunk.parts.size(), 1u);
  EXPECT_EQ(Assemble(chunk.parts[0]), model_.Container(model_.Recipe(0)));
  EXPECT_EQ(chunk.num_tokens, 32u);
  EXPECT_FALSE(chunk.parts[0].from_ram);
  EXPECT_EQ(events_["hit_disk"], 1u);
}

TEST_F(RetrieveTest, WhatFourRanksStoredTwoAndOneAndEightRead) {
  for (uint32_t rank = 0; rank < 4; ++rank) {
    ASSERT_EQ(*StoreCells(model_, 0, model_.Heads(2 * rank, 2 * rank + 2)), StoreOutcome::kStored);
  }
  EXPECT_EQ(Row(0).parts_size(), 4);
  for (const uint32_t ranks : {1u, 2u, 4u, 8u}) ExpectReadable(0, ranks);
}

TEST_F(RetrieveTest, WhatOneAndTwoRanksStoredFourRead) {
  ASSERT_TRUE(Store(model_, 0).ok());
  ASSERT_TRUE(StoreCells(model_, 1, model_.Heads(0, 4)).ok());
  ASSERT_TRUE(StoreCells(model_, 1, model_.Heads(4, 8)).ok());
  for (const uint32_t ranks : {1u, 2u, 4u, 8u}) {
    ExpectReadable(0, ranks);
    ExpectReadable(1, ranks);
  }
}

TEST_F(RetrieveTest, RanksReadFromTheRamTierToo) {
  OpenWithRam();
  ASSERT_TRUE(Store(model_, 0).ok());
  for (uint32_t rank = 0; rank < 4; ++rank) {
    ASSERT_TRUE(StoreCells(model_, 1, model_.Heads(2 * rank, 2 * rank + 2)).ok());
  }
  for (const uint32_t ranks : {1u, 2u, 4u}) {
    ExpectReadable(0, ranks);
    ExpectReadable(1, ranks);
  }
  EXPECT_EQ(values_->gets(), 0u);
  EXPECT_EQ(events_["hit_disk"], 0u);
}

TEST_F(RetrieveTest, PartialReadSendsOnlyTheSectionsAskedFor) {
  ASSERT_TRUE(Store(model_, 0).ok());
  const RetrievedChunk chunk = Retrieve(model_, 0, model_.Heads(0, 1));
  ASSERT_EQ(chunk.parts.size(), 1u);
  uint64_t bytes = 0;
  for (const auto& slice : chunk.parts[0].slices) bytes += slice.bytes.size();
  const uint64_t body = model_.Container(model_.Recipe(0)).size() - chunk.parts[0].header_bytes;
  EXPECT_EQ(bytes, chunk.parts[0].header_bytes + body / 8);
}

TEST_F(RetrieveTest, DiskReadFillsTheRamTier) {
  ChunkStoreOptions options = DefaultOptions();
  options.ram_tier_bytes = 1 << 20;
  Open(options);
  Register(model_);
  ASSERT_TRUE(Store(model_, 0).ok());
  store_->context().ram().Remove(LocationOfPart(0));
  EXPECT_FALSE(Retrieve(model_, 0, model_.Heads(0, 4)).parts[0].from_ram);
  EXPECT_TRUE(Retrieve(model_, 0, model_.Heads(4, 8)).parts[0].from_ram);
  EXPECT_EQ(values_->gets(), 1u);
}

TEST_F(RetrieveTest, MissesSayWhy) {
  EXPECT_EQ(Retrieve(model_, 0).miss, MissReason::kAbsent);
  ASSERT_TRUE(StoreCells(model_, 0, model_.Heads(0, 4)).ok());
  EXPECT_EQ(Retrieve(model_, 0).miss, MissReason::kIncomplete);
  EXPECT_FALSE(Retrieve(model_, 0, model_.Heads(1, 3)).miss.has_value());
  const TestModel other(FullAttentionSpec(4, 8, 32), 32);
  Register(other);
  EXPECT_EQ(Retrieve(other, 0).miss, MissReason::kIncompatible);
  EXPECT_EQ(events_["miss_absent"] + events_["miss_incomplete"] + events_["miss_incompatible"], 3u);
}

TEST_F(RetrieveTest, ExpiredChunkIsAMissAndItsRowGoes) {
  StoreRequest request = model_.Request(0);
  request.ttl_ms = 50;
  ASSERT_TRUE(store_->Store(caller_, request, Share(model_.Container(model_.Recipe(0)))).ok());
  EXPECT_FALSE(Retrieve(model_, 0).miss.has_value());
  clock_.Advance(50);
  EXPECT_EQ(Retrieve(model_, 0).miss, MissReason::kExpired);
  EXPECT_FALSE(HasRow(0));
  EXPECT_EQ(*Store(model_, 0), StoreOutcome::kStored);
}

TEST_F(RetrieveTest, DamagedValueIsAMissAndCanBeStoredAgain) {
  ASSERT_TRUE(Store(model_, 0).ok());
  values_->Corrupt(LocationOfPart(0), 5000);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(Retrieve(model_, 0).miss, MissReason::kCorrupt);
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("damage found"), std::string::npos);
  EXPECT_FALSE(HasRow(0));
  EXPECT_EQ(events_["corruption_values"], 1u);
  ASSERT_EQ(*Store(model_, 0), StoreOutcome::kStored);
  EXPECT_EQ(Assemble(Retrieve(model_, 0).parts[0]), model_.Container(model_.Recipe(0)));
}

TEST_F(RetrieveTest, DamagedSectionIsFoundByAPartialRead) {
  ASSERT_TRUE(Store(model_, 0).ok());
  const uint32_t header_bytes = Row(0).parts(0).header_bytes();
  values_->Corrupt(LocationOfPart(0), header_bytes + 3);  // in the first section: layer 0, K of head 0
  EXPECT_FALSE(Retrieve(model_, 0, model_.Heads(1, 2)).miss.has_value());
  EXPECT_EQ(Retrieve(model_, 0, model_.Heads(0, 1)).miss, MissReason::kCorrupt);
}

TEST_F(RetrieveTest, DamagedHeaderIsFoundByAPartialRead) {
  ASSERT_TRUE(Store(model_, 0).ok());
  values_->Corrupt(LocationOfPart(0), 60);
  EXPECT_EQ(Retrieve(model_, 0, model_.Heads(1, 2)).miss, MissReason::kCorrupt);
}

TEST_F(RetrieveTest, DamagedPartLeavesTheOthers) {
  ASSERT_TRUE(StoreCells(model_, 0, model_.Heads(0, 4)).ok());
  ASSERT_TRUE(StoreCells(model_, 0, model_.Heads(4, 8)).ok());
  values_->Corrupt(LocationOfPart(0, 1), 5000);
  EXPECT_EQ(Retrieve(model_, 0).miss, MissReason::kCorrupt);
  EXPECT_FALSE(Retrieve(model_, 0, model_.Heads(0, 4)).miss.has_value());
  EXPECT_EQ(Retrieve(model_, 0).miss, MissReason::kIncomplete);
  ASSERT_EQ(*StoreCells(model_, 0, model_.Heads(4, 8)), StoreOutcome::kStored);
  EXPECT_FALSE(Retrieve(model_, 0).miss.has_value());
}

TEST_F(RetrieveTest, RowThatPointsToAnotherContainerIsAMiss) {
  ASSERT_TRUE(Store(model_, 0).ok());
  ASSERT_TRUE(Store(model_, 1).ok());
  v1::ChunkRecord crossed = Row(0);
  *crossed.mutable_parts(0) = Row(1).parts(0);
  index_->PutRow(KeyOf(0), crossed);
  EXPECT_EQ(Retrieve(model_, 0).miss, MissReason::kCorrupt);
}

TEST_F(RetrieveTest, ValueThatIsGoneIsAMissAndItsRowGoes) {
  ASSERT_TRUE(Store(model_, 0).ok());
  ASSERT_TRUE(values_->SealActive().ok());
  ASSERT_TRUE(values_->DropGroup(LocationOfPart(0).group).ok());
  EXPECT_EQ(Retrieve(model_, 0).miss, MissReason::kEvicted);
  EXPECT_FALSE(HasRow(0));
}

TEST_F(RetrieveTest, ReadErrorIsAMissAndTheRowStays) {
  ASSERT_TRUE(Store(model_, 0).ok());
  values_->SetGetStatus(Internal("I/O error"));
  EXPECT_EQ(Retrieve(model_, 0).miss, MissReason::kEvicted);
  values_->SetGetStatus(absl::OkStatus());
  EXPECT_FALSE(Retrieve(model_, 0).miss.has_value());
}

TEST_F(RetrieveTest, FollowsAValueThatMovedWhileItWasRead) {
  ASSERT_TRUE(Store(model_, 0).ok());
  values_->OnNextGet([this] {
    // What eviction does: append again, point the row there, drop the group.
    const ValueLocation from = LocationOfPart(0);
    ASSERT_TRUE(values_->SealActive().ok());
    const SharedBytes bytes = *values_->Get(from, {0, from.length});
    const ValueLocation to = *values_->Put({}, bytes.span());
    v1::ChunkRecord row = Row(0);
    SetLocation(to, *row.mutable_parts(0));
    index_->PutRow(KeyOf(0), row);
    ASSERT_TRUE(values_->DropGroup(from.group).ok());
  });
  const RetrievedChunk chunk = Retrieve(model_, 0);
  ASSERT_FALSE(chunk.miss.has_value()) << chunk.miss_message;
  EXPECT_EQ(Assemble(chunk.parts[0]), model_.Container(model_.Recipe(0)));
}

TEST_F(RetrieveTest, LeavesOutWindowsThatThePrefixDoesNotReach) {
  const TestModel sliding(SlidingSpec(6, 16, 48), 32);
  Register(sliding);
  for (uint32_t i = 0; i < 4; ++i) ASSERT_TRUE(Store(sliding, i).ok());
  // A prefix of 128 needs window rows from 81 on: none of chunk 0.
  const RetrievedChunk far = Retrieve(sliding, 0, std::nullopt, 128);
  ASSERT_EQ(far.parts.size(), 1u);
  for (const uint32_t cell : far.parts[0].cells.ToVector()) EXPECT_EQ(sliding.cells.BandOfCell(cell).window, 0u);
  const RetrievedChunk near = Retrieve(sliding, 3, std::nullopt, 128);
  EXPECT_EQ(near.parts[0].cells, CellSet::All(sliding.cells.num_cells()));
}

TEST_F(RetrieveTest, TooFewWindowRowsAreIncomplete) {
  const TestModel sliding(SlidingSpec(6, 16, 48), 32);
  Register(sliding);
  ContainerRecipe recipe = sliding.Recipe(1);
  recipe.windowed_first_row = 20;  // positions from 52 on
  ASSERT_TRUE(store_->Store(caller_, sliding.Request(1), Share(sliding.Container(recipe))).ok());
  EXPECT_EQ(Retrieve(sliding, 1, std::nullopt, 96).miss, MissReason::kIncomplete);  // needs 49
  EXPECT_FALSE(Retrieve(sliding, 1, std::nullopt, 100).miss.has_value());           // needs 53
  EXPECT_FALSE(Retrieve(sliding, 1).miss.has_value());                              // takes what there is
}

TEST_F(RetrieveTest, BytesOutliveEvictionFromEveryTier) {
  OpenWithRam();
  ASSERT_TRUE(Store(model_, 0).ok());
  const RetrievedChunk held = Retrieve(model_, 0);
  ASSERT_TRUE(store_->Delete(caller_, {TestModel::ChunkDigest(0), {}, {}}, DeleteMode::kDelete).ok());
  ASSERT_TRUE(values_->SealActive().ok());
  for (const ValueGroup& group : values_->Groups()) ASSERT_TRUE(values_->DropGroup(group.id).ok());
  EXPECT_EQ(Assemble(held.parts[0]), model_.Container(model_.Recipe(0)));
}

TEST_F(RetrieveTest, ClosedStoreIsUnavailable) {
  ASSERT_TRUE(Store(model_, 0).ok());
  ASSERT_TRUE(store_->Close().ok());
  EXPECT_TRUE(
      absl::IsUnavailable(store_->Retrieve(caller_, {model_.fingerprint, TestModel::ChunkDigest(0), {}, 0}).status()));
  EXPECT_TRUE(absl::IsUnavailable(Store(model_, 1).status()));
  EXPECT_TRUE(store_->Close().ok());
}

}  // namespace
}  // namespace kdn
