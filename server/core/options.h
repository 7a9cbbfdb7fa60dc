#ifndef KDN_SERVER_CORE_OPTIONS_H_
#define KDN_SERVER_CORE_OPTIONS_H_

#include <cstdint>
#include <string>

#include "storage/blob/value_store.h"

namespace kdn {

enum class ValuesKind { kSegments, kRocksDb };

// What OpenChunkStore is told: the storage and memory keys of the configuration, in units of the code.
struct ChunkStoreOptions {
  std::string path;  // data directory, made when it is missing
  ValuesKind values = ValuesKind::kSegments;
  uint64_t capacity_bytes = 0;  // hard limit on disk; 0 = what the file system holds, less the reserve
  uint64_t reserve_bytes = 0;   // free space of the file system that is left alone
  double high_watermark = 0.90;
  double low_watermark = 0.80;
  SyncMode sync = SyncMode::kBatch;
  uint32_t sync_interval_ms = 50;
  uint64_t ttl_ms = 0;  // of chunks and texts stored without one; 0 = for ever
  uint64_t segment_bytes = uint64_t{256} << 20;
  bool verify_on_read = true;  // check every section read from disk (whole values always are)
  bool direct_io = true;
  uint64_t ram_tier_bytes = uint64_t{1} << 30;  // 0 = no RAM tier
  uint64_t block_cache_bytes = uint64_t{64} << 20;
  uint64_t max_container_bytes = uint64_t{1} << 30;
};

// The longest time to live that a store may ask for: what is meant as "for ever" is 0.
inline constexpr uint64_t kMaxTtlMs = uint64_t{100} * 365 * 24 * 3600 * 1000;
inline constexpr uint32_t kMaxChunksPerCall = uint32_t{1} << 18;
inline constexpr uint32_t kMaxListLimit = 1000;
// Of one page of chunks or models as a message: below the 4 MiB that gRPC clients receive unless told otherwise, by
// more than what the last row may be estimated too low.
inline constexpr size_t kMaxPageBytes = size_t{3} << 20;
inline constexpr size_t kMaxDisplayNameBytes = 256;
// Models a tenant may have registered: they are never evicted.
inline constexpr uint64_t kMaxModelsPerTenant = 4096;
// Models kept parsed in memory beside those in use.
inline constexpr size_t kMaxCachedModels = 1024;
// Calibration objects of a model, and the largest share of the capacity that all objects may take: they are never
// evicted.
inline constexpr size_t kMaxObjectsPerModel = 256;
inline constexpr uint64_t kObjectCapacityDivisor = 4;
// Cells a chunk of one model may be cut into: bounds the index row of a chunk, of which a value's metadata (64 KiB)
// must be able to say every cell.
inline constexpr uint32_t kMaxCellsPerModel = 3072;

}  // namespace kdn

#endif  // KDN_SERVER_CORE_OPTIONS_H_
