#ifndef KDN_STORAGE_MEMORY_RAM_TIER_H_
#define KDN_STORAGE_MEMORY_RAM_TIER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "storage/blob/block_checksums.h"
#include "storage/blob/shared_bytes.h"
#include "storage/blob/value_store.h"

namespace kdn {

struct RamTierStats {
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;    // cached, plus what left the cache but readers still hold
  uint64_t cached_bytes = 0;  // findable
  uint64_t objects = 0;       // findable
  uint64_t hits = 0;
  uint64_t misses = 0;
  uint64_t evictions = 0;
  uint64_t declined = 0;  // inserts that found no room
};

// Whole containers in memory, by the location of their value on disk. The byte limit is hard: bytes that a reader still
// holds after their eviction count until the reader lets go, and an insert that finds no room is declined.
//
// Admission and eviction are S3-FIFO (Yang et al., SOSP 2023): a small FIFO of 10 % that new objects pass through, a
// main FIFO for those read while in the small one, and a ghost list of keys lately thrown out, whose return goes
// straight to main. One read suffices for promotion (the paper's caches are filled by reads, this one mostly by
// writes). Thread-safe.
class RamTier {
 public:
  // `capacity_bytes` 0 = the tier is off: every insert is declined, every find a miss.
  explicit RamTier(uint64_t capacity_bytes);

  RamTier(const RamTier&) = delete;
  RamTier& operator=(const RamTier&) = delete;

  uint64_t capacity_bytes() const { return capacity_bytes_; }

  // Caches `bytes`, which must be the value at `location`. False when there is no room or it is there already. The
  // memory behind `bytes` is taken over by shared ownership, not copied.
  bool Insert(const ValueLocation& location, SharedBytes bytes);

  // The value, and a note that it was wanted.
  struct Found {
    SharedBytes bytes;
    std::shared_ptr<BlockChecksums> checksums;  // of `bytes`, the same for everybody who finds it
  };
  std::optional<Found> FindWithChecksums(const ValueLocation& location);
  std::optional<SharedBytes> Find(const ValueLocation& location);

  // Whether it is there; counts as nothing.
  bool Contains(const ValueLocation& location) const;

  // The value moved on disk: what is cached for `from` answers for `to` from now on.
  void Rekey(const ValueLocation& from, const ValueLocation& to);

  void Remove(const ValueLocation& location);
  // Every value of the group.
  void RemoveGroup(uint64_t group);

  RamTierStats Stats() const;

 private:
  struct Key {
    uint64_t group = 0;
    uint64_t offset = 0;
    friend bool operator==(const Key&, const Key&) = default;
    template <typename H>
    friend H AbslHashValue(H h, const Key& k) {
      return H::combine(std::move(h), k.group, k.offset);
    }
  };
  // Bytes held by entries alive anywhere; outlives the tier for as long as a reader holds an entry.
  struct Ledger;
  // The value and what releases its bytes from the ledger. Owners: the map, and every SharedBytes handed out.
  struct Entry;
  enum class Queue : uint8_t { kSmall, kMain };
  struct Slot {
    std::shared_ptr<Entry> entry;
    std::list<Key>::iterator position;
    Queue queue = Queue::kSmall;
    uint8_t reads = 0;  // since it entered its queue, at most kMaxReads
  };

  static Key KeyOf(const ValueLocation& location) { return {location.group, location.offset}; }
  bool MakeRoom(uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Looks at the oldest object of one queue: throws it out, promotes it or gives it another round. False when both are
  // empty.
  bool EvictionStep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Enqueue(const Key& key, Slot& slot, Queue queue) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Dequeue(Slot& slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Erase(const Key& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Haunt(const Key& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint64_t capacity_bytes_;
  const std::shared_ptr<Ledger> ledger_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<Key, Slot> slots_ ABSL_GUARDED_BY(mutex_);
  std::list<Key> small_ ABSL_GUARDED_BY(mutex_);  // newest first
  std::list<Key> main_ ABSL_GUARDED_BY(mutex_);
  uint64_t small_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t main_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<Key> ghost_order_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<Key> ghosts_ ABSL_GUARDED_BY(mutex_);
  uint64_t hits_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t misses_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t evictions_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t declined_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace kdn

#endif  // KDN_STORAGE_MEMORY_RAM_TIER_H_
