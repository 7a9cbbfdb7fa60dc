#ifndef KDN_STORAGE_ROCKSDB_VALUE_DB_H_
#define KDN_STORAGE_ROCKSDB_VALUE_DB_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "storage/rocksdb/database.h"
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

  rocksdb::DB& db() { return database_->db(); }
  const FailureListener& failures() const { return database_->failures(); }
  rocksdb::ColumnFamilyHandle* control() { return database_->family(0); }
  rocksdb::ColumnFamilyHandle* records() { return database_->family(1); }
  rocksdb::ColumnFamilyHandle* payloads() { return database_->family(2); }

  // Writes memtables to files.
  enum class FlushMode { kStart, kWait };
  absl::Status Flush(FlushMode mode);
  // Deletes a group's rows and gives the space of its blob files back.
  absl::Status EraseGroup(uint64_t group, ResumingWriter& writer);

 private:
  explicit ValueDb(std::unique_ptr<Database> database) : database_(std::move(database)) {}
  static absl::StatusOr<std::unique_ptr<ValueDb>> OpenIn(const Options& options, OpenMode mode);

  const std::unique_ptr<Database> database_;
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
