#ifndef KDN_STORAGE_ROCKSDB_INDEX_STATE_H_
#define KDN_STORAGE_ROCKSDB_INDEX_STATE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "storage/index/chunk_index.h"

// The file KDN_STATE in the index's folder: what RocksDB cannot tell about itself. RocksDB opens without a word a
// MANIFEST cut off after a whole record and a log with a hole; this file says how long the MANIFEST must be at least,
// whether everything had been written out, and from which value group on rows may be missing.

namespace kdn {

struct IndexState {
  uint32_t format = 0;
  bool clean = false;            // closed with everything in table files
  bool rebuild_pending = false;  // rows of older values are not all back yet
  bool damaged = false;          // RocksDB met damaged blocks while it was running
  uint64_t reconcile_from = 0;   // rows whose values all lie in older groups are in table files
  IndexCounts counts;            // valid when clean
  std::string manifest;          // MANIFEST in use, its length and checksum up to there
  uint64_t manifest_bytes = 0;
  uint32_t manifest_crc = 0;
};

// NotFound, DataLoss as ReadDurableFile; FailedPrecondition when a later version wrote it.
absl::StatusOr<IndexState> ReadIndexState(rocksdb::Env& env, const std::string& index_dir);
absl::Status WriteIndexState(rocksdb::Env& env, const std::string& index_dir, const IndexState& state);

// Fills the MANIFEST fields for the open `db`.
absl::Status DescribeManifest(rocksdb::Env& env, rocksdb::DB& db, const std::string& index_dir, IndexState& state);

// Compares the closed index's MANIFEST with `state`: DataLoss when it lost something; OK when it is as described, or
// longer (while closing RocksDB notes there which logs it removed), or a newer one. Clears state.clean for a newer one:
// somebody opened the index since.
absl::Status CheckManifest(rocksdb::Env& env, const std::string& index_dir, IndexState& state);

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_INDEX_STATE_H_
