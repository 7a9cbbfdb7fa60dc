#include "storage/rocksdb/resuming_writer.h"

#include "kernels/base/status.h"
#include "storage/rocksdb/rocks_status.h"

namespace kdn {

void ResumingWriter::ResumeIfDue(rocksdb::DB& db) {
  const int64_t now = clock_.MonotonicNanos();
  int64_t tried = tried_nanos_.load();
  if (now - tried < kResumeIntervalNanos || !tried_nanos_.compare_exchange_strong(tried, now)) return;
  db.Resume().PermitUncheckedError();  // the write that follows tells
}

absl::Status ResumingWriter::Write(rocksdb::DB& db, const rocksdb::WriteOptions& options, rocksdb::WriteBatch& batch) {
  if (failing()) ResumeIfDue(db);
  const absl::Status written = FromRocks(db.Write(options, &batch), what_);
  failing_.store(!written.ok(), std::memory_order_relaxed);
  return written;
}

absl::Status ResumingWriter::Sync(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family) {
  rocksdb::WriteBatch batch;
  KDN_RETURN_IF_ERROR(FromRocks(batch.Put(family, "synced", ""), what_));
  rocksdb::WriteOptions options;
  options.sync = true;
  return Write(db, options, batch);
}

}  // namespace kdn
