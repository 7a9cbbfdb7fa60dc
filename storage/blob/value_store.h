#ifndef KDN_STORAGE_BLOB_VALUE_STORE_H_
#define KDN_STORAGE_BLOB_VALUE_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "storage/blob/shared_bytes.h"

// Where payloads live. Values are immutable, written once, addressed by the location that Put returned, and grouped by
// age: space is given back by dropping the oldest group whole. Implementations: append-only segment files
// (storage/segment, the default) and RocksDB BlobDB (storage/rocksdb).

namespace kdn {

// When an acknowledged write is on stable storage.
enum class SyncMode {
  kAlways,  // before Put's caller is told: survives kill -9 and power loss
  kBatch,   // within sync_interval
  kNone,    // when the operating system likes; survives kill -9 of the process once the data left its buffers
};

// Address of one value. Persisted in index rows (fixed 24 bytes little-endian).
struct ValueLocation {
  uint64_t group = 0;   // segment or blob group; ascending with age
  uint64_t offset = 0;  // implementation's own
  uint64_t length = 0;  // payload bytes

  friend bool operator==(const ValueLocation&, const ValueLocation&) = default;
};

struct ByteRange {
  uint64_t offset = 0;
  uint64_t length = 0;
};

struct ValueGroup {
  uint64_t id = 0;
  uint64_t disk_bytes = 0;  // what dropping it gives back
  uint64_t live_bytes = 0;  // payload not marked dead
  bool sealed = false;      // no longer appended to; only sealed groups may be dropped
};

// A value met by Scan: `metadata` as given to Put, or `status` DataLoss where a record is damaged (location then holds
// what is known).
struct ScannedValue {
  ValueLocation location;
  ByteSpan metadata;
  absl::Status status;
};

class ValueStore {
 public:
  virtual ~ValueStore() = default;

  // Appends a value: `payload` and the `metadata` from which a lost index can be rebuilt (<= 64 KiB). On return with
  // SyncMode::kAlways both are durable (concurrent Puts share one flush). ResourceExhausted when the disk is full or
  // the reserve would be touched (later Puts succeed by themselves once there is space), Unavailable after Close.
  virtual absl::StatusOr<ValueLocation> Put(ByteSpan metadata, ByteSpan payload) = 0;

  // Put, where the CRC-32C of the payload is known from when its bytes were received: spares a pass over them. Bytes
  // that have changed since are stored as they are, and found damaged by whoever reads them.
  virtual absl::StatusOr<ValueLocation> PutChecked(ByteSpan metadata, ByteSpan payload, uint32_t payload_crc) {
    (void)payload_crc;  // of no use to a store with checksums of another kind
    return Put(metadata, payload);
  }

  // The payload bytes of `range` (the whole payload: {0, location.length}), verified against the record's checksum when
  // the whole payload is read. NotFound when the group is gone, DataLoss when the bytes are damaged or the record at
  // the location is another one, OutOfRange for a range outside the payload.
  virtual absl::StatusOr<SharedBytes> Get(const ValueLocation& location, ByteRange range) = 0;

  // Makes every earlier Put durable. Fails also when a flush after the first `failures_before` has failed and values
  // that it was for are still in the store, whoever began that flush and whoever heard of it. Who asks for its own
  // values hands in what flush_failures() said before their Puts; 0 asks for everything ever acknowledged.
  virtual absl::Status Sync(uint64_t failures_before) = 0;
  // How many flushes have failed since the store was opened. Not counted: those of Puts that failed with them.
  virtual uint64_t flush_failures() const = 0;

  // Tells that a value is no longer referenced: accounting for eviction, nothing is freed at once.
  virtual void MarkDead(const ValueLocation& location) = 0;

  // Groups, oldest first.
  virtual std::vector<ValueGroup> Groups() const = 0;

  // Seals the group that is being appended to, if it holds anything.
  virtual absl::Status SealActive() = 0;

  // Frees a sealed group. Readers that hold SharedBytes of it keep their bytes. NotFound when unknown,
  // FailedPrecondition when not sealed.
  virtual absl::Status DropGroup(uint64_t group) = 0;

  // Visits the values of `group` in the order written, verifying every record's checksum (payload too when
  // `verify_payload`). Damaged records are visited with a status and skipped over as far as the next intact record.
  struct ScanOptions {
    bool verify_payload = false;
  };
  virtual absl::Status Scan(uint64_t group, const ScanOptions& options,
                            const std::function<void(const ScannedValue&)>& visit) = 0;

  // Bytes on disk of all groups.
  virtual uint64_t DiskBytes() const = 0;

  // Flushes and closes. Idempotent.
  virtual absl::Status Close() = 0;
};

}  // namespace kdn

#endif  // KDN_STORAGE_BLOB_VALUE_STORE_H_
