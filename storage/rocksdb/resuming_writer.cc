#include "storage/rocksdb/resuming_writer.h"

#include "kernels/base/status.h"
#include "storage/rocksdb/rocks_status.h"

namespace kdn {
void FailureListener::OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* status) {
  const bool goes_on = reason == rocksdb::BackgroundErrorReason::kCompaction &&
                       status->severity() < rocksdb::Status::Severity::kHardError;
  if (!goes_on) failed_.store(true);
}

void FailureListener::OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason reason, rocksdb::Status,
                                           bool* auto_recovery) {
  if (reason != rocksdb::BackgroundErrorReason::kCompaction) *auto_recovery = false;
}

bool ResumingWriter::IsDue() {
  const int64_t now = options_.clock->MonotonicNanos();
  int64_t tried = tried_nanos_.load();
  return now - tried >= kResumeIntervalNanos && tried_nanos_.compare_exchange_strong(tried, now);
}

absl::Status ResumingWriter::CheckSpace(uint64_t bytes) const {
  if (options_.min_free_bytes == 0) return absl::OkStatus();
  uint64_t free_bytes = 0;
  KDN_RETURN_IF_ERROR(FromRocks(options_.env->GetFreeSpace(options_.path, &free_bytes), options_.path));
  if (free_bytes >= options_.min_free_bytes && free_bytes - options_.min_free_bytes >= bytes) return absl::OkStatus();
  return ResourceExhausted(options_.path, ": ", free_bytes, " bytes free; ", bytes, " would be written and ",
                           options_.min_free_bytes, " stay free");
}

bool ResumingWriter::ShouldReopen() { return broken_.load() && IsDue() && CheckSpace(0).ok(); }

absl::Status ResumingWriter::Write(rocksdb::DB& db, const FailureListener& failures,
                                   const rocksdb::WriteOptions& options, rocksdb::WriteBatch& batch, WriteKind kind) {
  if (broken_.load() || failures.failed()) {
    broken_.store(true);
    return full_.load() ? ResourceExhausted(options_.path, ": the disk was full; writing resumes when there is space")
                        : Unavailable(options_.path, ": writing failed; it resumes when the disk takes it");
  }
  if (kind == WriteKind::kGrowing) KDN_RETURN_IF_ERROR(CheckSpace(batch.GetDataSize()));
  const absl::Status written = FromRocks(db.Write(options, &batch), options_.path);
  if (!written.ok()) {
    full_.store(absl::IsResourceExhausted(written));
    if (failures.failed()) broken_.store(true);
  }
  return written;
}

absl::Status ResumingWriter::Sync(rocksdb::DB& db, const FailureListener& failures,
                                  rocksdb::ColumnFamilyHandle* family) {
  rocksdb::WriteBatch batch;
  KDN_RETURN_IF_ERROR(FromRocks(batch.Put(family, "synced", ""), options_.path));
  rocksdb::WriteOptions options;
  options.sync = true;
  return Write(db, failures, options, batch, WriteKind::kShrinking);
}

}  // namespace kdn
