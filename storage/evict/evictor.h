#ifndef KDN_STORAGE_EVICT_EVICTOR_H_
#define KDN_STORAGE_EVICT_EVICTOR_H_

#include <atomic>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "storage/evict/disk_space.h"
#include "storage/evict/group_rewriter.h"

namespace kdn {

struct EvictorOptions {
  uint64_t capacity_bytes = 0;  // on disk, values and index; 0 = what the file system holds
  uint64_t reserve_bytes = 0;   // of the file system's free space, left alone
  // The value store takes disk space in steps of this: that much of the capacity is kept for the next step.
  uint64_t growth_step_bytes = 0;
  double high_watermark = 0.90;  // shares of the capacity: eviction in the background starts above high,
  double low_watermark = 0.80;   // and ends at low
  // Share of a group's bytes that may be kept for having been read: the rest goes, so that each group makes room.
  double max_reinsert_share = 0.5;
  // A group of which more is pinned is passed over.
  double max_pinned_share = 0.9;
};

class Evictor;

// Room for one store, taken from the capacity until this goes out of scope. Movable.
class Admission {
 public:
  Admission() = default;
  Admission(Admission&& other) noexcept { *this = std::move(other); }
  Admission& operator=(Admission&& other) noexcept;
  ~Admission() { Release(); }

 private:
  friend class Evictor;
  Admission(Evictor* evictor, uint64_t bytes) : evictor_(evictor), bytes_(bytes) {}
  void Release();

  Evictor* evictor_ = nullptr;
  uint64_t bytes_ = 0;
};

// Keeps the store within its capacity. The limit is hard: what is on disk plus what has been admitted never exceeds it;
// an admission that would first evicts, oldest group first. Where evicting everything could not give the file system
// its reserve back, because others fill it, nothing is evicted for it: reads go on and stores are refused. Run, called
// now and then from the background, evicts ahead of that between the watermarks. Thread-safe; one eviction at a time.
class Evictor {
 public:
  Evictor(const EvictorOptions& options, const GroupRewriter::Dependencies& dependencies, DiskSpace& disk_space);

  // Admits a store of `bytes` (payload and metadata; the record's own overhead is added). ResourceExhausted when that
  // much cannot be freed. The caller must hold no KeyLocks.
  absl::StatusOr<Admission> Admit(uint64_t bytes);

  // The same without evicting: nullopt when there is no room right now. May be called with KeyLocks held.
  std::optional<Admission> TryAdmit(uint64_t bytes);

  // One round: when above the high watermark, evicts until below the low one or nothing more can go. Number of groups
  // dropped.
  absl::StatusOr<uint32_t> Run();

  // Rewrites every group that is at most half live. Number of groups dropped.
  absl::StatusOr<uint32_t> Compact();

  // Held through an eviction. Who holds it, before any KeyLocks, keeps values where they are; admissions that would
  // have to evict wait meanwhile, so not for long.
  absl::Mutex& step_mutex() ABSL_LOCK_RETURNED(step_mutex_) { return step_mutex_; }

  uint64_t capacity_bytes() const { return options_.capacity_bytes; }
  // On disk now, index included (as of the last round or the last few admissions: asking the index is slow).
  uint64_t UsedBytes() const;
  // The same, asking the index now.
  uint64_t MeasureBytes() {
    RefreshIndexBytes();
    return UsedBytes();
  }

 private:
  friend class Admission;

  void RefreshIndexBytes() { index_bytes_.store(d_.index.DiskBytes(), std::memory_order_relaxed); }
  // Bytes that have to go before usage is within `share` of the capacity and `free_factor` x reserve is free.
  absl::StatusOr<uint64_t> ExcessBytes(double share, double free_factor);
  bool Reserve(uint64_t needed, uint64_t free_bytes) ABSL_LOCKS_EXCLUDED(account_mutex_);
  // Whether eviction could bring `free_bytes` up to the reserve and `needed` more.
  bool CouldFree(uint64_t needed, uint64_t free_bytes) const;
  bool HasRoom(uint64_t bytes) ABSL_LOCKS_EXCLUDED(account_mutex_);
  // Evicts the oldest group that can go; false when there is none.
  absl::StatusOr<bool> EvictOldest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(step_mutex_);
  absl::StatusOr<bool> EvictOldestSealed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(step_mutex_);

  const EvictorOptions options_;
  const GroupRewriter::Dependencies d_;
  DiskSpace& disk_space_;
  absl::Mutex step_mutex_;
  GroupRewriter rewriter_ ABSL_GUARDED_BY(step_mutex_);
  std::atomic<uint64_t> index_bytes_{0};
  std::atomic<uint32_t> admissions_{0};
  mutable absl::Mutex account_mutex_;
  uint64_t admitted_bytes_ ABSL_GUARDED_BY(account_mutex_) = 0;
};

}  // namespace kdn

#endif  // KDN_STORAGE_EVICT_EVICTOR_H_
