#ifndef KDN_SERVER_CORE_OPEN_H_
#define KDN_SERVER_CORE_OPEN_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/base/clock.h"
#include "server/core/chunk_store.h"
#include "server/core/options.h"
#include "server/core/store_events.h"
#include "storage/file/file_system.h"

namespace rocksdb {
class FileSystem;
}  // namespace rocksdb

namespace kdn {

inline constexpr uint32_t kStoreFormat = 1;

// What a store gets from outside. The defaults are the machine's; all of it outlives the store.
struct StoreEnvironment {
  const Clock* clock = &Clock::System();
  StoreEvents* events = nullptr;
  FileSystem* file_system = nullptr;                         // null = the machine's
  std::shared_ptr<rocksdb::FileSystem> rocks_file_system{};  // null = the machine's; shared with RocksDB
  // While a lost index is rebuilt: groups scanned so far, of how many.
  std::function<void(uint64_t groups_done, uint64_t groups_total)> recovery_progress = nullptr;
};

struct OpenedStore {
  std::unique_ptr<ChunkStore> store;
  std::string recovery;  // what had to be repaired or rebuilt, in words; empty when nothing had
};

// Opens, or makes, the data directory and starts the background work. Below `options.path`: `kdnd.lock`, `STORE`
// (format and kind of values), `segments/` or `blobs/`, and the index's own files (storage/rocksdb/rocks_index.h).
// Damage never keeps it from opening: a lost index is rebuilt from the values. FailedPrecondition when another daemon
// has the directory, a later version wrote it, or it holds the other kind of values; InvalidArgument for options that
// contradict each other; else what the machine answers.
absl::StatusOr<OpenedStore> OpenChunkStore(const ChunkStoreOptions& options, const StoreEnvironment& environment);

}  // namespace kdn

#endif  // KDN_SERVER_CORE_OPEN_H_
