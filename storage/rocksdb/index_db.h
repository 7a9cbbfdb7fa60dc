#ifndef KDN_STORAGE_ROCKSDB_INDEX_DB_H_
#define KDN_STORAGE_ROCKSDB_INDEX_DB_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "storage/rocksdb/database.h"
#include "storage/rocksdb/row_codec.h"

namespace kdn {

// An open RocksDB with the index's column families.
class IndexDb {
 public:
  struct Options {
    std::string directory;
    uint64_t block_cache_bytes = 0;
    std::shared_ptr<rocksdb::Env> env;
  };

  // Makes a new database in an empty or absent directory.
  static absl::StatusOr<std::unique_ptr<IndexDb>> Create(const Options& options);
  // Opens an existing one; never makes a new one. DataLoss when files are damaged or missing, FailedPrecondition for
  // column families or a format of a later version, otherwise what the machine refused.
  static absl::StatusOr<std::unique_ptr<IndexDb>> Open(const Options& options);
  // As Open, for reading only: needs no space.
  static absl::StatusOr<std::unique_ptr<IndexDb>> OpenReadOnly(const Options& options);

  rocksdb::DB& db() { return database_->db(); }
  const FailureListener& failures() const { return database_->failures(); }
  rocksdb::ColumnFamilyHandle* family(Family family) { return database_->family(static_cast<size_t>(family)); }

  // Writes all families' memtables to table files, together.
  absl::Status Flush();
  // Reads every block of every table file: DataLoss when one is damaged.
  absl::Status Verify();
  // Bytes of table files and logs.
  uint64_t DiskBytes();
  // Number of rows of family `which`, by reading their keys.
  absl::StatusOr<uint64_t> CountRows(Family which);
  // 1 + the highest tenant number that any row has, 0 when there is none.
  absl::StatusOr<uint64_t> TenantBound();

 private:
  explicit IndexDb(std::unique_ptr<Database> database) : database_(std::move(database)) {}
  static absl::StatusOr<std::unique_ptr<IndexDb>> OpenIn(const Options& options, OpenMode mode);
  absl::Status CheckFormat();

  // Its families: those of Family by number, then RocksDB's own "default".
  const std::unique_ptr<Database> database_;
};

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_INDEX_DB_H_
