#ifndef KDN_STORAGE_EVICT_CHUNK_ROWS_H_
#define KDN_STORAGE_EVICT_CHUNK_ROWS_H_

#include <cstdint>
#include <optional>

#include "kdn/v1/record.pb.h"
#include "kernels/base/sha256.h"
#include "storage/blob/value_store.h"
#include "storage/index/chunk_index.h"

// What index rows say: pure functions over the persisted records.

namespace kdn {

// The storage key of a chunk or text digest: tenants cannot compute each other's.
Digest StorageKey(const v1::TenantRecord& tenant, const Digest& digest);

ValueLocation LocationOf(const v1::PartRecord& part);
void SetLocation(const ValueLocation& location, v1::PartRecord& part);

// Whether its time to live has run out at `now_ms` (wall clock).
bool IsExpired(const v1::ChunkRecord& record, int64_t now_ms);
bool IsExpired(const v1::TextRecord& record, int64_t now_ms);
// Whether eviction must leave it alone at `now_ms`.
bool IsPinned(const v1::ChunkRecord& record, int64_t now_ms);

// Key of the parent's row; nullopt for a chunk without one.
std::optional<ChunkKey> ParentKey(TenantId tenant, const v1::ChunkRecord& record);

// What stored values amount to: their containers' bytes, and the KV bytes before coding.
struct LiveBytes {
  uint64_t stored_bytes = 0;
  uint64_t raw_bytes = 0;

  LiveBytes& operator+=(const LiveBytes& other) {
    stored_bytes += other.stored_bytes;
    raw_bytes += other.raw_bytes;
    return *this;
  }
};
LiveBytes LiveBytesOf(const v1::ChunkRecord& record);

// Bytes of all its values.
uint64_t StoredBytes(const v1::ChunkRecord& record);

// Index in `parts` of the part whose value lies at `location`; -1 when there is none.
int FindPart(const v1::ChunkRecord& record, const ValueLocation& location);

}  // namespace kdn

#endif  // KDN_STORAGE_EVICT_CHUNK_ROWS_H_
