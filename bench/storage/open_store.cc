#include "bench/storage/open_store.h"

#include "bench/common/measure.h"
#include "bench/storage/plain_direct_store.h"
#include "kernels/base/clock.h"
#include "storage/file/posix_file_system.h"
#include "storage/rocksdb/rocks_value_store.h"
#include "storage/segment/segment_store.h"

namespace kdn::bench {
namespace {

std::unique_ptr<ValueStore> OpenSegments(SyncMode sync, const std::string& folder) {
  static PosixFileSystem file_system;
  SegmentStoreOptions options;
  options.path = folder;
  options.sync = sync;
  auto store = SegmentStore::Open(options, file_system, kdn::Clock::System());
  if (!store.ok()) Fail(store.status().ToString());
  return *std::move(store);
}

std::unique_ptr<ValueStore> OpenRocks(SyncMode sync, const std::string& folder) {
  RocksValueStoreOptions options;
  options.path = folder + "/values";  // it keeps a file beside its folder
  options.sync = sync;
  auto opened = OpenRocksValueStore(options);
  if (!opened.ok()) Fail(opened.status().ToString());
  if (!opened->quarantined_to.empty()) Fail("RocksDB was quarantined to " + opened->quarantined_to);
  return std::move(opened->values);
}

}  // namespace

std::unique_ptr<ValueStore> OpenStore(const std::string& kind, SyncMode sync, const std::string& folder) {
  if (kind == "plain") return std::make_unique<PlainDirectStore>(folder, sync);
  if (kind == "segments") return OpenSegments(sync, folder);
  if (kind == "rocksdb") return OpenRocks(sync, folder);
  Fail("no value store is called " + kind);
}

}  // namespace kdn::bench
