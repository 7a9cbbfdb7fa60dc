#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/base/clock.h"
#include "storage/segment/segment_store.h"
#include "tests/storage/torture/fault_file_system.h"
#include "tests/storage/torture/value_oracle.h"

// A disk that fills up or fails a flush, at every operation of a run that can meet it.

namespace kdn {
namespace {

constexpr int kValues = 14;

class SegmentFaultTest : public ::testing::Test {
 protected:
  static TestValue ValueAt(int i) {
    return {.seed = static_cast<uint64_t>(i + 1) * 7777777,
            .payload_bytes = static_cast<uint32_t>(i * 7919 % 60000),
            .metadata_bytes = static_cast<uint32_t>(i % 5 == 0 ? 6000 : 40)};
  }

  static std::unique_ptr<SegmentStore> Open(FaultFileSystem& file_system, SyncMode sync, uint64_t reserve_bytes = 0) {
    const SegmentStoreOptions options{.path = "/data/values",
                                      .segment_bytes = 128 * 1024,
                                      .allocation_bytes = 32 * 1024,
                                      .sync = sync,
                                      .sync_interval_ms = 3600 * 1000,
                                      .reserve_bytes = reserve_bytes};
    auto opened = SegmentStore::Open(options, file_system, Clock::System());
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened.ok() ? std::move(*opened) : nullptr;
  }

  absl::Status PutAt(SegmentStore& store, int i) {
    const TestValue value = ValueAt(i);
    const auto location = store.Put(MetadataOf(value), PayloadOf(value));
    if (location.ok()) stored_[i] = *location;
    return location.status();
  }

  // Everything acknowledged reads, and a scan meets it whole; `exactly`: and nothing else.
  void ExpectAllThere(SegmentStore& store, bool exactly) {
    std::map<uint64_t, int> seen;
    for (const ValueGroup& group : store.Groups()) {
      const auto visit = [&](const ScannedValue& met) {
        ASSERT_TRUE(met.status.ok()) << met.status;
        const auto value = ValueOf(met.metadata);
        ASSERT_TRUE(value.has_value());
        ++seen[value->seed];
      };
      ASSERT_TRUE(store.Scan(group.id, {.verify_payload = true}, visit).ok());
    }
    for (const auto& [i, location] : stored_) {
      ASSERT_EQ(Judge(store, location, ValueAt(i)), ReadResult::kRight) << "value " << i;
      ASSERT_GE(seen[ValueAt(i).seed], 1) << "value " << i;
    }
    ASSERT_TRUE(!exactly || seen.size() == stored_.size());
  }

  uint64_t LiveBytes(const SegmentStore& store) {
    uint64_t bytes = 0;
    for (const ValueGroup& group : store.Groups()) bytes += group.live_bytes;
    return bytes;
  }

  uint64_t StoredBytes() {
    uint64_t bytes = 0;
    for (const auto& [i, location] : stored_) bytes += location.length;
    return bytes;
  }

  std::map<int, ValueLocation> stored_;
};

TEST_F(SegmentFaultTest, AFullDiskAtEveryWriteLosesNothingAndWritingResumes) {
  FaultFileSystem undisturbed(1);
  {
    const auto store = Open(undisturbed, SyncMode::kAlways);
    for (int i = 0; i < kValues; ++i) ASSERT_TRUE(PutAt(*store, i).ok());
  }
  const uint64_t writes = undisturbed.space_operations();
  ASSERT_GT(writes, 20u);
  for (uint64_t nth = 0; nth < writes; ++nth) {
    SCOPED_TRACE(StrCat("disk full from write ", nth, " on"));
    stored_.clear();
    FaultFileSystem file_system(static_cast<uint32_t>(nth) + 2);
    auto store = Open(file_system, SyncMode::kAlways);
    file_system.FillUpAfter(nth);
    int failed = 0;
    for (int i = 0; i < kValues; ++i) {
      const absl::Status put = PutAt(*store, i);
      ASSERT_TRUE(put.ok() || absl::IsResourceExhausted(put)) << put;
      failed += put.ok() ? 0 : 1;
    }
    ASSERT_NO_FATAL_FAILURE(ExpectAllThere(*store, /*exactly=*/true));
    ASSERT_EQ(LiveBytes(*store), StoredBytes());
    file_system.Heal();
    for (int i = 0; i < kValues; ++i) {
      ASSERT_TRUE(stored_.count(i) == 1 || PutAt(*store, i).ok());
    }
    ASSERT_NO_FATAL_FAILURE(ExpectAllThere(*store, /*exactly=*/true));
    const bool orderly = nth % 2 == 0;
    ASSERT_TRUE(!orderly || store->Close().ok());
    if (!orderly) file_system.PowerOffAfter(0);
    store = nullptr;
    if (!orderly) file_system.Reboot();
    store = Open(file_system, SyncMode::kAlways);
    ASSERT_NO_FATAL_FAILURE(ExpectAllThere(*store, /*exactly=*/true));
  }
}

TEST_F(SegmentFaultTest, DroppingAGroupMakesRoomOnAFullDisk) {
  FaultFileSystem file_system(1);
  const auto store = Open(file_system, SyncMode::kAlways);
  file_system.SetCapacity(1 << 20);
  absl::Status put;
  int i = 0;
  for (; put.ok() && i < 1000; ++i) put = PutAt(*store, i);
  ASSERT_TRUE(absl::IsResourceExhausted(put)) << put;
  ASSERT_NO_FATAL_FAILURE(ExpectAllThere(*store, /*exactly=*/true));
  const uint64_t oldest = store->Groups().front().id;
  ASSERT_TRUE(store->DropGroup(oldest).ok());
  std::erase_if(stored_, [&](const auto& entry) { return entry.second.group == oldest; });
  ASSERT_TRUE(PutAt(*store, i).ok());
  ASSERT_NO_FATAL_FAILURE(ExpectAllThere(*store, /*exactly=*/true));
}

TEST_F(SegmentFaultTest, TheLastGroupCanBeDroppedOnAFullDiskAndItsIdIsKept) {
  FaultFileSystem file_system(1);
  auto store = Open(file_system, SyncMode::kAlways);
  ASSERT_TRUE(PutAt(*store, 3).ok());
  ASSERT_TRUE(store->SealActive().ok());
  file_system.SetCapacity(store->DiskBytes());
  const ValueLocation dropped = stored_[3];
  ASSERT_TRUE(store->DropGroup(dropped.group).ok());
  EXPECT_EQ(store->DiskBytes(), 0u);
  store = nullptr;
  file_system.Reboot();
  store = Open(file_system, SyncMode::kAlways);
  ASSERT_TRUE(PutAt(*store, 3).ok());
  EXPECT_GT(stored_[3].group, dropped.group);
  EXPECT_TRUE(absl::IsNotFound(store->Get(dropped, {0, dropped.length}).status()));
}

TEST_F(SegmentFaultTest, TheReserveIsLeftAlone) {
  constexpr uint64_t kCapacity = 1 << 20;
  constexpr uint64_t kReserve = 300 * 1024;
  FaultFileSystem file_system(1);
  file_system.SetCapacity(kCapacity);
  const auto store = Open(file_system, SyncMode::kNone, kReserve);
  absl::Status put;
  for (int i = 0; put.ok() && i < 1000; ++i) put = PutAt(*store, i);
  EXPECT_TRUE(absl::IsResourceExhausted(put)) << put;
  EXPECT_GE(*file_system.FreeBytes("/data/values"), kReserve);
  EXPECT_LT(*file_system.FreeBytes("/data/values"), kReserve + 64 * 1024);
  file_system.SetCapacity(2 * kCapacity);
  EXPECT_TRUE(PutAt(*store, 1).ok());
}

TEST_F(SegmentFaultTest, AFailedFlushIsReportedAndNothingAcknowledgedIsLost) {
  for (uint64_t nth = 0; nth < 24; ++nth) {
    SCOPED_TRACE(StrCat("flush ", nth, " fails"));
    stored_.clear();
    FaultFileSystem file_system(static_cast<uint32_t>(nth));
    auto store = Open(file_system, SyncMode::kAlways);
    file_system.FailSync(nth);
    int failed = 0;
    for (int i = 0; i < kValues; ++i) failed += PutAt(*store, i).ok() ? 0 : 1;
    // The flush of a seal has nobody to tell: what it covers was flushed by the Puts.
    EXPECT_LE(failed, 1);
    ASSERT_NO_FATAL_FAILURE(ExpectAllThere(*store, /*exactly=*/false));
    EXPECT_EQ(LiveBytes(*store), StoredBytes());
    file_system.PowerOffAfter(0);
    store = nullptr;
    file_system.Reboot();
    store = Open(file_system, SyncMode::kAlways);
    for (const auto& [i, location] : stored_) {
      ASSERT_EQ(Judge(*store, location, ValueAt(i)), ReadResult::kRight) << "value " << i;
    }
  }
}

TEST_F(SegmentFaultTest, NothingIsWrittenToASegmentWhoseFlushFailed) {
  FaultFileSystem file_system(1);
  const auto store = Open(file_system, SyncMode::kAlways);
  ASSERT_TRUE(PutAt(*store, 1).ok());
  file_system.FailSync(0);
  EXPECT_TRUE(absl::IsInternal(PutAt(*store, 2)));
  ASSERT_TRUE(PutAt(*store, 2).ok());
  EXPECT_GT(stored_[2].group, stored_[1].group);
  EXPECT_TRUE(store->Groups().front().sealed);
}

// Also when others have asked before: background threads do, all the time.
TEST_F(SegmentFaultTest, AFlushThatFailedIsReportedByEverySyncUntilItsGroupIsGone) {
  FaultFileSystem file_system(1);
  const auto store = Open(file_system, SyncMode::kNone);
  ASSERT_TRUE(PutAt(*store, 1).ok());
  file_system.FailSync(0);
  ASSERT_TRUE(absl::IsInternal(store->SealActive()));
  EXPECT_TRUE(absl::IsInternal(store->Sync(0)));
  EXPECT_TRUE(absl::IsInternal(store->Sync(0)));
  const uint64_t failures = store->flush_failures();
  EXPECT_EQ(failures, 1u);
  ASSERT_TRUE(PutAt(*store, 2).ok());
  EXPECT_TRUE(store->Sync(failures).ok());
  EXPECT_TRUE(absl::IsInternal(store->Sync(0)));
  ASSERT_TRUE(store->DropGroup(stored_[1].group).ok());
  EXPECT_TRUE(store->Sync(0).ok());
}

TEST_F(SegmentFaultTest, ConcurrentPutsShareFlushes) {
  constexpr int kThreads = 8;
  constexpr uint32_t kPayloadBytes = 100;
  FaultFileSystem file_system(1);
  const auto store = Open(file_system, SyncMode::kAlways);
  ASSERT_TRUE(PutAt(*store, 0).ok());
  const uint64_t before = file_system.syncs();
  file_system.HoldSyncs();
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&store, t] {
      const TestValue value{.seed = static_cast<uint64_t>(t), .payload_bytes = kPayloadBytes};
      EXPECT_TRUE(store->Put(MetadataOf(value), PayloadOf(value)).ok());
    });
  }
  // All have written; one of them is in the flush, which covers what was written when it began.
  while (LiveBytes(*store) < StoredBytes() + kThreads * kPayloadBytes) std::this_thread::yield();
  file_system.ReleaseSyncs();
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(file_system.syncs() - before, 2u);
}

TEST_F(SegmentFaultTest, ASecondStoreOnTheDirectoryIsRefused) {
  FaultFileSystem file_system(1);
  const auto store = Open(file_system, SyncMode::kNone);
  const SegmentStoreOptions options{.path = "/data/values"};
  EXPECT_TRUE(absl::IsFailedPrecondition(SegmentStore::Open(options, file_system, Clock::System()).status()));
  ASSERT_TRUE(store->Close().ok());
  EXPECT_TRUE(SegmentStore::Open(options, file_system, Clock::System()).ok());
}

TEST_F(SegmentFaultTest, FileSystemsWithoutDirectIoAreUsedVisiblyOrRefused) {
  FaultFileSystem file_system(1);
  EXPECT_TRUE(Open(file_system, SyncMode::kNone)->direct_io());
  file_system.SetDirectIo(false);
  EXPECT_FALSE(Open(file_system, SyncMode::kNone)->direct_io());
  const SegmentStoreOptions options{.path = "/data/values", .direct_io = DirectIo::kRequired};
  EXPECT_TRUE(absl::IsFailedPrecondition(SegmentStore::Open(options, file_system, Clock::System()).status()));
}

}  // namespace
}  // namespace kdn
