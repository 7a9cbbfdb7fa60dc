#ifndef KDN_STORAGE_EVICT_ACCESS_TRACKER_H_
#define KDN_STORAGE_EVICT_ACCESS_TRACKER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "storage/index/chunk_index.h"

namespace kdn {

// Remembers which chunks were read lately, in bounded memory: sets of key hashes, one set an epoch. An epoch ends when
// its share of the keys is full; the oldest epoch is then forgotten. Two keys may share a hash: the worst that follows
// is that one of them is kept without having been read. Thread-safe.
class AccessTracker {
 public:
  static constexpr uint32_t kEpochs = 4;
  // Steps towards the root that one access may cause.
  static constexpr uint32_t kMaxAncestors = 16384;
  static constexpr size_t kDefaultMaxKeys = size_t{1} << 20;

  // Remembers at most about `max_keys` keys (about 16 bytes each).
  explicit AccessTracker(size_t max_keys = kDefaultMaxKeys);

  // Notes an access. True when it is the key's first in the current epoch.
  bool Touch(const ChunkKey& key);

  // Notes an access of `key` and of its ancestors, so that a prefix is never older than what hangs on it. Stops at the
  // first ancestor that this epoch knows already, since its own ancestors are then known too: the cost is one call of
  // `parent_of` per chunk and epoch. `parent_of` gives the parent's key, nullopt for none or when the chunk is gone.
  using ParentOf = std::function<std::optional<ChunkKey>(const ChunkKey&)>;
  void TouchWithAncestors(const ChunkKey& key, const ParentOf& parent_of);

  // 0 = not remembered; else the larger the more recent, at most kEpochs.
  uint32_t Recency(const ChunkKey& key) const;

  // Forgets the key: it has been kept for its accesses once, or is gone.
  void Forget(const ChunkKey& key);

 private:
  static constexpr size_t kShards = 16;
  struct Shard {
    mutable absl::Mutex mutex;
    // Ring of epochs; `current` is the newest.
    std::array<absl::flat_hash_set<uint64_t>, kEpochs> epochs ABSL_GUARDED_BY(mutex);
    uint32_t current ABSL_GUARDED_BY(mutex) = 0;
  };

  static uint64_t HashOf(const ChunkKey& key);

  const size_t max_keys_per_epoch_and_shard_;
  std::array<Shard, kShards> shards_;
};

}  // namespace kdn

#endif  // KDN_STORAGE_EVICT_ACCESS_TRACKER_H_
