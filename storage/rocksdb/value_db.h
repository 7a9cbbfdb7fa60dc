#ifndef KDN_STORAGE_ROCKSDB_VALUE_DB_H_
#define KDN_STORAGE_ROCKSDB_VALUE_DB_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "storage/rocksdb/resuming_writer.h"

namespace kdn {

inline constexpr uint32_t kValueDbFormat = 1;

// The database of RocksValueStore: family "records" holds a small sealed row per value (sizes, metadata), so that
// scanning and counting read no payload; family "payloads" holds payload and CRC-32C in blob files. Both under the key
// group, sequence number (8 bytes big-endian each).
class ValueDb {
 public:
  struct Options {
    std::string directory;
    std::shared_ptr<rocksdb::Env> env;
  };
  // Makes a database in an empty or absent folder.
  static absl::StatusOr<std::unique_ptr<ValueDb>> Create(const Options& options);
  // Opens one. DataLoss when it is damaged, FailedPrecondition when a later version wrote it.
  static absl::StatusOr<std::unique_ptr<ValueDb>> Open(const Options& options);
  // As Open, for reading only: needs no space.
  static absl::StatusOr<std::unique_ptr<ValueDb>> OpenReadOnly(const Options& options);
  ~ValueDb();

  rocksdb::DB& db() { return *db_; }
  const FailureListener& failures() const { return *failures_; }
  rocksdb::ColumnFamilyHandle* records() { return records_; }
  rocksdb::ColumnFamilyHandle* payloads() { return payloads_; }
  rocksdb::ColumnFamilyHandle* control() { return control_; }

  // Writes memtables to files.
  enum class FlushMode { kStart, kWait };
  absl::Status Flush(FlushMode mode);
  // Deletes a group's rows and gives the space of its blob files back.
  absl::Status EraseGroup(uint64_t group, ResumingWriter& writer);

 private:
  ValueDb() = default;
  enum class Mode { kCreate, kReadWrite, kReadOnly };
  absl::Status Start(const Options& options, Mode mode);

  std::shared_ptr<rocksdb::Env> env_;
  const std::shared_ptr<FailureListener> failures_ = std::make_shared<FailureListener>();
  std::unique_ptr<rocksdb::DB> db_;
  rocksdb::ColumnFamilyHandle* control_ = nullptr;
  rocksdb::ColumnFamilyHandle* records_ = nullptr;
  rocksdb::ColumnFamilyHandle* payloads_ = nullptr;
};

// Key of a value; the key of {group, 0} is the group's first.
std::string ValueKey(uint64_t group, uint64_t sequence);
struct ParsedValueKey {
  uint64_t group = 0;
  uint64_t sequence = 0;
};
std::optional<ParsedValueKey> ParseValueKey(std::string_view key);

// A row of "records": payload length, metadata, CRC-32C over key and both.
std::string SealRecord(std::string_view key, uint64_t payload_bytes, ByteSpan metadata);
struct OpenedRecord {
  uint64_t payload_bytes = 0;
  ByteSpan metadata;  // inside the row
};
absl::StatusOr<OpenedRecord> OpenRecord(std::string_view key, std::string_view row);

inline constexpr size_t kPayloadTrailerBytes = 4;
// CRC-32C over key and payload: the four bytes that follow the payload.
uint32_t PayloadChecksum(std::string_view key, ByteSpan payload);

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_VALUE_DB_H_
