#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "storage/rocksdb/rocks_index.h"
#include "storage/rocksdb/rocks_value_store.h"
#include "tests/storage/rocksdb/fault_rocks_file_system.h"
#include "tests/storage/rocksdb/index_test_support.h"

// The disk fills up at every possible moment of some writing: reads go on, writes are refused with ResourceExhausted,
// and go through by themselves once there is space.

namespace kdn {
namespace {

using testing::MakeChunk;
using testing::Named;
using testing::PutOf;

constexpr int kFullAt = 12;      // numbers of the space-taking operation at which the disk is full
constexpr int kMaxRetries = 15;  // one a second by the clock

ChunkKey Key(int i) { return {1, Named(std::to_string(i))}; }

class DiskFullTest : public ::testing::Test {
 protected:
  std::unique_ptr<ChunkIndex> OpenIndex(uint64_t min_free_bytes) {
    RocksIndexOptions options;
    options.path = "/data";
    options.min_free_bytes = min_free_bytes;
    options.clock = &clock_;
    options.file_system = rocks_disk_;
    auto opened = OpenRocksIndex(options);
    EXPECT_TRUE(opened.ok()) << opened.status();
    if (!opened.ok()) return nullptr;
    EXPECT_EQ(opened->report.quarantined_to, "") << opened->report.reason;
    EXPECT_TRUE(opened->index->MarkRecovered().ok());
    return std::move(opened->index);
  }
  std::unique_ptr<ValueStore> OpenValues(SyncMode sync, uint64_t reserve_bytes) {
    RocksValueStoreOptions options;
    options.path = "/data/values-db";
    options.group_bytes = 64 * 1024;
    options.sync = sync;
    options.sync_interval_ms = 1;
    options.reserve_bytes = reserve_bytes;
    options.clock = &clock_;
    options.file_system = rocks_disk_;
    auto opened = OpenRocksValueStore(options);
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened.ok() ? std::move(opened->values) : nullptr;
  }
  template <typename Write>
  absl::Status Retry(const Write& write) {
    absl::Status status;
    for (int i = 0; i < kMaxRetries; ++i) {
      clock_.nanos += 1'100'000'000;
      status = write();
      if (status.ok()) return status;
    }
    return status;
  }

  testing::FakeClock clock_;
  FaultFileSystem disk_{1};
  std::shared_ptr<rocksdb::FileSystem> rocks_disk_ = testing::MakeFaultRocksFileSystem(disk_);
};

TEST_F(DiskFullTest, IndexRefusesCommitsReadsOnAndRecoversByItself) {
  auto index = OpenIndex(0);
  ASSERT_NE(index, nullptr);
  std::vector<int> stored;
  int next = 0;
  for (int full_at = 0; full_at < kFullAt; ++full_at) {
    SCOPED_TRACE(full_at);
    disk_.FillUpAfter(static_cast<uint64_t>(full_at));
    absl::Status committed;
    for (int i = 0; i < 2 * kFullAt && committed.ok(); ++i, ++next) {
      committed = index->Commit(PutOf(Key(next), MakeChunk("c")), Durability::kSynced);
      if (committed.ok()) stored.push_back(next);
      if (i % 5 == 4 && committed.ok()) committed = index->Compact();
    }
    EXPECT_TRUE(absl::IsResourceExhausted(committed)) << committed;
    EXPECT_TRUE(absl::IsResourceExhausted(index->Commit(PutOf(Key(-1), MakeChunk("c")), Durability::kSynced)));
    for (const int i : stored) {
      const auto row = index->GetChunk(Key(i));
      ASSERT_TRUE(row.ok() && row->has_value()) << i << row.status();
    }
    disk_.Heal();
    const absl::Status resumed =
        Retry([&] { return index->Commit(PutOf(Key(next), MakeChunk("c")), Durability::kSynced); });
    ASSERT_TRUE(resumed.ok()) << resumed;
    stored.push_back(next++);
  }
  ASSERT_TRUE(index->Close().ok());
  index = OpenIndex(0);
  ASSERT_NE(index, nullptr);
  for (const int i : stored) EXPECT_TRUE(index->GetChunk(Key(i))->has_value()) << i;
}

TEST_F(DiskFullTest, ValuesRefusePutsReadOnAndRecoverByThemselves) {
  for (const SyncMode sync : {SyncMode::kAlways, SyncMode::kBatch}) {
    auto values = OpenValues(sync, 0);
    ASSERT_NE(values, nullptr);
    const std::string payload(9000, 'v');
    std::vector<ValueLocation> stored;
    for (int full_at = 0; full_at < kFullAt; ++full_at) {
      SCOPED_TRACE(full_at);
      disk_.FillUpAfter(static_cast<uint64_t>(full_at));
      absl::Status put;
      for (int i = 0; i < 2 * kFullAt && put.ok(); ++i) {
        const auto location = values->Put(AsBytes("metadata"), AsBytes(payload));
        put = location.status();
        if (put.ok()) stored.push_back(*location);
      }
      EXPECT_TRUE(absl::IsResourceExhausted(put)) << put;
      for (const ValueLocation& location : stored) {
        const auto read = values->Get(location, {0, location.length});
        ASSERT_TRUE(read.ok()) << read.status();
        ASSERT_EQ(AsStringView(read->span()), payload);
      }
      disk_.Heal();
      const absl::Status resumed = Retry([&] {
        const auto location = values->Put(AsBytes("metadata"), AsBytes(payload));
        if (location.ok()) stored.push_back(*location);
        return location.status();
      });
      ASSERT_TRUE(resumed.ok()) << resumed;
    }
    ASSERT_TRUE(Retry([&] { return values->Sync(0); }).ok());
    ASSERT_TRUE(values->Close().ok());
    values = OpenValues(sync, 0);
    ASSERT_NE(values, nullptr);
    for (const ValueLocation& location : stored) {
      EXPECT_TRUE(values->Get(location, {0, location.length}).ok()) << location.group << " " << location.offset;
    }
  }
}

TEST_F(DiskFullTest, IndexLeavesItsReserveAloneButDeletes) {
  auto index = OpenIndex(2 << 20);
  ASSERT_NE(index, nullptr);
  ASSERT_TRUE(index->Commit(PutOf(Key(1), MakeChunk("c")), Durability::kSynced).ok());
  disk_.SetCapacity(2 << 20);
  EXPECT_TRUE(absl::IsResourceExhausted(index->Commit(PutOf(Key(2), MakeChunk("c")), Durability::kSynced)));
  EXPECT_TRUE(index->GetChunk(Key(1))->has_value());
  IndexBatch erase;
  erase.chunk_deletes.push_back({Key(1), MakeChunk("c")});
  EXPECT_TRUE(index->Commit(erase, Durability::kSynced).ok());
  EXPECT_FALSE(index->GetChunk(Key(1))->has_value());
  disk_.SetCapacity(64 << 20);
  EXPECT_TRUE(index->Commit(PutOf(Key(2), MakeChunk("c")), Durability::kSynced).ok());
}

TEST_F(DiskFullTest, ValuesLeaveTheirReserveAlone) {
  disk_.SetCapacity(4 << 20);
  auto values = OpenValues(SyncMode::kAlways, 2 << 20);
  ASSERT_NE(values, nullptr);
  const std::string payload(100'000, 'v');
  absl::Status put;
  for (int i = 0; i < 100 && put.ok(); ++i) put = values->Put({}, AsBytes(payload)).status();
  EXPECT_TRUE(absl::IsResourceExhausted(put)) << put;
  EXPECT_GE(*disk_.FreeBytes("/data"), uint64_t{1} << 20);
  disk_.SetCapacity(64 << 20);
  EXPECT_TRUE(values->Put({}, AsBytes(payload)).ok());
}

}  // namespace
}  // namespace kdn
