#ifndef KDN_STORAGE_ROCKSDB_ROCKS_INDEX_H_
#define KDN_STORAGE_ROCKSDB_ROCKS_INDEX_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "kernels/base/clock.h"
#include "storage/index/chunk_index.h"
#include "storage/index/recovery.h"

namespace rocksdb {
class FileSystem;
}  // namespace rocksdb

namespace kdn {

inline constexpr uint32_t kIndexFormat = 1;
inline constexpr int kMaxQuarantinedIndexes = 3;

struct RocksIndexOptions {
  // Data directory, made if missing (mode 0700). Below it: `index/` (RocksDB), `index.lock`, `tenants` and
  // `tenants.copy` (the secrets: authoritative, survive the index), `index.quarantined-<unix seconds>-<n>/`.
  std::string path;
  uint64_t block_cache_bytes = 64u << 20;
  // All blocks are verified while opening an index of at most this size (about 1 s); a larger one only block by block
  // as it is read.
  uint64_t verify_at_open_bytes = 1u << 30;
  // Commits that add rows are refused while less than this is free (0: never): RocksDB then hardly meets a full disk,
  // which it survives, but slowly.
  uint64_t min_free_bytes = 0;
  const Clock* clock = &Clock::System();
  // Fills a buffer with secret random bytes; unset = the operating system's.
  std::function<void(MutableByteSpan)> random;
  // Null = the machine's. Shared with RocksDB, which keeps it until closed. For fault injection.
  std::shared_ptr<rocksdb::FileSystem> file_system;
};

struct OpenedIndex {
  std::unique_ptr<ChunkIndex> index;
  RecoveryReport report;
};

// Opens, or creates, the index. Damage never keeps it from opening: a damaged index is moved aside (at most
// kMaxQuarantinedIndexes are kept) and an empty one started, which the report says. Errors: FailedPrecondition when
// another process has it open, when it was written by a later version, or when the directory holds something else;
// ResourceExhausted, PermissionDenied or Unavailable when the machine refuses the files.
absl::StatusOr<OpenedIndex> OpenRocksIndex(const RocksIndexOptions& options);

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_ROCKS_INDEX_H_
