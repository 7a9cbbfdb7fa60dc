#ifndef KDN_STORAGE_EVICT_EXPIRY_SWEEPER_H_
#define KDN_STORAGE_EVICT_EXPIRY_SWEEPER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/evict/chunk_rows.h"
#include "storage/evict/group_rewriter.h"

namespace kdn {

// Removes the index rows of chunks and texts whose time to live has run out, a bounded number of rows a step; their
// space goes with their group. Readers do not depend on it: they check expiry themselves. Not thread-safe.
class ExpirySweeper {
 public:
  static constexpr uint32_t kRowsPerStep = 4096;

  explicit ExpirySweeper(const GroupRewriter::Dependencies& dependencies) : d_(dependencies) {}

  struct StepResult {
    uint64_t removed_chunks = 0;
    uint64_t removed_texts = 0;
    LiveBytes live;           // of the rows seen that stay
    bool round_done = false;  // every tenant's rows have been seen; the next step begins again
  };

  // Looks at the next kRowsPerStep chunk rows of one tenant; with a tenant's last rows, at its texts.
  absl::StatusOr<StepResult> Step();

 private:
  absl::StatusOr<uint64_t> RemoveChunks(const std::vector<ChunkKey>& keys);
  absl::StatusOr<uint64_t> SweepTexts(TenantId tenant);

  const GroupRewriter::Dependencies d_;
  std::optional<TenantId> tenant_;  // being swept; unset = begin with the first
  std::optional<Digest> after_;
};

}  // namespace kdn

#endif  // KDN_STORAGE_EVICT_EXPIRY_SWEEPER_H_
