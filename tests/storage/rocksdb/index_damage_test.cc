#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "storage/index/recovery.h"
#include "storage/index/value_metadata.h"
#include "storage/rocksdb/rocks_index.h"
#include "tests/storage/index/memory_values.h"
#include "tests/storage/rocksdb/index_test_support.h"

// Damages one file of an index in every way a medium can, many times: KDN_DAMAGE_CASES of them (default 70). Whatever
// the damage, the index opens, no row is wrong, and recovery brings every row back.

namespace kdn {
namespace {

using testing::CopyTree;
using testing::MakeChunk;
using testing::MakePart;
using testing::Named;
using testing::PutOf;

constexpr int kRows = 240;
constexpr int kRowsPerGroup = 40;

// Files of one kind; the cases are spread evenly over the kinds.
constexpr std::string_view kKinds[] = {".sst", ".log", "MANIFEST-", "CURRENT", "OPTIONS-", "IDENTITY", "KDN_STATE"};

enum class Harm { kFlipBit, kTruncate, kFlipByte, kZeroTail, kDelete };

struct Original {
  testing::TempDir closed;   // after Close
  testing::TempDir crashed;  // as it was while open: logs not empty
  testing::MemoryValues values;
  std::vector<std::pair<ChunkKey, std::string>> rows;  // with their serialized record
};

std::string RowName(int i) { return "row " + std::to_string(i); }

void StoreRow(ChunkIndex& index, TenantId tenant, int i, Original& original) {
  v1::ChunkRecord row = MakeChunk(RowName(i), i % 2 == 0 ? "model a" : "model b");
  row.set_token_begin(static_cast<uint64_t>(i) * 256);
  row.add_documents("document " + std::to_string(i % 5));
  const v1::PartRecord part = MakePart(0, 0, {0, 1, 2, 3});
  const auto metadata = SerializeChunkMetadata("alpha", Named(RowName(i)), row, part);
  ASSERT_TRUE(metadata.ok());
  const ValueLocation location = *original.values.Put(AsBytes(*metadata), AsBytes(RowName(i)));
  v1::PartRecord& stored = *row.add_parts();
  stored = part;
  stored.set_value_group(location.group);
  stored.set_value_offset(location.offset);
  stored.set_value_length(location.length);
  const ChunkKey key{tenant, Named(RowName(i))};
  ASSERT_TRUE(index.Commit(PutOf(key, row), Durability::kSynced).ok());
  original.rows.emplace_back(key, row.SerializeAsString());
}

absl::StatusOr<OpenedIndex> OpenAt(const std::string& path) {
  RocksIndexOptions options;
  options.path = path;
  return OpenRocksIndex(options);
}

void Make(Original& original) {
  auto opened = OpenAt(original.closed.path());
  ASSERT_TRUE(opened.ok()) << opened.status();
  ASSERT_TRUE(opened->index->MarkRecovered().ok());
  const TenantId tenant = opened->index->GetOrCreateTenant("alpha")->id;
  for (int i = 0; i < kRows; ++i) {
    if (i % kRowsPerGroup == 0 && i != 0) original.values.SealActive().IgnoreError();
    StoreRow(*opened->index, tenant, i, original);
  }
  CopyTree(original.closed.path(), original.crashed.path());
  ASSERT_TRUE(opened->index->Close().ok());
}

// The files of that kind, in order of name.
std::vector<std::string> FilesOf(const std::string& index_dir, std::string_view kind) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(index_dir)) {
    const std::string name = entry.path().filename().string();
    if (name.find(kind) != std::string::npos && name.find("LOG") == std::string::npos) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

std::string Apply(Harm harm, const std::string& path, std::mt19937_64& random) {
  std::string bytes = testing::ReadFile(path);
  const size_t at = bytes.empty() ? 0 : random() % bytes.size();
  switch (harm) {
    case Harm::kFlipBit:
      if (!bytes.empty()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << (random() % 8)));
      break;
    case Harm::kFlipByte:
      if (!bytes.empty()) bytes[at] = static_cast<char>(bytes[at] ^ static_cast<char>(1 + random() % 255));
      break;
    case Harm::kTruncate:
      bytes.resize(at);
      break;
    case Harm::kZeroTail:
      std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes.end(), '\0');
      break;
    case Harm::kDelete:
      std::filesystem::remove(path);
      return path + " deleted";
  }
  testing::WriteFile(path, bytes);
  return StrCat(path, " harm ", static_cast<int>(harm), " at ", at, " of ", bytes.size());
}

struct Tally {
  int quarantined = 0;
  int absent_rows = 0;
};

void CheckCase(Original& original, const std::string& path, Tally& tally) {
  auto opened = OpenAt(path);
  ASSERT_TRUE(opened.ok()) << opened.status();
  tally.quarantined += !opened->report.quarantined_to.empty();
  ASSERT_FALSE(opened->report.tenants_lost);
  ChunkIndex& index = *opened->index;
  int present = 0;
  for (const auto& [key, record] : original.rows) {
    const auto row = index.GetChunk(key);
    if (!row.ok()) {
      ASSERT_TRUE(absl::IsDataLoss(row.status())) << row.status();
    } else if (row->has_value()) {
      ++present;
      ASSERT_EQ((*row)->SerializeAsString(), record);
    }
  }
  tally.absent_rows += kRows - present;
  RecoveryOptions options;
  const auto stats = RecoverIndex(original.values, index, opened->report, options);
  ASSERT_TRUE(stats.ok()) << stats.status();
  for (const auto& [key, record] : original.rows) {
    const auto row = index.GetChunk(key);
    ASSERT_TRUE(row.ok() && row->has_value())
        << row.status() << " reason: " << opened->report.reason << " rebuild " << opened->report.needs_rebuild
        << " reconcile from " << opened->report.reconcile_from;
    ASSERT_EQ((*row)->SerializeAsString(), record);
  }
  EXPECT_EQ(index.Counts()->chunks, static_cast<uint64_t>(kRows));
  int of_documents = 0;
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(index
                    .VisitChunksOfDocument(original.rows[0].first.tenant, "document " + std::to_string(i), std::nullopt,
                                           [&](const ChunkKey&, const v1::ChunkRecord&) { return ++of_documents > 0; })
                    .ok());
  }
  EXPECT_EQ(of_documents, kRows);
}

TEST(IndexDamageTest, EveryDamageOpensAndEveryRowComesBack) {
  const char* wanted = std::getenv("KDN_DAMAGE_CASES");
  const int cases = wanted != nullptr ? std::atoi(wanted) : 70;
  Original original;
  Make(original);
  if (HasFatalFailure()) return;
  Tally tally;
  int done = 0;
  for (int seed = 0; done < cases && seed < 2 * cases; ++seed) {
    std::mt19937_64 random(static_cast<uint64_t>(seed));
    testing::TempDir copy;
    CopyTree((seed & 1) != 0 ? original.closed.path() : original.crashed.path(), copy.path());
    const std::string_view kind = kKinds[static_cast<size_t>(seed / 2) % std::size(kKinds)];
    const std::vector<std::string> files = FilesOf(copy / "index", kind);
    if (files.empty()) continue;
    const Harm harm = static_cast<Harm>(random() % 8 < 4 ? 0 : 1 + random() % 4);
    const std::string what = Apply(harm, files[random() % files.size()], random);
    SCOPED_TRACE(StrCat("seed ", seed, ": ", what, (seed & 1) != 0 ? " (closed)" : " (crashed)"));
    CheckCase(original, copy.path(), tally);
    if (HasFatalFailure()) return;
    ++done;
  }
  EXPECT_EQ(done, cases);
  std::printf("%d damaged indexes: %d moved aside, %d rows absent before recovery\n", done, tally.quarantined,
              tally.absent_rows);
}

}  // namespace
}  // namespace kdn
