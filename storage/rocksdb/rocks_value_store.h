#ifndef KDN_STORAGE_ROCKSDB_ROCKS_VALUE_STORE_H_
#define KDN_STORAGE_ROCKSDB_ROCKS_VALUE_STORE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/base/clock.h"
#include "storage/blob/value_store.h"

namespace rocksdb {
class FileSystem;
}  // namespace rocksdb

namespace kdn {

inline constexpr uint64_t kMaxRocksPayloadBytes = 1u << 30;

struct RocksValueStoreOptions {
  // Folder of the database, made if missing; a damaged one is moved to `<path>.quarantined-<unix seconds>-<n>`.
  std::string path;
  uint64_t group_bytes = 256u << 20;  // a larger value gets a group of its own
  SyncMode sync = SyncMode::kBatch;
  int64_t sync_interval_ms = 50;  // of SyncMode::kBatch
  // Free space of the file system that Puts leave alone (0: none). It is room for the database's own work; with less
  // than 64 MiB RocksDB may meet a full disk, which it survives, but slowly.
  uint64_t reserve_bytes = 0;
  const Clock* clock = &Clock::System();
  // Null = the machine's. Shared with RocksDB, which keeps it until closed. For fault injection.
  std::shared_ptr<rocksdb::FileSystem> file_system;
};

struct OpenedValueStore {
  std::unique_ptr<ValueStore> values;
  std::string quarantined_to;  // where a damaged database was moved: its values are lost
};

// Values in a RocksDB of its own, payloads in its blob files. `ValueLocation::offset` is a number counted up in the
// group. Group ids are never used twice, and opening starts a new group. A database too damaged to open is moved aside
// (the newest one is kept) and an empty one started. Errors: FailedPrecondition when another process has it open or a
// later version wrote it; ResourceExhausted, PermissionDenied or Unavailable when the machine refuses the files.
absl::StatusOr<OpenedValueStore> OpenRocksValueStore(const RocksValueStoreOptions& options);

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_ROCKS_VALUE_STORE_H_
