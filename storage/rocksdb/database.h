#ifndef KDN_STORAGE_ROCKSDB_DATABASE_H_
#define KDN_STORAGE_ROCKSDB_DATABASE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rocksdb/cache.h"
#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "rocksdb/options.h"
#include "storage/rocksdb/resuming_writer.h"

namespace kdn {

enum class OpenMode {
  kCreate,     // a new database, in an empty or absent directory
  kReadWrite,  // one that exists
  kReadOnly,   // one that exists; needs no space
};

// What KDN asks of every RocksDB: each check there is, all families written to table files together (a hole in the logs
// then cuts off a tail of writes and cannot leave one family ahead of another), logs recovered to a point in time, and
// little of RocksDB's own logging. `max_log_bytes` bounds the write-ahead logs, hence the time to replay them.
rocksdb::DBOptions BaseOptions(uint64_t max_log_bytes);

// What KDN asks of every column family: XXH3 block checksums, Bloom filters, no compression.
rocksdb::ColumnFamilyOptions BaseFamilyOptions(const std::shared_ptr<rocksdb::Cache>& cache, size_t write_buffer_bytes);

// An open RocksDB with its column families. Thread-safe as RocksDB is; closed when destroyed.
class Database {
 public:
  struct Layout {
    rocksdb::DBOptions options;  // from BaseOptions
    std::shared_ptr<rocksdb::Env> env;
    std::string directory;
    std::string format;                                     // "index format 1", for messages
    std::string advice;                                     // what to do about files of a later format, for messages
    std::vector<rocksdb::ColumnFamilyDescriptor> families;  // RocksDB's own "default" is one of them
  };
  // DataLoss when files are damaged or missing or lack a family; FailedPrecondition for a family that the layout does
  // not have; otherwise what the machine refused.
  static absl::StatusOr<std::unique_ptr<Database>> Open(const Layout& layout, OpenMode mode);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  rocksdb::DB& db() { return *db_; }
  const FailureListener& failures() const { return *failures_; }
  // In the order of Layout::families.
  rocksdb::ColumnFamilyHandle* family(size_t index) { return handles_[index]; }
  const std::vector<rocksdb::ColumnFamilyHandle*>& families() const { return handles_; }

 private:
  Database() = default;

  std::shared_ptr<rocksdb::Env> env_;  // with the store, which opens the database again after a disk failed
  const std::shared_ptr<FailureListener> failures_ = std::make_shared<FailureListener>();  // with RocksDB
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;
};

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_DATABASE_H_
