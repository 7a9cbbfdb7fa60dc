#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/base/clock.h"
#include "storage/segment/segment_store.h"
#include "tests/storage/torture/fault_file_system.h"
#include "tests/storage/torture/value_oracle.h"

// Power failures and kills at random points of random writing, against an oracle of what was acknowledged. The number
// of seeds per mode comes from the environment (KDN_TORTURE_SEEDS), so that the same program runs short and long.

namespace kdn {
namespace {

constexpr int kCycles = 3;
constexpr int kPutsPerThread = 12;

int SeedsPerMode() {
  const char* text = std::getenv("KDN_TORTURE_SEEDS");
  return text == nullptr ? 12 : std::atoi(text);
}

class CrashWorld {
 public:
  CrashWorld(SyncMode sync, uint32_t seed) : sync_(sync), random_(seed), file_system_(seed * 7919 + 1) {
    file_system_.SetDirectIo(seed % 4 != 3);
  }

  // One life of the process: open, check, write, die.
  void RunCycle() {
    ASSERT_NO_FATAL_FAILURE(OpenAndCheck());
    file_system_.PowerOffAfter(random_() % 150);
    const int threads = random_() % 3 == 0 ? 1 : 3;
    std::vector<std::thread> writers;
    for (int i = 0; i < threads; ++i) {
      writers.emplace_back([this, seed = static_cast<uint32_t>(random_())] { WriteSome(seed); });
    }
    for (std::thread& writer : writers) writer.join();
    // Where the power still holds, an orderly close is one more thing to be cut short.
    if (random_() % 4 == 0) store_->Close().IgnoreError();
    file_system_.PowerOffAfter(0);
    store_.reset();
    if (random_() % 3 != 0) {
      file_system_.Reboot();
    } else {
      // kill -9: what was acknowledged has left the process, in every mode.
      file_system_.KillProcess();
      for (auto& [seed, entry] : entries_) entry.must_exist = entry.must_exist || entry.written_in == life_;
    }
    ++life_;
  }

  void OpenAndCheck() {
    const SegmentStoreOptions options{.path = "/data/values",
                                      .segment_bytes = 256 * 1024,
                                      .allocation_bytes = 64 * 1024,
                                      .sync = sync_,
                                      .sync_interval_ms = 1,
                                      .random = [this] { return uint64_t{0x5eed0000} + ++nonce_; }};
    auto opened = SegmentStore::Open(options, file_system_, Clock::System());
    ASSERT_TRUE(opened.ok()) << opened.status();
    store_ = std::move(*opened);
    const std::set<uint64_t> scanned = CheckScan();
    for (auto& [seed, entry] : entries_) {
      const ReadResult result = Judge(*store_, entry.location, entry.value);
      EXPECT_NE(result, ReadResult::kWrong) << "value " << seed;
      const bool there = result == ReadResult::kRight && scanned.count(seed) == 1;
      EXPECT_TRUE(there || !entry.must_exist) << "acknowledged value " << seed << " is lost";
      // What recovery kept is durable from now on.
      entry.must_exist = there;
      entry.lost = !there;
    }
  }

 private:
  struct Entry {
    TestValue value;
    ValueLocation location;
    int written_in = 0;  // life of the process
    bool must_exist = false;
    bool lost = false;  // missed once: may never come back as other bytes, but need not come back
  };

  void WriteSome(uint32_t seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < kPutsPerThread; ++i) {
      const TestValue value{
          .seed = (uint64_t{seed} << 16) + i,
          .payload_bytes = static_cast<uint32_t>(random() % 4 == 0 ? random() % 150000 : random() % 9000),
          .metadata_bytes = static_cast<uint32_t>(16 + (random() % 6 == 0 ? random() % 9000 : 80))};
      const auto location = store_->Put(MetadataOf(value), PayloadOf(value));
      if (!location.ok()) continue;
      {
        absl::MutexLock lock(&mu_);
        // The other threads may have dropped its group meanwhile.
        const bool dropped = dropped_.count(location->group) > 0;
        entries_[value.seed] = {.value = value,
                                .location = *location,
                                .written_in = dropped ? -1 : life_,
                                .must_exist = !dropped && sync_ == SyncMode::kAlways};
      }
      if (random() % 5 == 0) SyncAll();
      if (random() % 40 == 0) DropOldest();
    }
  }

  // Everything acknowledged before a Sync that succeeds must survive in every mode.
  void SyncAll() {
    std::vector<uint64_t> before;
    {
      absl::MutexLock lock(&mu_);
      for (const auto& [seed, entry] : entries_) {
        if (!entry.lost) before.push_back(seed);
      }
    }
    if (!store_->Sync(0).ok()) return;
    absl::MutexLock lock(&mu_);
    for (const uint64_t seed : before) {
      if (dropped_.count(entries_[seed].location.group) == 0) entries_[seed].must_exist = true;
    }
  }

  void DropOldest() {
    absl::MutexLock lock(&mu_);
    const std::vector<ValueGroup> groups = store_->Groups();
    if (groups.empty() || !groups.front().sealed) return;
    const uint64_t group = groups.front().id;
    // Also when the drop fails: the power may have gone between the removal and the answer.
    dropped_.insert(group);
    for (auto& [seed, entry] : entries_) {
      if (entry.location.group != group) continue;
      entry.must_exist = false;
      entry.written_in = -1;
    }
    store_->DropGroup(group).IgnoreError();
  }

  // What a scan meets: no value that is not one, none twice.
  std::set<uint64_t> CheckScan() {
    std::set<uint64_t> seen;
    for (const ValueGroup& group : store_->Groups()) {
      uint64_t last_offset = 0;
      const absl::Status scanned = store_->Scan(group.id, {.verify_payload = true}, [&](const ScannedValue& scanned) {
        EXPECT_GT(scanned.location.offset, last_offset);
        last_offset = scanned.location.offset;
        if (!scanned.status.ok()) {
          EXPECT_TRUE(absl::IsDataLoss(scanned.status)) << scanned.status;
          return;
        }
        const auto value = ValueOf(scanned.metadata);
        ASSERT_TRUE(value.has_value());
        EXPECT_EQ(Judge(*store_, scanned.location, *value), ReadResult::kRight);
        EXPECT_TRUE(seen.insert(value->seed).second) << "value " << value->seed << " twice";
      });
      EXPECT_TRUE(scanned.ok()) << scanned;
    }
    return seen;
  }

  const SyncMode sync_;
  std::mt19937 random_;
  FaultFileSystem file_system_;
  uint64_t nonce_ = 0;
  std::unique_ptr<SegmentStore> store_;

  absl::Mutex mu_;
  std::map<uint64_t, Entry> entries_ ABSL_GUARDED_BY(mu_);
  std::set<uint64_t> dropped_ ABSL_GUARDED_BY(mu_);
  int life_ = 0;
};

class SegmentCrashTest : public ::testing::TestWithParam<SyncMode> {};

TEST_P(SegmentCrashTest, LosesNothingAcknowledgedAndServesNoWrongByte) {
  for (int seed = 0; seed < SeedsPerMode(); ++seed) {
    SCOPED_TRACE(seed);
    CrashWorld world(GetParam(), static_cast<uint32_t>(seed));
    for (int cycle = 0; cycle < kCycles; ++cycle) {
      ASSERT_NO_FATAL_FAILURE(world.RunCycle());
      ASSERT_FALSE(::testing::Test::HasFailure());
    }
    ASSERT_NO_FATAL_FAILURE(world.OpenAndCheck());
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

INSTANTIATE_TEST_SUITE_P(Always, SegmentCrashTest, ::testing::Values(SyncMode::kAlways));
INSTANTIATE_TEST_SUITE_P(Batch, SegmentCrashTest, ::testing::Values(SyncMode::kBatch));
INSTANTIATE_TEST_SUITE_P(None, SegmentCrashTest, ::testing::Values(SyncMode::kNone));

}  // namespace
}  // namespace kdn
