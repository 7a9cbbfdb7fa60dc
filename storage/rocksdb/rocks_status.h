#ifndef KDN_STORAGE_ROCKSDB_ROCKS_STATUS_H_
#define KDN_STORAGE_ROCKSDB_ROCKS_STATUS_H_

#include <string_view>

#include "absl/status/status.h"
#include "kernels/base/bytes.h"
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

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_ROCKS_STATUS_H_
