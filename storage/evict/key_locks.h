#ifndef KDN_STORAGE_EVICT_KEY_LOCKS_H_
#define KDN_STORAGE_EVICT_KEY_LOCKS_H_

#include <array>
#include <cstddef>

#include "absl/hash/hash.h"
#include "absl/synchronization/mutex.h"
#include "storage/index/chunk_index.h"

namespace kdn {

// One lock per index row, by stripes: whoever reads a row to replace it holds the row's lock from the read to the
// commit. A thread holds at most one of them at a time, so that they cannot deadlock.
class KeyLocks {
 public:
  absl::Mutex& For(const ChunkKey& key) { return stripes_[absl::HashOf(key) % kStripes]; }

 private:
  static constexpr size_t kStripes = 1024;
  std::array<absl::Mutex, kStripes> stripes_;
};

}  // namespace kdn

#endif  // KDN_STORAGE_EVICT_KEY_LOCKS_H_
