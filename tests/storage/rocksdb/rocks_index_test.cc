#include "storage/rocksdb/rocks_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <set>
#include <thread>

#include "kernels/base/crc32c.h"
#include "tests/storage/rocksdb/index_test_support.h"

namespace kdn {
namespace {

using testing::CopyTree;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::MakeChunk;
using testing::MakePart;
using testing::Named;
using testing::PutOf;
using testing::ReadFile;
using testing::TempDir;
using testing::WriteFile;

class RocksIndexTest : public ::testing::Test {
 protected:
  OpenedIndex Open() { return OpenAt(dir_.path()); }
  OpenedIndex OpenAt(const std::string& path) {
    auto opened = TryOpen(path);
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened.ok() ? *std::move(opened) : OpenedIndex{};
  }
  absl::StatusOr<OpenedIndex> TryOpen(const std::string& path) {
    RocksIndexOptions options;
    options.path = path;
    options.clock = &clock_;
    return OpenRocksIndex(options);
  }
  // As Open, and told that everything is there.
  std::unique_ptr<ChunkIndex> OpenRecovered() {
    OpenedIndex opened = Open();
    EXPECT_TRUE(opened.index->MarkRecovered().ok());
    return std::move(opened.index);
  }
  static std::set<std::string> Visited(ChunkIndex& index, TenantId tenant) {
    std::set<std::string> keys;
    EXPECT_TRUE(index
                    .VisitChunks(tenant, std::nullopt,
                                 [&](const ChunkKey& key, const v1::ChunkRecord&) {
                                   keys.insert(key.key.ToHex());
                                   return true;
                                 })
                    .ok());
    return keys;
  }

  testing::FakeClock clock_;
  TempDir dir_;
};

ChunkKey Key(const std::string& name, TenantId tenant = 1) { return {tenant, Named(name)}; }

TEST_F(RocksIndexTest, FreshDirectoryIsReportedAsCreatedAndEmpty) {
  OpenedIndex opened = Open();
  EXPECT_TRUE(opened.report.created);
  EXPECT_TRUE(opened.report.needs_rebuild);
  EXPECT_TRUE(opened.report.quarantined_to.empty());
  EXPECT_EQ(opened.index->Counts()->chunks, 0u);
  EXPECT_FALSE(opened.index->GetChunk(Key("a"))->has_value());
}

TEST_F(RocksIndexTest, CommittedRowsAreReadBackAfterReopening) {
  {
    auto index = OpenRecovered();
    v1::ChunkRecord record = MakeChunk("a");
    *record.add_parts() = MakePart(3, 77);
    ASSERT_TRUE(index->Commit(PutOf(Key("a"), record), Durability::kSynced).ok());
    ASSERT_TRUE(index->Close().ok());
  }
  OpenedIndex opened = Open();
  EXPECT_FALSE(opened.report.needs_rebuild);
  EXPECT_FALSE(opened.report.needs_reconcile);
  EXPECT_EQ(opened.report.reason, "");
  const auto row = opened.index->GetChunk(Key("a"));
  ASSERT_TRUE(row.ok() && row->has_value());
  EXPECT_EQ((*row)->parts(0).value_offset(), 77u);
  EXPECT_EQ(opened.index->Counts()->chunks, 1u);
}

TEST_F(RocksIndexTest, GetChunksAnswersInTheOrderAsked) {
  auto index = OpenRecovered();
  std::vector<ChunkKey> keys;
  for (int i = 0; i < 600; ++i) {
    keys.push_back(Key("row " + std::to_string(i)));
    if (i % 3 == 0) continue;
    v1::ChunkRecord record = MakeChunk(std::to_string(i));
    record.set_token_begin(static_cast<uint64_t>(i));
    ASSERT_TRUE(index->Commit(PutOf(keys.back(), record), Durability::kUnsynced).ok());
  }
  const auto rows = index->GetChunks(keys);
  ASSERT_TRUE(rows.ok());
  ASSERT_EQ(rows->size(), keys.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    ASSERT_EQ((*rows)[i].has_value(), i % 3 != 0) << i;
    if ((*rows)[i]) {
      EXPECT_EQ((*rows)[i]->token_begin(), i);
    }
  }
}

TEST_F(RocksIndexTest, RowsOfOtherTenantsAreNotVisited) {
  auto index = OpenRecovered();
  for (const TenantId tenant : {1u, 2u, 255u, 256u}) {
    ASSERT_TRUE(index->Commit(PutOf(Key("x", tenant), MakeChunk("x")), Durability::kUnsynced).ok());
  }
  for (const TenantId tenant : {1u, 2u, 255u, 256u}) EXPECT_EQ(Visited(*index, tenant).size(), 1u) << tenant;
  EXPECT_TRUE(Visited(*index, 3).empty());
}

TEST_F(RocksIndexTest, VisitContinuesAfterTheGivenKeyAndStopsWhenToldTo) {
  auto index = OpenRecovered();
  std::set<Digest> all;
  for (int i = 0; i < 20; ++i) {
    const ChunkKey key = Key(std::to_string(i));
    all.insert(key.key);
    ASSERT_TRUE(index->Commit(PutOf(key, MakeChunk(std::to_string(i))), Durability::kUnsynced).ok());
  }
  std::vector<Digest> seen;
  std::optional<Digest> after;
  while (true) {
    int page = 0;
    ASSERT_TRUE(index
                    ->VisitChunks(1, after,
                                  [&](const ChunkKey& key, const v1::ChunkRecord&) {
                                    seen.push_back(key.key);
                                    return ++page < 7;
                                  })
                    .ok());
    if (page == 0) break;
    after = seen.back();
  }
  EXPECT_EQ(seen, std::vector<Digest>(all.begin(), all.end()));
}

TEST_F(RocksIndexTest, SecondaryRowsFollowTheRecords) {
  auto index = OpenRecovered();
  const auto of_document = [&](const std::string& document) {
    std::vector<Digest> keys;
    EXPECT_TRUE(index
                    ->VisitChunksOfDocument(1, document, std::nullopt,
                                            [&](const ChunkKey& key, const v1::ChunkRecord&) {
                                              keys.push_back(key.key);
                                              return true;
                                            })
                    .ok());
    return keys;
  };
  v1::ChunkRecord first = MakeChunk("a");
  first.add_documents("manual");
  first.add_documents("letter");
  ASSERT_TRUE(index->Commit(PutOf(Key("a"), first), Durability::kUnsynced).ok());
  EXPECT_THAT(of_document("manual"), ElementsAre(Named("a")));
  v1::ChunkRecord second = first;
  second.clear_documents();
  second.add_documents("letter");
  ASSERT_TRUE(index->Commit(PutOf(Key("a"), second, first), Durability::kUnsynced).ok());
  EXPECT_TRUE(of_document("manual").empty());
  EXPECT_THAT(of_document("letter"), ElementsAre(Named("a")));
  EXPECT_TRUE(of_document("lette").empty());

  int of_model = 0;
  const auto count = [&](const ChunkKey&, const v1::ChunkRecord&) { return ++of_model > 0; };
  ASSERT_TRUE(index->VisitChunksOfModel(1, Named("model"), std::nullopt, count).ok());
  EXPECT_EQ(of_model, 1);
  IndexBatch erase;
  erase.chunk_deletes.push_back({Key("a"), second});
  ASSERT_TRUE(index->Commit(erase, Durability::kSynced).ok());
  ASSERT_TRUE(index->VisitChunksOfModel(1, Named("model"), std::nullopt, count).ok());
  EXPECT_EQ(of_model, 1);
  EXPECT_TRUE(of_document("letter").empty());
  EXPECT_FALSE(index->GetChunk(Key("a"))->has_value());
}

TEST_F(RocksIndexTest, VisitorMayChangeTheIndexAndSeesTheSnapshot) {
  auto index = OpenRecovered();
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(index->Commit(PutOf(Key(std::to_string(i)), MakeChunk("c")), Durability::kUnsynced).ok());
  }
  int visited = 0;
  ASSERT_TRUE(
      index
          ->VisitChunksOfModel(
              1, Named("model"), std::nullopt,
              [&](const ChunkKey& key, const v1::ChunkRecord& row) {
                ++visited;
                IndexBatch batch;
                batch.chunk_deletes.push_back({key, row});
                batch.chunk_puts.push_back({Key("new " + std::to_string(visited)), MakeChunk("n"), std::nullopt});
                return index->Commit(batch, Durability::kUnsynced).ok();
              })
          .ok());
  EXPECT_EQ(visited, 10);
  EXPECT_EQ(Visited(*index, 1).size(), 10u);
}

TEST_F(RocksIndexTest, CountsAreExactThroughOverwritesDeletesAndReopening) {
  auto index = OpenRecovered();
  IndexBatch batch;
  batch.chunk_puts.push_back({Key("a"), MakeChunk("a"), std::nullopt});
  batch.chunk_puts.push_back({Key("a"), MakeChunk("a"), std::nullopt});
  batch.chunk_puts.push_back({Key("b"), MakeChunk("b"), std::nullopt});
  batch.text_puts.push_back({1, Named("t"), {}});
  batch.model_puts.push_back({1, Named("m"), {}});
  ASSERT_TRUE(index->Commit(batch, Durability::kUnsynced).ok());
  ASSERT_TRUE(index->Commit(batch, Durability::kUnsynced).ok());
  IndexBatch erase;
  erase.chunk_deletes.push_back({Key("b"), MakeChunk("b")});
  erase.chunk_deletes.push_back({Key("never there"), MakeChunk("c")});
  erase.text_deletes.push_back({1, Named("never there"), {}});
  ASSERT_TRUE(index->Commit(erase, Durability::kUnsynced).ok());
  const auto check = [](ChunkIndex& opened) {
    const auto counts = opened.Counts();
    ASSERT_TRUE(counts.ok());
    EXPECT_EQ(counts->chunks, 1u);
    EXPECT_EQ(counts->texts, 1u);
    EXPECT_EQ(counts->models, 1u);
  };
  check(*index);
  // As after kill -9: without Close.
  TempDir crashed;
  ASSERT_TRUE(index->Sync().ok());
  CopyTree(dir_.path(), crashed.path());
  check(*OpenAt(crashed.path()).index);
  ASSERT_TRUE(index->Close().ok());
  index.reset();
  check(*Open().index);
}

TEST_F(RocksIndexTest, ModelsAndTextsAreReadBack) {
  auto index = OpenRecovered();
  IndexBatch batch;
  v1::ModelRecord model;
  model.set_canonical_spec("spec");
  v1::TextRecord text;
  text.add_token_ids(7);
  batch.model_puts.push_back({1, Named("m"), model});
  batch.text_puts.push_back({1, Named("t"), text});
  ASSERT_TRUE(index->Commit(batch, Durability::kSynced).ok());
  EXPECT_EQ((*index->GetModel(1, Named("m")))->canonical_spec(), "spec");
  EXPECT_EQ((*index->GetText(1, Named("t")))->token_ids(0), 7u);
  EXPECT_FALSE(index->GetModel(2, Named("m"))->has_value());
  int visited = 0;
  ASSERT_TRUE(
      index->VisitModels(1, [&](const Digest& f, const v1::ModelRecord&) { return ++visited, f == Named("m"); }).ok());
  ASSERT_TRUE(
      index->VisitTexts(1, [&](const Digest& key, const v1::TextRecord&) { return ++visited, key == Named("t"); })
          .ok());
  EXPECT_EQ(visited, 2);
  batch = {};
  batch.model_deletes.push_back({1, Named("m")});
  batch.text_deletes.push_back({1, Named("t"), text});
  ASSERT_TRUE(index->Commit(batch, Durability::kSynced).ok());
  EXPECT_FALSE(index->GetModel(1, Named("m"))->has_value());
  EXPECT_FALSE(index->GetText(1, Named("t"))->has_value());
}

TEST_F(RocksIndexTest, RecordWithoutIdentityIsRefusedAndNothingIsWritten) {
  auto index = OpenRecovered();
  IndexBatch batch = PutOf(Key("a"), MakeChunk("a"));
  batch.chunk_puts.push_back({Key("b"), v1::ChunkRecord(), std::nullopt});
  EXPECT_TRUE(absl::IsInvalidArgument(index->Commit(batch, Durability::kSynced)));
  EXPECT_FALSE(index->GetChunk(Key("a"))->has_value());
  EXPECT_EQ(index->Counts()->chunks, 0u);
}

TEST_F(RocksIndexTest, TenantKeepsItsNumberAndSecret) {
  ChunkIndex::Tenant first;
  {
    auto index = OpenRecovered();
    first = *index->GetOrCreateTenant("alpha");
    EXPECT_EQ(first.record.secret().size(), Digest::kBytes);
    const auto second = *index->GetOrCreateTenant("beta");
    EXPECT_NE(second.id, first.id);
    EXPECT_NE(second.record.secret(), first.record.secret());
    EXPECT_EQ(index->GetOrCreateTenant("alpha")->record.secret(), first.record.secret());
    ASSERT_TRUE(index->Close().ok());
  }
  auto index = OpenRecovered();
  EXPECT_EQ(index->GetOrCreateTenant("alpha")->record.secret(), first.record.secret());
  EXPECT_EQ(index->GetOrCreateTenant("alpha")->id, first.id);
  EXPECT_EQ(index->ListTenants()->size(), 2u);
}

TEST_F(RocksIndexTest, TenantsSurviveTheLossOfIndexAndOfEitherCopy) {
  std::string secret;
  {
    auto index = OpenRecovered();
    secret = index->GetOrCreateTenant("alpha")->record.secret();
    ASSERT_TRUE(index->Close().ok());
  }
  const auto mode = std::filesystem::status(dir_ / "tenants").permissions();
  EXPECT_EQ(mode & (std::filesystem::perms::group_all | std::filesystem::perms::others_all),
            std::filesystem::perms::none);
  std::filesystem::remove_all(dir_ / "index");
  for (const std::string name : {"tenants", "tenants.copy"}) {
    std::string bytes = ReadFile(dir_ / name);
    bytes[bytes.size() / 2] ^= 4;
    WriteFile(dir_ / name, bytes);
    OpenedIndex opened = Open();
    EXPECT_TRUE(opened.report.tenants_damaged);
    EXPECT_FALSE(opened.report.tenants_lost);
    EXPECT_EQ(opened.index->GetOrCreateTenant("alpha")->record.secret(), secret);
    ASSERT_TRUE(opened.index->Close().ok());
    opened.index.reset();
    std::filesystem::remove_all(dir_ / "index");
  }
}

TEST_F(RocksIndexTest, TenantsComeBackFromTheIndexWhenBothCopiesAreDamaged) {
  std::string secret;
  {
    auto index = OpenRecovered();
    secret = index->GetOrCreateTenant("alpha")->record.secret();
    ASSERT_TRUE(index->Close().ok());
  }
  WriteFile(dir_ / "tenants", "x");
  WriteFile(dir_ / "tenants.copy", "");
  {
    OpenedIndex opened = Open();
    EXPECT_TRUE(opened.report.tenants_damaged);
    EXPECT_FALSE(opened.report.tenants_lost);
    EXPECT_EQ(opened.index->GetOrCreateTenant("alpha")->record.secret(), secret);
  }
  std::filesystem::remove_all(dir_ / "index");
  EXPECT_EQ(Open().index->GetOrCreateTenant("alpha")->record.secret(), secret);
}

TEST_F(RocksIndexTest, LostTenantsAreReportedAndTheirNumbersNotGivenAgain) {
  {
    auto index = OpenRecovered();
    ASSERT_EQ(index->GetOrCreateTenant("alpha")->id, 1u);
    ASSERT_TRUE(index->Commit(PutOf(Key("a", 9), MakeChunk("a")), Durability::kSynced).ok());
    ASSERT_TRUE(index->Close().ok());
  }
  WriteFile(dir_ / "tenants", "x");
  WriteFile(dir_ / "tenants.copy", "y");
  {
    OpenedIndex opened = Open();
    EXPECT_GE(opened.index->GetOrCreateTenant("gamma")->id, 10u);
  }
  std::filesystem::remove_all(dir_ / "index");
  WriteFile(dir_ / "tenants", "x");
  WriteFile(dir_ / "tenants.copy", "y");
  EXPECT_TRUE(Open().report.tenants_lost);
}

TEST_F(RocksIndexTest, SecondOpeningIsRefusedWhileTheFirstIsOpen) {
  auto index = OpenRecovered();
  const auto second = TryOpen(dir_.path());
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  ASSERT_TRUE(index->Close().ok());
  EXPECT_TRUE(TryOpen(dir_.path()).ok());
}

TEST_F(RocksIndexTest, CallsAfterCloseAreUnavailable) {
  auto index = OpenRecovered();
  ASSERT_TRUE(index->Close().ok());
  EXPECT_TRUE(index->Close().ok());
  EXPECT_TRUE(absl::IsUnavailable(index->GetChunk(Key("a")).status()));
  EXPECT_TRUE(absl::IsUnavailable(index->Commit({}, Durability::kSynced)));
  EXPECT_TRUE(absl::IsUnavailable(index->Sync()));
  EXPECT_TRUE(absl::IsUnavailable(index->GetOrCreateTenant("x").status()));
  EXPECT_EQ(index->DiskBytes(), 0u);
}

TEST_F(RocksIndexTest, FolderWithForeignFilesIsRefusedUntouched) {
  std::filesystem::create_directories(dir_ / "index");
  WriteFile(dir_ / "index/letter.txt", "dear");
  const auto opened = TryOpen(dir_.path());
  EXPECT_TRUE(absl::IsFailedPrecondition(opened.status())) << opened.status();
  EXPECT_EQ(ReadFile(dir_ / "index/letter.txt"), "dear");
}

TEST_F(RocksIndexTest, UncleanShutdownAsksForTheNewestGroupsOnly) {
  auto index = OpenRecovered();
  std::vector<v1::ChunkRecord> rows;
  for (uint64_t group = 1; group <= 6; ++group) {
    v1::ChunkRecord record = MakeChunk(std::to_string(group));
    *record.add_parts() = MakePart(group, 0);
    ASSERT_TRUE(index->Commit(PutOf(Key(std::to_string(group)), record), Durability::kUnsynced).ok());
  }
  TempDir crashed;
  CopyTree(dir_.path(), crashed.path());
  OpenedIndex opened = OpenAt(crashed.path());
  EXPECT_FALSE(opened.report.needs_rebuild);
  EXPECT_TRUE(opened.report.needs_reconcile);
  EXPECT_EQ(opened.report.reconcile_from, 5u);
}

TEST_F(RocksIndexTest, RowOfAnOldGroupIsInATableFileWhenCommitReturns) {
  auto index = OpenRecovered();
  for (uint64_t group = 1; group <= 6; ++group) {
    v1::ChunkRecord record = MakeChunk(std::to_string(group));
    *record.add_parts() = MakePart(group, 0);
    ASSERT_TRUE(index->Commit(PutOf(Key(std::to_string(group)), record), Durability::kUnsynced).ok());
  }
  v1::ChunkRecord late = MakeChunk("late");
  *late.add_parts() = MakePart(2, 9);
  ASSERT_TRUE(index->Commit(PutOf(Key("late"), late), Durability::kUnsynced).ok());
  TempDir crashed;
  CopyTree(dir_.path(), crashed.path());
  for (const auto& entry : std::filesystem::directory_iterator(crashed / "index")) {
    if (entry.path().extension() == ".log") std::filesystem::resize_file(entry.path(), 0);
  }
  OpenedIndex opened = OpenAt(crashed.path());
  EXPECT_FALSE(opened.report.needs_rebuild) << opened.report.reason;
  EXPECT_TRUE(opened.index->GetChunk(Key("late"))->has_value());
}

TEST_F(RocksIndexTest, FutureFormatIsRefusedWithBothNumbers) {
  {
    auto index = OpenRecovered();
    ASSERT_TRUE(index->Close().ok());
  }
  std::string state = ReadFile(dir_ / "index/KDN_STATE");
  state[8] = 9;
  state.resize(state.size() - 4);
  const uint32_t crc = Crc32c(AsBytes(state));
  for (int i = 0; i < 4; ++i) state.push_back(static_cast<char>(crc >> (8 * i)));
  WriteFile(dir_ / "index/KDN_STATE", state);
  const auto opened = TryOpen(dir_.path());
  EXPECT_TRUE(absl::IsFailedPrecondition(opened.status()));
  EXPECT_THAT(std::string(FromAbsl(opened.status().message())), HasSubstr("format 9"));
  EXPECT_THAT(std::string(FromAbsl(opened.status().message())), HasSubstr("up to 1"));
}

TEST_F(RocksIndexTest, AtMostThreeQuarantinedIndexesAreKept) {
  for (int i = 0; i < 6; ++i) {
    auto index = OpenRecovered();
    ASSERT_TRUE(index->Close().ok());
    index.reset();
    std::filesystem::remove(dir_ / "index/CURRENT");
  }
  const OpenedIndex opened = Open();
  EXPECT_TRUE(opened.report.needs_rebuild);
  EXPECT_FALSE(opened.report.created);
  EXPECT_TRUE(std::filesystem::exists(opened.report.quarantined_to));
  int kept = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
    kept += entry.path().filename().string().rfind("index.quarantined-", 0) == 0;
  }
  EXPECT_EQ(kept, kMaxQuarantinedIndexes);
}

TEST_F(RocksIndexTest, InterruptedRebuildIsAskedForAgain) {
  { OpenedIndex opened = Open(); }
  EXPECT_TRUE(Open().report.needs_rebuild);
  { auto index = OpenRecovered(); }
  EXPECT_FALSE(Open().report.needs_rebuild);
}

TEST_F(RocksIndexTest, ConcurrentSyncedCommitsAndReadsAgree) {
  auto index = OpenRecovered();
  constexpr int kThreads = 4;
  constexpr int kRows = 50;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&index, t] {
      for (int i = 0; i < kRows; ++i) {
        const std::string name = std::to_string(t) + "/" + std::to_string(i);
        v1::ChunkRecord record = MakeChunk(name);
        *record.add_parts() = MakePart(static_cast<uint64_t>(i), static_cast<uint64_t>(t));
        ASSERT_TRUE(index->Commit(PutOf(Key(name), record), Durability::kSynced).ok());
        ASSERT_TRUE(index->GetChunk(Key(name))->has_value());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(index->Counts()->chunks, static_cast<uint64_t>(kThreads * kRows));
  EXPECT_EQ(Visited(*index, 1).size(), static_cast<size_t>(kThreads * kRows));
  EXPECT_TRUE(index->Compact().ok());
  EXPECT_GT(index->DiskBytes(), 0u);
}

}  // namespace
}  // namespace kdn
