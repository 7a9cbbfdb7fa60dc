#ifndef KDN_STORAGE_ROCKSDB_RESUMING_WRITER_H_
#define KDN_STORAGE_ROCKSDB_RESUMING_WRITER_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "kernels/base/clock.h"
#include "rocksdb/db.h"
#include "rocksdb/write_batch.h"

namespace kdn {

inline constexpr int64_t kResumeIntervalNanos = 1'000'000'000;

// Writes to a RocksDB that refuses everything after an error of the disk until it has resumed. RocksDB does that by
// itself from most states once there is space; from the others this asks it to, at most once a second, when somebody
// wants to write. Thread-safe.
class ResumingWriter {
 public:
  // `clock` is borrowed; `what` is the name of the database in messages.
  ResumingWriter(const Clock& clock, std::string what) : clock_(clock), what_(std::move(what)) {}

  // ResourceExhausted while the disk is full.
  absl::Status Write(rocksdb::DB& db, const rocksdb::WriteOptions& options, rocksdb::WriteBatch& batch);

  // Makes every earlier write durable, by a synced write of one small row to `family`. Not by FlushWAL: Debian's
  // RocksDB is built with assertions, and syncing a log whose last append failed ends the process there.
  absl::Status Sync(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family);

  bool failing() const { return failing_.load(std::memory_order_relaxed); }

 private:
  void ResumeIfDue(rocksdb::DB& db);

  const Clock& clock_;
  const std::string what_;
  std::atomic<bool> failing_{false};
  std::atomic<int64_t> tried_nanos_{0};
};

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_RESUMING_WRITER_H_
