#ifndef KDN_STORAGE_ROCKSDB_ROCKS_STATUS_H_
#define KDN_STORAGE_ROCKSDB_ROCKS_STATUS_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "rocksdb/env.h"
#include "rocksdb/slice.h"
#include "rocksdb/status.h"

// The edge to RocksDB's types.

namespace kdn {

inline rocksdb::Slice ToSlice(std::string_view text) { return {text.data(), text.size()}; }
inline rocksdb::Slice ToSlice(ByteSpan bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
inline std::string_view ToView(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

// "what: RocksDB's message". Corruption -> DataLoss, no space -> ResourceExhausted, NotFound and missing paths ->
// NotFound, "Permission denied" -> PermissionDenied, a lock that is held -> FailedPrecondition, shutting down, busy and
// other I/O errors -> Unavailable, anything else -> Internal. OK stays OK.
absl::Status FromRocks(const rocksdb::Status& status, std::string_view what);

// The same for opening a database: files that are damaged, missing or unreadable are DataLoss; what the machine refuses
// (space, rights, locks, descriptors) stays what it is.
absl::Status FromRocksOpen(const rocksdb::Status& status, std::string_view what);

enum class FolderContents { kNothing, kDatabase, kSomethingElse };
// What `folder` holds, before RocksDB touches it. kDatabase: files that only a RocksDB leaves, whole or damaged.
absl::StatusOr<FolderContents> LookAtFolder(rocksdb::Env& env, const std::string& folder);

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_ROCKS_STATUS_H_
