#include "storage/index/recovery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/index/value_metadata.h"
#include "tests/storage/index/limited_index.h"
#include "tests/storage/index/memory_values.h"
#include "tests/storage/rocksdb/index_test_support.h"

namespace kdn {
namespace {

using ::testing::ElementsAre;
using testing::MakeChunk;
using testing::MakePart;
using testing::Named;
using testing::PutOf;

class RecoveryTest : public ::testing::Test {
 protected:
  RecoveryTest() {
    OpenEmptyIndex();
    tenant_ = index_->GetOrCreateTenant("alpha")->id;
    options_.clock = &clock_;
  }

  // The tenants stay, the rows are gone.
  void OpenEmptyIndex() {
    index_.reset();
    std::filesystem::remove_all(dir_ / "index");
    RocksIndexOptions options;
    options.path = dir_.path();
    auto opened = OpenRocksIndex(options);
    ASSERT_TRUE(opened.ok()) << opened.status();
    index_ = std::move(opened->index);
    report_ = opened->report;
  }

  ChunkKey Key(const std::string& name) const { return {tenant_, Named(name)}; }

  // As the store does it: value, then row.
  ValueLocation Store(const std::string& name, const std::vector<uint32_t>& cells = {0}) {
    const auto previous = *index_->GetChunk(Key(name));
    v1::ChunkRecord row = previous ? *previous : MakeChunk(name);
    const ValueLocation location = PutValue(name, row, cells);
    *row.add_parts() = MakePart(location.group, location.offset, cells);
    EXPECT_TRUE(index_->Commit(PutOf(Key(name), row, previous), Durability::kUnsynced).ok());
    return location;
  }
  ValueLocation PutValue(const std::string& name, const v1::ChunkRecord& row, const std::vector<uint32_t>& cells = {0},
                         const std::string& tenant = "alpha") {
    const auto metadata = SerializeChunkMetadata(tenant, Named(name), row, MakePart(0, 0, cells));
    EXPECT_TRUE(metadata.ok()) << metadata.status();
    return *values_.Put(AsBytes(*metadata), AsBytes("payload of " + name));
  }
  void Delete(const std::string& name) {
    Deletions deletions;
    deletions.chunk_keys.push_back(Named(name));
    ASSERT_TRUE(PutTombstones(values_, "alpha", deletions).ok());
    IndexBatch batch;
    batch.chunk_deletes.push_back({Key(name), **index_->GetChunk(Key(name))});
    ASSERT_TRUE(index_->Commit(batch, Durability::kUnsynced).ok());
  }
  void PutText(const std::string& name) {
    v1::TextRecord text;
    text.set_fingerprint(std::string(Named("model").view()));
    ASSERT_TRUE(PutTextValue(values_, "alpha", Named(name), text).ok());
  }
  // Seals its group: what follows lies in a later one.
  ValueLocation PutTombstone(const Deletions& deletions) {
    EXPECT_TRUE(PutTombstones(values_, "alpha", deletions).ok());
    const ValueLocation location{values_.active, 1000 - values_.groups[values_.active].size(), 0};
    values_.SealActive().IgnoreError();
    return location;
  }
  v1::Tombstone TombstoneAt(const ValueLocation& location) {
    return ParseValueMetadata(AsBytes(values_.groups[location.group][1000 - location.offset - 1].metadata))
        ->tombstone();
  }
  // As eviction does it, with the group dropped and the copies in a group of their own.
  ValueLocation MoveAndDrop(const ValueLocation& from) {
    const auto to = MoveTombstone(values_, "alpha", TombstoneAt(from), from);
    EXPECT_TRUE(to.ok()) << to.status();
    values_.groups.erase(from.group);
    values_.SealActive().IgnoreError();
    return *to;
  }
  RecoveryStats Rebuild() {
    const auto stats = RebuildIndex(values_, *index_, options_);
    EXPECT_TRUE(stats.ok()) << stats.status();
    return stats.value_or(RecoveryStats{});
  }
  bool Has(const std::string& name) { return index_->GetChunk(Key(name))->has_value(); }

  testing::TempDir dir_;
  testing::FakeClock clock_;
  testing::MemoryValues values_;
  std::unique_ptr<ChunkIndex> index_;
  RecoveryReport report_;
  TenantId tenant_ = 0;
  RecoveryOptions options_;
};

TEST_F(RecoveryTest, EveryRowComesBackFromTheValues) {
  Store("a", {0, 1});
  values_.SealActive().IgnoreError();
  Store("a", {2});
  Store("b");
  v1::ModelRecord model;
  model.set_canonical_spec("spec");
  ASSERT_TRUE(PutModelValue(values_, "alpha", model, Named("model")).ok());
  v1::TextRecord text;
  text.set_fingerprint(std::string(Named("model").view()));
  for (uint32_t i = 0; i < 50'000; ++i) text.add_token_ids(i * 3);
  ASSERT_TRUE(PutTextValue(values_, "alpha", Named("text"), text).ok());
  const auto a = *index_->GetChunk(Key("a"));
  const auto b = *index_->GetChunk(Key("b"));

  OpenEmptyIndex();
  EXPECT_TRUE(report_.needs_rebuild);
  int calls = 0;
  options_.progress = [&](uint64_t done, uint64_t total) {
    EXPECT_EQ(done, static_cast<uint64_t>(++calls));
    EXPECT_EQ(total, 2u);
  };
  const RecoveryStats stats = Rebuild();
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(stats.chunks_put, 3u);
  EXPECT_EQ(stats.damaged, 0u);
  EXPECT_EQ((*index_->GetChunk(Key("a")))->SerializeAsString().size(), a->SerializeAsString().size());
  EXPECT_EQ((*index_->GetChunk(Key("a")))->parts_size(), 2);
  EXPECT_EQ((*index_->GetChunk(Key("b")))->parts(0).value_offset(), b->parts(0).value_offset());
  EXPECT_EQ((*index_->GetModel(tenant_, Named("model")))->canonical_spec(), "spec");
  EXPECT_EQ((*index_->GetText(tenant_, Named("text")))->token_ids_size(), 50'000);
  EXPECT_EQ(index_->Counts()->chunks, 2u);
}

TEST_F(RecoveryTest, SecondRunChangesNothing) {
  Store("a", {0});
  Store("a", {1});
  Store("b");
  Delete("b");
  Store("b");
  OpenEmptyIndex();
  Rebuild();
  const std::string a = (*index_->GetChunk(Key("a")))->SerializeAsString();
  const std::string b = (*index_->GetChunk(Key("b")))->SerializeAsString();
  const RecoveryStats again = Rebuild();
  EXPECT_EQ((*index_->GetChunk(Key("a")))->SerializeAsString(), a);
  EXPECT_EQ((*index_->GetChunk(Key("b")))->SerializeAsString(), b);
  EXPECT_EQ(index_->Counts()->chunks, 2u);
  EXPECT_EQ(again.damaged, 0u);
}

TEST_F(RecoveryTest, DeletedChunksStayDeletedAndThoseStoredAgainStay) {
  Store("deleted");
  Store("again");
  Delete("deleted");
  Delete("again");
  Store("again");
  OpenEmptyIndex();
  Rebuild();
  EXPECT_FALSE(Has("deleted"));
  EXPECT_TRUE(Has("again"));
  EXPECT_EQ((*index_->GetChunk(Key("again")))->parts_size(), 1);
}

TEST_F(RecoveryTest, DeletedModelTakesItsChunksAndTexts) {
  Store("a");
  v1::ChunkRecord other = MakeChunk("other", "other model");
  PutValue("other", other);
  v1::TextRecord text;
  text.set_fingerprint(std::string(Named("model").view()));
  ASSERT_TRUE(PutTextValue(values_, "alpha", Named("text"), text).ok());
  ASSERT_TRUE(PutModelValue(values_, "alpha", {}, Named("model")).ok());
  values_.SealActive().IgnoreError();
  Deletions deletions;
  deletions.fingerprints.push_back(Named("model"));
  ASSERT_TRUE(PutTombstones(values_, "alpha", deletions).ok());
  OpenEmptyIndex();
  const RecoveryStats stats = Rebuild();
  EXPECT_EQ(stats.deleted, 2u);
  EXPECT_FALSE(Has("a"));
  EXPECT_TRUE(Has("other"));
  EXPECT_FALSE(index_->GetText(tenant_, Named("text"))->has_value());
  EXPECT_FALSE(index_->GetModel(tenant_, Named("model"))->has_value());
}

// However much a deletion takes: an index refuses commits beyond some size, and the start would fail for good.
TEST_F(RecoveryTest, DeletionOfManyRowsIsCommittedPieceByPiece) {
  constexpr int kRows = 700;
  Deletions deletions;
  const auto put = [&](const std::string& kind, bool by_key) {
    for (int i = 0; i < kRows; ++i) {
      const std::string name = kind + std::to_string(i);
      PutText("text " + name);
      PutValue("chunk " + name, MakeChunk("chunk " + name));
      if (!by_key) continue;
      deletions.text_keys.push_back(Named("text " + name));
      deletions.chunk_keys.push_back(Named("chunk " + name));
    }
  };
  put("deleted with its model ", false);
  ASSERT_TRUE(PutModelValue(values_, "alpha", {}, Named("model")).ok());
  deletions.fingerprints.push_back(Named("model"));
  PutTombstone(deletions);
  deletions = {};
  put("deleted by key ", true);
  PutTombstone(deletions);
  PutText("kept");
  // Ended within either deletion and run again, it comes to the same.
  const uint64_t puts = 2 * kRows + 1;
  for (const uint64_t commits : {puts + 1, puts + 4, puts + 6 + 2 * kRows + 3}) {
    SCOPED_TRACE(commits);
    OpenEmptyIndex();
    testing::LimitedIndex limited(*index_);
    limited.commits_left = commits;
    EXPECT_TRUE(absl::IsUnavailable(RebuildIndex(values_, limited, options_).status()));
    limited.commits_left = UINT64_MAX;
    ASSERT_TRUE(RebuildIndex(values_, limited, options_).ok());
    EXPECT_LE(limited.most_rows, 256u);
    EXPECT_EQ(index_->Counts()->chunks, 0u);
    EXPECT_EQ(index_->Counts()->models, 0u);
    EXPECT_EQ(index_->Counts()->texts, 1u);
  }
}

TEST_F(RecoveryTest, DeletedTextStaysDeletedUnlessStoredAgain) {
  v1::TextRecord text;
  text.set_fingerprint(std::string(Named("model").view()));
  for (const char* name : {"gone", "back"}) ASSERT_TRUE(PutTextValue(values_, "alpha", Named(name), text).ok());
  Deletions deletions;
  deletions.text_keys = {Named("gone"), Named("back")};
  ASSERT_TRUE(PutTombstones(values_, "alpha", deletions).ok());
  ASSERT_TRUE(PutTextValue(values_, "alpha", Named("back"), text).ok());
  OpenEmptyIndex();
  Rebuild();
  EXPECT_FALSE(index_->GetText(tenant_, Named("gone"))->has_value());
  EXPECT_TRUE(index_->GetText(tenant_, Named("back"))->has_value());
}

// A tombstone that moves overtakes what was stored after the deletion.
TEST_F(RecoveryTest, MovedTombstoneLeavesChunksStoredAfterTheDeletion) {
  for (const char* name : {"gone", "back"}) Store(name);
  values_.SealActive().IgnoreError();
  Deletions deletions;
  deletions.chunk_keys = {Named("gone"), Named("back")};
  const ValueLocation tombstone = PutTombstone(deletions);
  const ValueLocation stored_again = PutValue("back", MakeChunk("back"));
  values_.SealActive().IgnoreError();
  const ValueLocation once = MoveAndDrop(tombstone);
  OpenEmptyIndex();
  Rebuild();
  EXPECT_FALSE(Has("gone"));
  ASSERT_TRUE(Has("back"));
  ASSERT_EQ((*index_->GetChunk(Key("back")))->parts_size(), 1);
  EXPECT_EQ((*index_->GetChunk(Key("back")))->parts(0).value_group(), stored_again.group);

  MoveAndDrop(once);  // keeps the first position
  Rebuild();
  EXPECT_TRUE(Has("back"));
  OpenEmptyIndex();
  Rebuild();
  EXPECT_FALSE(Has("gone"));
  EXPECT_TRUE(Has("back"));
}

// Deleted twice, with copies of both tombstones behind everything: what lies between them is as dead as what lies
// before.
TEST_F(RecoveryTest, LatestOfSeveralMovedTombstonesCounts) {
  std::vector<ValueLocation> tombstones;
  for (int i = 0; i < 2; ++i) {
    for (const char* name : {"gone", "back"}) PutValue(name, MakeChunk(name));
    values_.SealActive().IgnoreError();
    Deletions deletions;
    deletions.chunk_keys = {Named("gone"), Named("back")};
    tombstones.push_back(PutTombstone(deletions));
  }
  const ValueLocation stored_again = PutValue("back", MakeChunk("back"));
  values_.SealActive().IgnoreError();
  for (const ValueLocation& tombstone : tombstones) MoveAndDrop(tombstone);
  Rebuild();
  EXPECT_FALSE(Has("gone"));
  ASSERT_TRUE(Has("back"));
  ASSERT_EQ((*index_->GetChunk(Key("back")))->parts_size(), 1);
  EXPECT_EQ((*index_->GetChunk(Key("back")))->parts(0).value_group(), stored_again.group);
}

// The crash came between the move and the dropping of the group: both are there, and the order within it counts.
TEST_F(RecoveryTest, MovedTombstoneWhoseGroupIsStillThereKeepsToItsPlaceInIt) {
  for (const char* name : {"gone", "back"}) PutValue(name, MakeChunk(name));
  Deletions deletions;
  deletions.chunk_keys = {Named("gone"), Named("back")};
  ASSERT_TRUE(PutTombstones(values_, "alpha", deletions).ok());
  const ValueLocation tombstone{1, 1000 - values_.groups[1].size(), 0};
  const ValueLocation stored_again = PutValue("back", MakeChunk("back"));
  values_.SealActive().IgnoreError();
  ASSERT_TRUE(MoveTombstone(values_, "alpha", TombstoneAt(tombstone), tombstone).ok());
  Rebuild();
  EXPECT_FALSE(Has("gone"));
  ASSERT_TRUE(Has("back"));
  EXPECT_EQ((*index_->GetChunk(Key("back")))->parts(0).value_offset(), stored_again.offset);
}

// Rows of groups that are not scanned are known durable: a copy of an old tombstone says nothing about them.
TEST_F(RecoveryTest, MovedTombstoneLeavesRowsOfGroupsThatAreNotScanned) {
  Deletions deletions;
  deletions.chunk_keys.push_back(Named("back"));
  deletions.text_keys.push_back(Named("text"));
  ASSERT_TRUE(PutTombstones(values_, "alpha", deletions).ok());
  const ValueLocation tombstone{1, 1000 - values_.groups[1].size(), 0};
  Store("back");
  PutText("text");
  Rebuild();
  values_.SealActive().IgnoreError();
  ASSERT_TRUE(MoveTombstone(values_, "alpha", TombstoneAt(tombstone), tombstone).ok());
  options_.from_group = 2;
  ASSERT_TRUE(ReconcileIndex(values_, *index_, options_).ok());
  EXPECT_TRUE(Has("back"));
  EXPECT_TRUE(index_->GetText(tenant_, Named("text"))->has_value());
}

TEST_F(RecoveryTest, MovedTombstoneLeavesTextsAndModelsStoredAfterTheDeletion) {
  for (const char* name : {"gone", "back", "gone with its model", "back with its model"}) PutText(name);
  ASSERT_TRUE(PutModelValue(values_, "alpha", {}, Named("model")).ok());
  PutValue("a", MakeChunk("a"));
  PutValue("b", MakeChunk("b"));
  values_.SealActive().IgnoreError();
  Deletions deletions;
  deletions.text_keys = {Named("gone"), Named("back")};
  deletions.fingerprints.push_back(Named("model"));
  const ValueLocation tombstone = PutTombstone(deletions);
  ASSERT_TRUE(PutModelValue(values_, "alpha", {}, Named("model")).ok());
  for (const char* name : {"back", "back with its model"}) PutText(name);
  PutValue("b", MakeChunk("b"));
  values_.SealActive().IgnoreError();
  MoveAndDrop(tombstone);
  Rebuild();
  EXPECT_TRUE(index_->GetModel(tenant_, Named("model"))->has_value());
  for (const char* name : {"back", "back with its model"}) {
    EXPECT_TRUE(index_->GetText(tenant_, Named(name))->has_value()) << name;
  }
  for (const char* name : {"gone", "gone with its model"}) {
    EXPECT_FALSE(index_->GetText(tenant_, Named(name))->has_value()) << name;
  }
  EXPECT_FALSE(Has("a"));
  EXPECT_TRUE(Has("b"));
}

TEST_F(RecoveryTest, MovedTombstoneOfAModelNeverRegisteredAgainTakesItsRow) {
  ASSERT_TRUE(PutModelValue(values_, "alpha", {}, Named("model")).ok());
  values_.SealActive().IgnoreError();
  Deletions deletions;
  deletions.fingerprints.push_back(Named("model"));
  MoveAndDrop(PutTombstone(deletions));
  Rebuild();
  EXPECT_FALSE(index_->GetModel(tenant_, Named("model"))->has_value());
}

TEST_F(RecoveryTest, TombstoneThatClaimsALaterPlaceCountsWhereItLies) {
  v1::Tombstone forged;
  forged.add_chunk_keys(std::string(Named("kept").view()));
  ASSERT_TRUE(MoveTombstone(values_, "alpha", forged, {7, 0, 0}).ok());
  PutValue("kept", MakeChunk("kept"));
  Rebuild();
  EXPECT_TRUE(Has("kept"));
}

TEST_F(RecoveryTest, ExpiredDamagedAndForeignValuesAreCountedAndSkipped) {
  v1::ChunkRecord expired = MakeChunk("expired");
  expired.set_expires_ms(clock_.wall_ms - 1);
  PutValue("expired", expired);
  v1::ChunkRecord lives = MakeChunk("lives");
  lives.set_expires_ms(clock_.wall_ms + 1);
  PutValue("lives", lives);
  PutValue("stranger", MakeChunk("stranger"), {0}, "nobody");
  PutValue("damaged", MakeChunk("damaged"));
  values_.groups[1].back().damaged = true;
  ASSERT_TRUE(values_.Put(AsBytes("no protobuf"), {}).ok());
  const RecoveryStats stats = Rebuild();
  EXPECT_EQ(stats.values, 5u);
  EXPECT_EQ(stats.expired, 1u);
  EXPECT_EQ(stats.unknown_tenant, 1u);
  EXPECT_EQ(stats.damaged, 2u);
  EXPECT_EQ(stats.chunks_put, 1u);
  EXPECT_TRUE(Has("lives"));
}

TEST_F(RecoveryTest, ReconcileScansOnlyFromItsGroupAndPutsBackWhatIsMissing) {
  for (int i = 0; i < 4; ++i) {
    Store("row " + std::to_string(i));
    values_.SealActive().IgnoreError();
  }
  const ValueLocation lost = PutValue("lost", MakeChunk("lost"));
  options_.from_group = 3;
  const auto stats = ReconcileIndex(values_, *index_, options_);
  ASSERT_TRUE(stats.ok());
  EXPECT_THAT(values_.scanned, ElementsAre(3, 4, 5));
  EXPECT_EQ(stats->chunks_put, 1u);
  EXPECT_EQ(stats->dangling, 0u);
  EXPECT_EQ((*index_->GetChunk(Key("lost")))->parts(0).value_offset(), lost.offset);
}

TEST_F(RecoveryTest, ReconcileDropsPartsWhoseValueWasLost) {
  Store("kept");
  values_.SealActive().IgnoreError();
  Store("half", {0});
  values_.SealActive().IgnoreError();
  Store("half", {1});
  Store("whole");
  values_.groups.erase(3);
  options_.from_group = 2;
  const auto stats = ReconcileIndex(values_, *index_, options_);
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(stats->dangling, 2u);
  EXPECT_TRUE(Has("kept"));
  EXPECT_FALSE(Has("whole"));
  EXPECT_EQ((*index_->GetChunk(Key("half")))->parts_size(), 1);
  EXPECT_EQ(index_->Counts()->chunks, 2u);
}

TEST_F(RecoveryTest, RecoverDoesWhatTheReportAsksAndMarksIt) {
  Store("a");
  OpenEmptyIndex();
  const auto stats = RecoverIndex(values_, *index_, report_, options_);
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(stats->chunks_put, 1u);
  ASSERT_TRUE(index_->Close().ok());
  RocksIndexOptions options;
  options.path = dir_.path();
  auto reopened = OpenRocksIndex(options);
  ASSERT_TRUE(reopened.ok());
  EXPECT_FALSE(reopened->report.needs_rebuild);
  EXPECT_FALSE(reopened->report.needs_reconcile);
  values_.scanned.clear();
  ASSERT_TRUE(RecoverIndex(values_, *reopened->index, reopened->report, options_).ok());
  EXPECT_TRUE(values_.scanned.empty());
}

}  // namespace
}  // namespace kdn
