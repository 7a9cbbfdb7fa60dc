#ifndef KDN_TESTS_SERVER_CORE_FAKES_FAKE_WORLD_H_
#define KDN_TESTS_SERVER_CORE_FAKES_FAKE_WORLD_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "kernels/base/clock.h"
#include "server/core/store_events.h"
#include "storage/evict/disk_space.h"

namespace kdn::testing {

// Time that moves when told to.
class ManualClock : public Clock {
 public:
  int64_t WallMillis() const override { return wall_ms_; }
  int64_t MonotonicNanos() const override { return wall_ms_ * 1'000'000; }
  void Advance(int64_t ms) { wall_ms_ += ms; }

 private:
  std::atomic<int64_t> wall_ms_{1'700'000'000'000};
};

// A disk that has as much free as it is told to.
class FakeDiskSpace : public DiskSpace {
 public:
  absl::StatusOr<uint64_t> FreeBytes() override { return free_bytes_.load(); }
  void Set(uint64_t bytes) { free_bytes_ = bytes; }

 private:
  std::atomic<uint64_t> free_bytes_{uint64_t{1} << 50};
};

// Counts what happens, by name.
class CountingEvents : public StoreEvents {
 public:
  void OnLookup(uint64_t chunks, uint64_t hit_chunks, uint64_t tokens, uint64_t hit_tokens) override {
    Add("lookup_chunks", chunks);
    Add("lookup_hit_chunks", hit_chunks);
    Add("lookup_tokens", tokens);
    Add("lookup_hit_tokens", hit_tokens);
  }
  void OnHit(std::string_view tier, uint64_t tokens, uint64_t bytes) override { Add("hit_" + std::string(tier), 1); }
  void OnMiss(MissReason reason) override { Add("miss_" + std::string(MissReasonName(reason)), 1); }
  void OnStored(StoreOutcome outcome, uint64_t tokens, uint64_t stored_bytes, uint64_t raw_bytes) override {
    static constexpr const char* kNames[] = {"stored", "deduplicated", "kept_existing"};
    Add(kNames[static_cast<int>(outcome)], 1);
    Add("raw_bytes", raw_bytes);
  }
  void OnDivergence(uint64_t cells) override { Add("divergent_cells", cells); }
  void OnStoreRejected(std::string_view reason) override { Add("rejected_" + std::string(reason), 1); }
  void OnEvicted(std::string_view reason, uint64_t chunks, uint64_t bytes) override {
    Add("evicted_" + std::string(reason), chunks);
  }
  void OnReinserted(uint64_t chunks, uint64_t bytes) override { Add("reinserted", chunks); }
  void OnObjectRead(std::string_view outcome, uint64_t bytes) override { Add("object_" + std::string(outcome), 1); }
  void OnCorruption(std::string_view where) override { Add("corruption_" + std::string(where), 1); }

  uint64_t operator[](const std::string& name) const {
    absl::MutexLock lock(&mutex_);
    const auto it = counts_.find(name);
    return it == counts_.end() ? 0 : it->second;
  }

 private:
  void Add(const std::string& name, uint64_t amount) {
    absl::MutexLock lock(&mutex_);
    counts_[name] += amount;
  }

  mutable absl::Mutex mutex_;
  std::map<std::string, uint64_t> counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kdn::testing

#endif  // KDN_TESTS_SERVER_CORE_FAKES_FAKE_WORLD_H_
