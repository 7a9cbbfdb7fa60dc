#include "storage/evict/access_tracker.h"

#include <algorithm>

#include "kernels/base/bytes.h"

namespace kdn {

AccessTracker::AccessTracker(size_t max_keys)
    : max_keys_per_epoch_and_shard_(std::max<size_t>(1, max_keys / (kEpochs * kShards))) {}

uint64_t AccessTracker::HashOf(const ChunkKey& key) {
  // Keys are HMAC values: eight of their bytes are uniform already.
  return LoadLe<uint64_t>(key.key.bytes.data()) ^ (uint64_t{key.tenant} * 0x9e3779b97f4a7c15u);
}

bool AccessTracker::Touch(const ChunkKey& key) {
  const uint64_t hash = HashOf(key);
  Shard& shard = shards_[hash % kShards];
  absl::MutexLock lock(&shard.mutex);
  if (!shard.epochs[shard.current].insert(hash).second) return false;
  if (shard.epochs[shard.current].size() >= max_keys_per_epoch_and_shard_) {
    shard.current = (shard.current + 1) % kEpochs;
    shard.epochs[shard.current].clear();
  }
  return true;
}

void AccessTracker::TouchWithAncestors(const ChunkKey& key, const ParentOf& parent_of) {
  ChunkKey at = key;
  for (uint32_t step = 0; step < kMaxAncestors && Touch(at); ++step) {
    const std::optional<ChunkKey> parent = parent_of(at);
    if (!parent.has_value()) return;
    at = *parent;
  }
}

uint32_t AccessTracker::Recency(const ChunkKey& key) const {
  const uint64_t hash = HashOf(key);
  const Shard& shard = shards_[hash % kShards];
  absl::MutexLock lock(&shard.mutex);
  for (uint32_t age = 0; age < kEpochs; ++age) {
    if (shard.epochs[(shard.current + kEpochs - age) % kEpochs].contains(hash)) return kEpochs - age;
  }
  return 0;
}

void AccessTracker::Forget(const ChunkKey& key) {
  const uint64_t hash = HashOf(key);
  Shard& shard = shards_[hash % kShards];
  absl::MutexLock lock(&shard.mutex);
  for (auto& epoch : shard.epochs) epoch.erase(hash);
}

}  // namespace kdn
