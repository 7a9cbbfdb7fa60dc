#ifndef KDN_STORAGE_ROCKSDB_RESUMING_WRITER_H_
#define KDN_STORAGE_ROCKSDB_RESUMING_WRITER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "kernels/base/clock.h"
#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "rocksdb/listener.h"
#include "rocksdb/write_batch.h"

namespace kdn {

inline constexpr int64_t kResumeIntervalNanos = 1'000'000'000;
// How long opening a database again waits for calls in progress: one of them may be its own caller's visit.
inline constexpr int64_t kReopenPatienceMs = 100;

// Notices when RocksDB stops taking writes, and keeps it from resuming by itself then: with nothing in its memtables it
// would go on with the log whose append failed, where the next append ends the process (Debian builds RocksDB with
// assertions). Such a database is closed and opened again. Only a compaction that lacked space is left to RocksDB: it
// goes on writing meanwhile. One per open database; thread-safe.
class FailureListener final : public rocksdb::EventListener {
 public:
  bool failed() const { return failed_.load(); }

  void OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* status) override;
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason reason, rocksdb::Status status,
                            bool* auto_recovery) override;

 private:
  std::atomic<bool> failed_{false};
};

enum class WriteKind {
  kGrowing,    // refused while less than min_free_bytes is free
  kShrinking,  // deletions: may use what is left
};

// Writes to a database whose disk fills up now and then: refuses in time, resumes when there is space again.
// Thread-safe.
class ResumingWriter {
 public:
  struct Options {
    std::string path;  // in messages, and the file system whose free space counts
    std::shared_ptr<rocksdb::Env> env;
    const Clock* clock = nullptr;
    uint64_t min_free_bytes = 0;
  };
  explicit ResumingWriter(Options options) : options_(std::move(options)) {}

  // ResourceExhausted while the disk is full, Unavailable after other errors of the disk. `failures` belongs to `db`.
  absl::Status Write(rocksdb::DB& db, const FailureListener& failures, const rocksdb::WriteOptions& options,
                     rocksdb::WriteBatch& batch, WriteKind kind);

  // Makes every earlier write durable, by a synced write of one small row to `family`: FlushWAL on a broken log ends
  // the process as well.
  absl::Status Sync(rocksdb::DB& db, const FailureListener& failures, rocksdb::ColumnFamilyHandle* family);

  // True, at most once a second, when the database has to be opened again and there is space for it. The caller does
  // that, and says so.
  bool ShouldReopen();
  void Reopened() { broken_.store(false); }
  bool broken() const { return broken_.load(); }

 private:
  bool IsDue();
  absl::Status CheckSpace(uint64_t bytes) const;

  const Options options_;
  std::atomic<bool> broken_{false};  // only opening again helps
  std::atomic<bool> full_{false};    // the last failure was for want of space
  std::atomic<int64_t> tried_nanos_{0};
};

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_RESUMING_WRITER_H_
