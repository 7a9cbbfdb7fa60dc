#ifndef KDN_SERVER_CORE_CORE_CONTEXT_H_
#define KDN_SERVER_CORE_CORE_CONTEXT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "kernels/base/clock.h"
#include "server/core/chunk_store.h"
#include "server/core/live_totals.h"
#include "server/core/options.h"
#include "server/core/registry.h"
#include "server/core/store_events.h"
#include "storage/blob/value_store.h"
#include "storage/evict/access_tracker.h"
#include "storage/evict/disk_space.h"
#include "storage/evict/evictor.h"
#include "storage/evict/key_locks.h"
#include "storage/file/file_system.h"
#include "storage/index/chunk_index.h"
#include "storage/memory/ram_tier.h"

namespace kdn {

// What a chunk store stands on. `clock` and `events` outlive the store.
struct CoreParts {
  std::unique_ptr<FileLock> lock;  // of the data directory, or none; released last
  std::unique_ptr<ValueStore> values;
  std::unique_ptr<ChunkIndex> index;
  std::unique_ptr<DiskSpace> disk_space;
  const Clock* clock = &Clock::System();
  StoreEvents* events = nullptr;
  uint64_t growth_step_bytes = 0;  // the value store takes disk space in steps of this
};

// What the use cases share. Thread-safe; lives as long as the store.
class CoreContext : private EvictionListener {
 public:
  CoreContext(const ChunkStoreOptions& options, CoreParts parts);

  CoreContext(const CoreContext&) = delete;
  CoreContext& operator=(const CoreContext&) = delete;

  const ChunkStoreOptions& options() const { return options_; }
  ValueStore& values() { return *parts_.values; }
  ChunkIndex& index() { return *parts_.index; }
  DiskSpace& disk_space() { return *parts_.disk_space; }
  StoreEvents& events() { return *parts_.events; }
  Registry& registry() { return registry_; }
  RamTier& ram() { return ram_; }
  AccessTracker& tracker() { return tracker_; }
  KeyLocks& locks() { return locks_; }
  Evictor& evictor() { return evictor_; }
  GroupRewriter::Dependencies EvictionDependencies();

  int64_t NowMs() const { return parts_.clock->WallMillis(); }
  int64_t NowNanos() const { return parts_.clock->MonotonicNanos(); }
  // Of an index commit that acknowledges a store.
  Durability AckDurability() const {
    return options_.sync == SyncMode::kAlways ? Durability::kSynced : Durability::kUnsynced;
  }
  // Expiry of what is stored now with this time to live (0 = the configured one): wall-clock milliseconds, 0 = never.
  // InvalidArgument beyond kMaxTtlMs.
  absl::StatusOr<int64_t> ExpiryOf(uint64_t ttl_ms) const;

  static ChunkKey KeyOf(const TenantRef& tenant, const Digest& chunk_digest);

  // The row; unset when absent or damaged (a damaged one is counted and heals when it is put again).
  absl::StatusOr<std::optional<v1::ChunkRecord>> ReadRow(const ChunkKey& key);

  // Removes the row with its values' accounting and what is cached of it. The caller holds the key's lock and `row` is
  // what the index holds.
  absl::Status RemoveRow(const ChunkKey& key, const v1::ChunkRecord& row);
  // Removes one part, and the row with its last part. As above.
  absl::Status RemovePart(const ChunkKey& key, const v1::ChunkRecord& row, int part);

  // Notes that a chunk was wanted, with all its ancestors.
  void Touch(const ChunkKey& key, const v1::ChunkRecord& row);

  // Room for a write of `bytes`, as Evictor::Admit; a refusal counts as NoteWrite's.
  absl::StatusOr<Admission> Admit(uint64_t bytes);

  // Counts and logs damage: `where` as StoreEvents::OnCorruption has it.
  void NoteCorruption(std::string_view where, const absl::Status& damage);

  // Result of a write: whether the disk took it. Passes `status` through; logs when stores begin or cease to be
  // refused.
  absl::Status NoteWrite(absl::Status status) ABSL_LOCKS_EXCLUDED(refusal_mutex_);
  // The same where the reserve is not free and evicting everything could not free it.
  void NoteFreeSpace();
  bool read_only() const { return read_only_.load(std::memory_order_relaxed); }
  // Why stores are refused; "" when they are not.
  std::string refusal() const ABSL_LOCKS_EXCLUDED(refusal_mutex_);
  void ClearReadOnly() ABSL_LOCKS_EXCLUDED(refusal_mutex_);
  // Whether something was written since the last call.
  bool TakeUnsynced() { return unsynced_.exchange(false, std::memory_order_acq_rel); }
  void NoteUnsynced() { unsynced_.store(true, std::memory_order_release); }

  // Reads answered from disk, and reads that found nothing anywhere.
  std::atomic<uint64_t> disk_hits{0};
  std::atomic<uint64_t> misses{0};
  LiveTotals& live() { return live_; }

 private:
  void OnValueMoved(const ValueLocation& from, const ValueLocation& to) override { ram_.Rekey(from, to); }
  void OnValueRemoved(const ValueLocation& location, uint64_t raw_bytes) override;
  void OnGroupDropped(uint64_t group) override;
  void OnEvicted(std::string_view reason, uint64_t chunks, uint64_t bytes) override;
  void OnReinserted(uint64_t chunks, uint64_t bytes) override;

  const ChunkStoreOptions options_;
  LiveTotals live_;
  StoreEvents no_events_;
  const CoreParts parts_;
  RamTier ram_;
  AccessTracker tracker_;
  KeyLocks locks_;
  Registry registry_;
  Evictor evictor_;
  std::atomic<bool> read_only_{false};
  mutable absl::Mutex refusal_mutex_;
  std::string refusal_ ABSL_GUARDED_BY(refusal_mutex_);
  std::atomic<bool> unsynced_{false};
};

}  // namespace kdn

#endif  // KDN_SERVER_CORE_CORE_CONTEXT_H_
