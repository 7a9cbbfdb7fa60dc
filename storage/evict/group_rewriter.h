#ifndef KDN_STORAGE_EVICT_GROUP_REWRITER_H_
#define KDN_STORAGE_EVICT_GROUP_REWRITER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/clock.h"
#include "storage/blob/value_store.h"
#include "storage/evict/access_tracker.h"
#include "storage/evict/key_locks.h"
#include "storage/index/chunk_index.h"

namespace kdn {

// What eviction does, for caches above the value store and for metrics. Called on the evicting thread; must not block
// and must not call back.
class EvictionListener {
 public:
  virtual ~EvictionListener() = default;
  virtual void OnValueMoved(const ValueLocation& from, const ValueLocation& to) {}
  // `raw_bytes` as in the row.
  virtual void OnValueRemoved(const ValueLocation& location, uint64_t raw_bytes) {}
  virtual void OnGroupDropped(uint64_t group) {}
  // `reason` is "capacity" or "expired".
  virtual void OnEvicted(std::string_view reason, uint64_t chunks, uint64_t bytes) {}
  virtual void OnReinserted(uint64_t chunks, uint64_t bytes) {}
};

// Which live values of a group to write again before the group is dropped.
struct RewritePolicy {
  // Bytes of values that are kept for having been read. Pinned values do not count.
  uint64_t max_accessed_bytes = 0;
  // Keep values whether they have been read or not, and stop with ResourceExhausted where there is no room for them
  // (compaction).
  bool keep_unread = false;
  // A group with more pinned bytes than this is left as it is.
  uint64_t max_pinned_bytes = 0;
  // Whether so many more bytes may be written now.
  std::function<bool(uint64_t)> has_room;
};

struct RewriteResult {
  bool dropped = false;  // false: left as it is, its pinned values do not allow more
  uint64_t evicted_chunks = 0;
  uint64_t kept_chunks = 0;
};

// Empties one sealed group: writes again what is worth keeping, removes the index rows of the rest, drops the group.
// Not thread-safe by itself (Evictor serialises); rows are changed under their KeyLocks.
class GroupRewriter {
 public:
  struct Dependencies {
    ValueStore& values;
    ChunkIndex& index;
    AccessTracker& tracker;
    KeyLocks& locks;
    const Clock& clock;
    EvictionListener& listener;
  };

  explicit GroupRewriter(const Dependencies& dependencies) : d_(dependencies) {}

  // The group is dropped only after everything moved out of it is durable in values and index. Errors leave it in
  // place, partly emptied: calling again goes on.
  absl::StatusOr<RewriteResult> Rewrite(const ValueGroup& group, const RewritePolicy& policy);

 private:
  struct Candidate;
  struct Plan;

  absl::StatusOr<Plan> Survey(uint64_t group);
  absl::Status JudgeChunks(Plan& plan);
  static void ChooseKept(const RewritePolicy& policy, Plan& plan);
  absl::Status MoveOrRemoveChunk(const Candidate& candidate, const RewritePolicy& policy, RewriteResult& result);
  absl::Status MovePart(const Candidate& candidate, const v1::ChunkRecord& row, int part, const RewritePolicy& policy);
  absl::Status RemovePart(const Candidate& candidate, const v1::ChunkRecord& row, int part, RewriteResult& result);
  absl::Status MoveOrRemoveText(const Candidate& candidate, const RewritePolicy& policy);
  absl::Status MoveModel(const Candidate& candidate);
  absl::Status MoveTombstoneIfNeeded(const Candidate& candidate);

  const Dependencies d_;
};

}  // namespace kdn

#endif  // KDN_STORAGE_EVICT_GROUP_REWRITER_H_
