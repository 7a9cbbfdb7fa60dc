#ifndef KDN_STORAGE_INDEX_RECOVERY_H_
#define KDN_STORAGE_INDEX_RECOVERY_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/clock.h"
#include "storage/blob/value_store.h"
#include "storage/index/chunk_index.h"

// Putting rows back from the values: all of them after the index was lost, the newest after an unclean shutdown.

namespace kdn {

// What opening the index found.
struct RecoveryReport {
  bool created = false;          // there was none
  bool needs_rebuild = false;    // empty now, or a rebuild did not finish: call RecoverIndex
  bool needs_reconcile = false;  // not closed cleanly: rows of values in groups >= reconcile_from may be missing
  uint64_t reconcile_from = 0;   // every row whose values lie in older groups is known durable
  std::string quarantined_to;    // where the damaged index was moved, or empty
  std::string reason;            // why it was not clean, or empty
  bool tenants_damaged = false;  // a copy of the tenants was damaged and has been written anew
  bool tenants_lost = false;     // no intact copy was left: what these tenants stored cannot be reached any more
};

struct RecoveryStats {
  uint64_t groups = 0;
  uint64_t values = 0;
  uint64_t chunks_put = 0;  // rows written, a row of several parts once per change
  uint64_t models_put = 0;
  uint64_t texts_put = 0;
  uint64_t deleted = 0;         // rows removed by tombstones
  uint64_t dangling = 0;        // parts dropped whose value is not there (RecoverIndex after an unclean shutdown)
  uint64_t expired = 0;         // values skipped for their expiry
  uint64_t unknown_tenant = 0;  // values skipped: without the tenant's secret nothing can ask for them
  uint64_t damaged = 0;         // values or metadata that could not be read
};

// After each group: number done, total.
using RecoveryProgress = std::function<void(uint64_t groups_done, uint64_t groups_total)>;

struct RecoveryOptions {
  const Clock* clock = &Clock::System();
  RecoveryProgress progress;
  uint64_t from_group = 0;  // groups below are not scanned
};

// Scans the groups from `from_group` on, oldest first, and commits the rows their metadata describes. Several parts of
// a chunk merge into one row: a cell is read from the first part that has it unless a later one holds more of its rows.
// Rows that are there already are kept, so that running it twice changes nothing. Damaged values are counted and
// skipped. An error of the index or of the value store ends it; it may be run again.
absl::StatusOr<RecoveryStats> RebuildIndex(ValueStore& values, ChunkIndex& index, const RecoveryOptions& options);

// After an unclean shutdown: RebuildIndex from `from_group` on, then drops the parts in those groups whose value was
// lost with the crash (SyncMode kBatch and kNone).
absl::StatusOr<RecoveryStats> ReconcileIndex(ValueStore& values, ChunkIndex& index, const RecoveryOptions& options);

// What `report` asks for (nothing, ReconcileIndex or RebuildIndex), then index.MarkRecovered(). The call every daemon
// makes between opening and serving.
absl::StatusOr<RecoveryStats> RecoverIndex(ValueStore& values, ChunkIndex& index, const RecoveryReport& report,
                                           RecoveryOptions options);

}  // namespace kdn

#endif  // KDN_STORAGE_INDEX_RECOVERY_H_
