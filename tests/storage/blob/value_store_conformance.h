#ifndef KDN_TESTS_STORAGE_BLOB_VALUE_STORE_CONFORMANCE_H_
#define KDN_TESTS_STORAGE_BLOB_VALUE_STORE_CONFORMANCE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/crc32c.h"
#include "storage/blob/value_store.h"

// What every ValueStore must do, as its header promises it. An implementation's test file does
//
//   INSTANTIATE_TEST_SUITE_P(Segments, ValueStoreConformance, ::testing::Values(&MakeSegmentHarness));
//
// with a function that makes a harness over an empty directory of its own.

namespace kdn {

// Opens one directory again and again. Destroyed after the store that it opened.
class ValueStoreHarness {
 public:
  virtual ~ValueStoreHarness() = default;
  // Opens the store; the one opened before has been destroyed. Groups take about `group_bytes` before the store goes on
  // in the next one.
  virtual absl::StatusOr<std::unique_ptr<ValueStore>> Open(SyncMode sync, uint64_t group_bytes) = 0;
};

class ValueStoreConformance : public ::testing::TestWithParam<std::unique_ptr<ValueStoreHarness> (*)()> {
 protected:
  static constexpr uint64_t kGroupBytes = 4 << 20;
  static constexpr uint64_t kMaxMetadataBytes = 64 * 1024;

  void SetUp() override {
    harness_ = GetParam()();
    Reopen(SyncMode::kAlways);
  }

  void Reopen(SyncMode sync, uint64_t group_bytes = kGroupBytes) {
    store_.reset();
    auto opened = harness_->Open(sync, group_bytes);
    ASSERT_TRUE(opened.ok()) << opened.status();
    store_ = std::move(*opened);
  }

  static std::vector<uint8_t> RandomBytes(uint64_t count, uint32_t seed) {
    std::mt19937_64 random(seed);
    std::vector<uint8_t> bytes(count);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    return bytes;
  }

  static std::vector<uint8_t> Copy(ByteSpan bytes) { return {bytes.begin(), bytes.end()}; }

  // Puts and insists.
  ValueLocation MustPut(ByteSpan metadata, ByteSpan payload) {
    auto location = store_->Put(metadata, payload);
    EXPECT_TRUE(location.ok()) << location.status();
    return location.value_or(ValueLocation{});
  }

  void ExpectReads(const ValueLocation& location, ByteSpan expected) {
    const auto got = store_->Get(location, {0, location.length});
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(Copy(got->span()), Copy(expected));
  }

  struct Seen {
    ValueLocation location;
    std::vector<uint8_t> metadata;
    absl::Status status;
  };
  std::vector<Seen> ScanAll(bool verify_payload) {
    std::vector<Seen> seen;
    for (const ValueGroup& group : store_->Groups()) {
      const absl::Status scanned =
          store_->Scan(group.id, {.verify_payload = verify_payload}, [&](const ScannedValue& value) {
            seen.push_back({value.location, Copy(value.metadata), value.status});
          });
      EXPECT_TRUE(scanned.ok()) << scanned;
    }
    return seen;
  }

  std::unique_ptr<ValueStoreHarness> harness_;
  std::unique_ptr<ValueStore> store_;
};

TEST_P(ValueStoreConformance, GivesBackWhatWasPutWithItsChecksum) {
  for (const uint64_t size : {uint64_t{0}, uint64_t{4097}, uint64_t{65536}, uint64_t{5} << 20}) {
    const std::vector<uint8_t> payload = RandomBytes(size, 9);
    const auto location = store_->PutChecked(RandomBytes(10, 9), payload, Crc32c(payload));
    ASSERT_TRUE(location.ok()) << location.status();
    ExpectReads(*location, payload);
  }
}

TEST_P(ValueStoreConformance, GivesBackWhatWasPutAtEverySize) {
  const uint64_t sizes[] = {0, 1, 63, 4095, 4096, 4097, 65536, 1000001, 1 << 20, (1 << 20) + 1, 3 << 20};
  std::vector<std::pair<ValueLocation, std::vector<uint8_t>>> stored;
  uint32_t seed = 1;
  for (const uint64_t size : sizes) {
    std::vector<uint8_t> payload = RandomBytes(size, seed++);
    const ValueLocation location = MustPut(RandomBytes(seed * 7, seed), payload);
    EXPECT_EQ(location.length, size);
    stored.emplace_back(location, std::move(payload));
  }
  for (const auto& [location, payload] : stored) ExpectReads(location, payload);
}

TEST_P(ValueStoreConformance, TakesTheLargestMetadataAndRefusesMore) {
  const std::vector<uint8_t> payload = RandomBytes(5000, 1);
  ExpectReads(MustPut(RandomBytes(kMaxMetadataBytes, 2), payload), payload);
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Put(RandomBytes(kMaxMetadataBytes + 1, 3), payload).status()));
}

TEST_P(ValueStoreConformance, ReadsEveryRangeOfAValue) {
  const std::vector<uint8_t> payload = RandomBytes(300000, 1);
  const ValueLocation location = MustPut(RandomBytes(100, 2), payload);
  std::mt19937 random(3);
  std::vector<ByteRange> ranges = {{0, 0}, {300000, 0}, {0, 1}, {299999, 1}, {4096, 4096}, {4095, 2}, {1, 299999}};
  for (int i = 0; i < 50; ++i) {
    const uint64_t offset = random() % 300000;
    ranges.push_back({offset, random() % (300000 - offset + 1)});
  }
  for (const ByteRange& range : ranges) {
    const auto got = store_->Get(location, range);
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(Copy(got->span()), Copy(ByteSpan(payload).subspan(range.offset, range.length)));
  }
}

TEST_P(ValueStoreConformance, RefusesRangesOutsideThePayload) {
  const ValueLocation location = MustPut({}, RandomBytes(1000, 1));
  const ByteRange outside[] = {{0, 1001}, {1000, 1}, {1001, 0}, {UINT64_MAX, 1}, {1, UINT64_MAX}, {500, 501}};
  for (const ByteRange& range : outside) {
    EXPECT_TRUE(absl::IsOutOfRange(store_->Get(location, range).status())) << range.offset << "+" << range.length;
  }
}

TEST_P(ValueStoreConformance, NeverServesALocationThatPutDidNotReturn) {
  const std::vector<uint8_t> payload = RandomBytes(10000, 1);
  const ValueLocation first = MustPut(RandomBytes(10, 1), payload);
  MustPut(RandomBytes(10, 2), RandomBytes(20000, 2));
  std::vector<ValueLocation> wrong(8, first);
  wrong[0].length += 1;
  wrong[1].length -= 1;
  wrong[2].length = UINT64_MAX;
  wrong[3].offset += 1;
  wrong[4].offset += 4096;
  wrong[5].offset = UINT64_MAX - 4095;
  wrong[6].group += 1000;
  wrong[7].group = 0;
  for (const ValueLocation& location : wrong) {
    const auto got = store_->Get(location, {0, location.length});
    EXPECT_TRUE(absl::IsNotFound(got.status()) || absl::IsDataLoss(got.status()))
        << location.group << " " << location.offset << " " << location.length << ": " << got.status();
  }
  ExpectReads(first, payload);
}

TEST_P(ValueStoreConformance, KeepsEverythingOverACleanReopen) {
  std::vector<std::pair<ValueLocation, std::vector<uint8_t>>> stored;
  for (const SyncMode sync : {SyncMode::kAlways, SyncMode::kBatch, SyncMode::kNone}) {
    Reopen(sync);
    for (int i = 0; i < 10; ++i) {
      std::vector<uint8_t> payload = RandomBytes(200000 + i, stored.size());
      stored.emplace_back(MustPut(RandomBytes(i, i), payload), payload);
    }
    EXPECT_TRUE(store_->Close().ok());
    Reopen(sync);
    for (const auto& [location, payload] : stored) ExpectReads(location, payload);
  }
}

TEST_P(ValueStoreConformance, ScanVisitsWhatWasPutInOrderWithItsMetadata) {
  Reopen(SyncMode::kNone);
  std::vector<std::pair<ValueLocation, std::vector<uint8_t>>> put;
  for (uint32_t i = 0; i < 60; ++i) {
    std::vector<uint8_t> metadata = RandomBytes(1 + i * 100, i);
    const ValueLocation location = MustPut(metadata, RandomBytes(i * 7000, i));
    put.emplace_back(location, std::move(metadata));
  }
  const auto check = [&](bool verify_payload) {
    const std::vector<Seen> seen = ScanAll(verify_payload);
    ASSERT_EQ(seen.size(), put.size());
    for (size_t i = 0; i < seen.size(); ++i) {
      EXPECT_TRUE(seen[i].status.ok()) << seen[i].status;
      EXPECT_EQ(seen[i].location, put[i].first);
      EXPECT_EQ(seen[i].metadata, put[i].second);
    }
  };
  check(/*verify_payload=*/false);
  check(/*verify_payload=*/true);
  Reopen(SyncMode::kNone);
  check(/*verify_payload=*/true);
}

TEST_P(ValueStoreConformance, GroupsAscendWithAgeAndOnlyTheLastIsUnsealed) {
  Reopen(SyncMode::kNone);
  uint64_t last_group = 0;
  for (uint32_t i = 0; i < 40; ++i) {
    const ValueLocation location = MustPut({}, RandomBytes(500000, i));
    EXPECT_GE(location.group, last_group);
    last_group = location.group;
  }
  const std::vector<ValueGroup> groups = store_->Groups();
  ASSERT_GE(groups.size(), 3u);
  uint64_t disk_bytes = 0;
  uint64_t live_bytes = 0;
  for (size_t i = 0; i < groups.size(); ++i) {
    EXPECT_TRUE(i == 0 || groups[i - 1].id < groups[i].id) << i;
    EXPECT_TRUE(i + 1 == groups.size() || groups[i].sealed) << i;
    EXPECT_GE(groups[i].disk_bytes, groups[i].live_bytes);
    disk_bytes += groups[i].disk_bytes;
    live_bytes += groups[i].live_bytes;
  }
  EXPECT_EQ(groups.back().id, last_group);
  EXPECT_EQ(live_bytes, 40u * 500000u);
  EXPECT_EQ(store_->DiskBytes(), disk_bytes);
}

TEST_P(ValueStoreConformance, MarkDeadLowersLiveBytesOfItsGroupOnly) {
  const ValueLocation first = MustPut({}, RandomBytes(1000, 1));
  ASSERT_TRUE(store_->SealActive().ok());
  MustPut({}, RandomBytes(3000, 2));
  store_->MarkDead(first);
  const std::vector<ValueGroup> groups = store_->Groups();
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].live_bytes, 0u);
  EXPECT_EQ(groups[1].live_bytes, 3000u);
  // Dead is not gone: nothing is freed before the group is dropped.
  ExpectReads(first, RandomBytes(1000, 1));
  store_->MarkDead({.group = 12345, .offset = 0, .length = 10});
  EXPECT_EQ(store_->Groups().size(), 2u);
}

TEST_P(ValueStoreConformance, SealActiveStartsANewGroup) {
  const ValueLocation first = MustPut({}, RandomBytes(1000, 1));
  ASSERT_TRUE(store_->SealActive().ok());
  ASSERT_EQ(store_->Groups().size(), 1u);
  EXPECT_TRUE(store_->Groups()[0].sealed);
  // Nothing to seal: not an error, and no empty group appears.
  ASSERT_TRUE(store_->SealActive().ok());
  EXPECT_EQ(store_->Groups().size(), 1u);
  const ValueLocation second = MustPut({}, RandomBytes(1000, 2));
  EXPECT_GT(second.group, first.group);
  ExpectReads(first, RandomBytes(1000, 1));
  ExpectReads(second, RandomBytes(1000, 2));
}

TEST_P(ValueStoreConformance, DropGroupFreesOnlySealedGroups) {
  const std::vector<uint8_t> payload = RandomBytes(100000, 1);
  const ValueLocation dropped = MustPut({}, payload);
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->DropGroup(dropped.group)));
  ASSERT_TRUE(store_->SealActive().ok());
  const ValueLocation kept = MustPut({}, RandomBytes(1000, 2));
  const auto held = store_->Get(dropped, {0, dropped.length});
  ASSERT_TRUE(held.ok());
  const uint64_t before = store_->DiskBytes();

  ASSERT_TRUE(store_->DropGroup(dropped.group).ok());
  EXPECT_LT(store_->DiskBytes(), before);
  EXPECT_EQ(Copy(held->span()), payload);
  EXPECT_TRUE(absl::IsNotFound(store_->Get(dropped, {0, dropped.length}).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->DropGroup(dropped.group)));
  EXPECT_TRUE(absl::IsNotFound(store_->Scan(dropped.group, {}, [](const ScannedValue&) {})));
  ExpectReads(kept, RandomBytes(1000, 2));
  Reopen(SyncMode::kAlways);
  EXPECT_TRUE(absl::IsNotFound(store_->Get(dropped, {0, dropped.length}).status()));
  ExpectReads(kept, RandomBytes(1000, 2));
}

TEST_P(ValueStoreConformance, AGroupIdIsNeverUsedAgain) {
  uint64_t highest = 0;
  std::vector<ValueLocation> dropped;
  for (uint32_t round = 0; round < 4; ++round) {
    const ValueLocation location = MustPut({}, RandomBytes(5000, round));
    EXPECT_GT(location.group, highest);
    highest = location.group;
    dropped.push_back(location);
    ASSERT_TRUE(store_->SealActive().ok());
    ASSERT_TRUE(store_->DropGroup(location.group).ok());
    if (round % 2 == 1) Reopen(SyncMode::kAlways);
  }
  MustPut({}, RandomBytes(5000, 99));
  for (const ValueLocation& location : dropped) {
    EXPECT_TRUE(absl::IsNotFound(store_->Get(location, {0, location.length}).status()));
  }
}

TEST_P(ValueStoreConformance, ConcurrentWritersAndReadersSeeTheirOwnBytes) {
  constexpr int kThreads = 4;
  constexpr int kPuts = 25;
  Reopen(SyncMode::kBatch);
  std::vector<std::thread> threads;
  std::vector<int> wrong(kThreads, 0);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t, &wrong] {
      std::vector<std::pair<ValueLocation, uint32_t>> mine;
      std::mt19937 random(t);
      for (int i = 0; i < kPuts; ++i) {
        const uint32_t seed = t * 1000 + i;
        const auto location = store_->Put(RandomBytes(50, seed), RandomBytes(seed * 31, seed));
        if (!location.ok()) ++wrong[t];
        if (location.ok()) mine.emplace_back(*location, seed);
        const auto& [old, old_seed] = mine[random() % mine.size()];
        const auto got = store_->Get(old, {0, old.length});
        if (!got.ok() || Copy(got->span()) != RandomBytes(old_seed * 31, old_seed)) ++wrong[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, ::testing::Each(0));
  const std::vector<Seen> seen = ScanAll(/*verify_payload=*/true);
  EXPECT_EQ(seen.size(), size_t{kThreads} * kPuts);
  for (const Seen& value : seen) EXPECT_TRUE(value.status.ok()) << value.status;
}

TEST_P(ValueStoreConformance, ReadersOfADroppedGroupGetTheBytesOrNotFound) {
  Reopen(SyncMode::kNone, 1 << 20);
  std::vector<std::pair<ValueLocation, uint32_t>> stored;
  for (uint32_t i = 0; i < 40; ++i) stored.emplace_back(MustPut({}, RandomBytes(100000, i)), i);
  ASSERT_TRUE(store_->SealActive().ok());
  int wrong = 0;
  std::thread reader([&] {
    for (int pass = 0; pass < 5; ++pass) {
      for (const auto& [location, seed] : stored) {
        const auto got = store_->Get(location, {0, location.length});
        const bool fine = got.ok() ? Copy(got->span()) == RandomBytes(100000, seed) : absl::IsNotFound(got.status());
        if (!fine) ++wrong;
      }
    }
  });
  for (const ValueGroup& group : store_->Groups()) EXPECT_TRUE(store_->DropGroup(group.id).ok());
  reader.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(store_->Groups().empty());
}

TEST_P(ValueStoreConformance, SyncSucceedsInEveryMode) {
  for (const SyncMode sync : {SyncMode::kAlways, SyncMode::kBatch, SyncMode::kNone}) {
    Reopen(sync);
    EXPECT_TRUE(store_->Sync(0).ok());
    MustPut({}, RandomBytes(5000, 1));
    EXPECT_TRUE(store_->Sync(0).ok());
  }
}

TEST_P(ValueStoreConformance, CloseIsIdempotentAndEndsPuts) {
  MustPut({}, RandomBytes(5000, 1));
  EXPECT_TRUE(store_->Close().ok());
  EXPECT_TRUE(store_->Close().ok());
  EXPECT_TRUE(absl::IsUnavailable(store_->Put({}, RandomBytes(10, 1)).status()));
}

// Suites live in the tests of the implementations; a program with only this header has none.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ValueStoreConformance);

}  // namespace kdn

#endif  // KDN_TESTS_STORAGE_BLOB_VALUE_STORE_CONFORMANCE_H_
