#include "storage/index/part_merge.h"

#include <gtest/gtest.h>

#include "tests/storage/rocksdb/index_test_support.h"

namespace kdn {
namespace {

using testing::MakeChunk;
using testing::MakePart;

v1::ChunkRecord WithPart(const v1::PartRecord& part) {
  v1::ChunkRecord record = MakeChunk("a");
  *record.add_parts() = part;
  return record;
}

std::vector<uint32_t> Cells(const v1::PartRecord& part) {
  std::vector<uint32_t> cells;
  for (const v1::CellRecord& cell : part.cells()) cells.push_back(cell.cell());
  return cells;
}

MergeOutcome Merge(const v1::ChunkRecord& found, std::optional<v1::ChunkRecord>& row) {
  const auto outcome = MergePart(found, 64, row);
  EXPECT_TRUE(outcome.ok()) << outcome.status();
  return outcome.value_or(MergeOutcome::kUnchanged);
}

TEST(PartMergeTest, FirstPartBecomesTheRow) {
  std::optional<v1::ChunkRecord> row;
  EXPECT_EQ(Merge(WithPart(MakePart(1, 1)), row), MergeOutcome::kChanged);
  EXPECT_EQ(row->parts_size(), 1);
}

TEST(PartMergeTest, TheSameLocationChangesNothing) {
  std::optional<v1::ChunkRecord> row = WithPart(MakePart(1, 1));
  v1::ChunkRecord again = WithPart(MakePart(1, 1, {0, 1, 2}));
  again.set_pinned(true);
  EXPECT_EQ(Merge(again, row), MergeOutcome::kUnchanged);
  EXPECT_FALSE(row->pinned());
}

TEST(PartMergeTest, OtherCellsAreAddedAsAnotherPart) {
  std::optional<v1::ChunkRecord> row = WithPart(MakePart(1, 1, {0, 1}));
  EXPECT_EQ(Merge(WithPart(MakePart(2, 1, {1, 2, 3, 4})), row), MergeOutcome::kChanged);
  ASSERT_EQ(row->parts_size(), 2);
  EXPECT_EQ(Cells(row->parts(0)), (std::vector<uint32_t>{0, 1}));
  EXPECT_EQ(Cells(row->parts(1)), (std::vector<uint32_t>{2, 3, 4}));
  EXPECT_EQ(row->parts(1).raw_bytes(), 750u);
}

TEST(PartMergeTest, CellsThatAreAllThereAddNothing) {
  std::optional<v1::ChunkRecord> row = WithPart(MakePart(1, 1, {0, 1}));
  EXPECT_EQ(Merge(WithPart(MakePart(2, 1, {0})), row), MergeOutcome::kUnchanged);
  EXPECT_EQ(row->parts_size(), 1);
}

TEST(PartMergeTest, ACellWithMoreRowsReplacesTheOneWithFewer) {
  v1::ChunkRecord partial = WithPart(MakePart(1, 1, {0, 1}));
  for (auto& cell : *partial.mutable_parts(0)->mutable_cells()) cell.set_first_row(100);
  std::optional<v1::ChunkRecord> row = partial;
  EXPECT_EQ(Merge(WithPart(MakePart(2, 1, {1})), row), MergeOutcome::kChanged);
  ASSERT_EQ(row->parts_size(), 2);
  EXPECT_EQ(Cells(row->parts(0)), (std::vector<uint32_t>{0}));
  EXPECT_EQ(Cells(row->parts(1)), (std::vector<uint32_t>{1}));
  EXPECT_EQ(Merge(WithPart(MakePart(3, 1, {0})), row), MergeOutcome::kChanged);
  ASSERT_EQ(row->parts_size(), 2);
  EXPECT_EQ(row->parts(0).value_group(), 2u);
  EXPECT_EQ(row->parts(1).value_group(), 3u);
}

v1::PartRecord OfProfile(ProfileId profile, v1::PartRecord part) {
  part.set_profile(static_cast<uint32_t>(profile));
  return part;
}

TEST(PartMergeTest, PartsOfOtherLossAreVariantsWhicheverCameFirst) {
  const ProfileId profiles[] = {ProfileId::kTransform, ProfileId::kQ4, ProfileId::kInt8, ProfileId::kLossless};
  for (const bool backwards : {false, true}) {
    std::optional<v1::ChunkRecord> row;
    for (uint64_t i = 0; i < 4; ++i) {
      const ProfileId profile = profiles[backwards ? 3 - i : i];
      EXPECT_EQ(Merge(WithPart(OfProfile(profile, MakePart(1, i))), row), MergeOutcome::kChanged);
    }
    EXPECT_EQ(row->parts_size(), kLossClasses);
    for (const v1::PartRecord& part : row->parts()) EXPECT_EQ(Cells(part), (std::vector<uint32_t>{0, 1}));
    // One more of a class that is there adds nothing: raw is as exact as lossless.
    EXPECT_EQ(Merge(WithPart(OfProfile(ProfileId::kRaw, MakePart(2, 1))), row), MergeOutcome::kUnchanged);
    EXPECT_EQ(Merge(WithPart(OfProfile(ProfileId::kQ4, MakePart(2, 2))), row), MergeOutcome::kUnchanged);
  }
}

TEST(PartMergeTest, WhatReadersMustAcceptCountsNotWhatTilesSay) {
  v1::PartRecord unrotated = OfProfile(ProfileId::kLossless, MakePart(1, 1));
  unrotated.set_required_profile(static_cast<uint32_t>(ProfileId::kQ4));
  EXPECT_EQ(RequiredProfileOf(unrotated), ProfileId::kQ4);
  std::optional<v1::ChunkRecord> row = WithPart(unrotated);
  EXPECT_EQ(Merge(WithPart(OfProfile(ProfileId::kLossless, MakePart(1, 2))), row), MergeOutcome::kChanged);
  EXPECT_EQ(Merge(WithPart(OfProfile(ProfileId::kQ4, MakePart(1, 3))), row), MergeOutcome::kUnchanged);
  EXPECT_EQ(row->parts_size(), 2);
  v1::PartRecord later = MakePart(1, 4);
  later.set_profile(200);
  EXPECT_EQ(RequiredProfileOf(later), ProfileId::kTransform);
}

TEST(PartMergeTest, MoreRowsReplaceOnlyWhatLosesTheSame) {
  v1::ChunkRecord partial = WithPart(OfProfile(ProfileId::kLossless, MakePart(1, 1, {0})));
  partial.mutable_parts(0)->mutable_cells(0)->set_first_row(100);
  std::optional<v1::ChunkRecord> row = partial;
  EXPECT_EQ(Merge(WithPart(OfProfile(ProfileId::kQ4, MakePart(1, 2, {0}))), row), MergeOutcome::kChanged);
  ASSERT_EQ(row->parts_size(), 2);
  EXPECT_EQ(Merge(WithPart(OfProfile(ProfileId::kLossless, MakePart(1, 3, {0}))), row), MergeOutcome::kChanged);
  ASSERT_EQ(row->parts_size(), 2);
  EXPECT_EQ(row->parts(0).value_offset(), 2u);
  EXPECT_EQ(row->parts(1).value_offset(), 3u);
}

TEST(PartMergeTest, AnotherChunkUnderTheSameKeyIsRefused) {
  std::optional<v1::ChunkRecord> row = WithPart(MakePart(1, 1));
  v1::ChunkRecord other = WithPart(MakePart(2, 1, {5}));
  other.set_num_tokens(255);
  EXPECT_TRUE(absl::IsDataLoss(MergePart(other, 64, row).status()));
  EXPECT_EQ(row->parts_size(), 1);
}

TEST(PartMergeTest, DocumentsAreUnitedUpToTheLimitAndLifetimesTakenFromTheLater) {
  v1::ChunkRecord first = WithPart(MakePart(1, 1, {0}));
  first.add_documents("a");
  first.set_expires_ms(5);
  std::optional<v1::ChunkRecord> row = first;
  v1::ChunkRecord second = WithPart(MakePart(2, 1, {1}));
  for (const char* name : {"a", "b", "c"}) second.add_documents(name);
  second.set_expires_ms(9);
  second.set_created_ms(row->created_ms() + 7);
  ASSERT_TRUE(MergePart(second, 2, row).ok());
  EXPECT_EQ(row->documents_size(), 2);
  EXPECT_EQ(row->expires_ms(), 9);
  EXPECT_EQ(row->created_ms(), first.created_ms());
}

}  // namespace
}  // namespace kdn
