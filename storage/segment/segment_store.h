#ifndef KDN_STORAGE_SEGMENT_SEGMENT_STORE_H_
#define KDN_STORAGE_SEGMENT_SEGMENT_STORE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "kernels/base/clock.h"
#include "storage/blob/value_store.h"
#include "storage/file/aligned_buffer.h"
#include "storage/file/file_system.h"
#include "storage/segment/segment.h"
#include "storage/segment/segment_appender.h"

namespace kdn {

struct SegmentStoreOptions {
  std::string path;                              // directory of the segment files; created when absent
  uint64_t segment_bytes = 256 * 1024 * 1024;    // at least 64 KiB; a larger record gets a segment of its own
  uint64_t allocation_bytes = 64 * 1024 * 1024;  // disk is reserved ahead in such steps
  SyncMode sync = SyncMode::kBatch;
  int64_t sync_interval_ms = 50;  // of SyncMode::kBatch
  uint64_t reserve_bytes = 0;     // free space of the file system that Puts leave alone
  DirectIo direct_io = DirectIo::kAuto;
  // Numbers nobody can guess; one is drawn per segment. Default: std::random_device.
  std::function<uint64_t()> random = nullptr;
};

// Values in append-only segment files: see README.md and SEGMENT_FORMAT.md. Group ids are segment ids and are never
// used twice, whatever happened to the files. Thread-safe; Puts and Gets run side by side.
class SegmentStore : public ValueStore {
 public:
  // Takes up the directory, repairing what the last process left torn. FailedPrecondition when another store has it
  // open, or when a newer program wrote it. `file_system` and `clock` must outlive the store.
  static absl::StatusOr<std::unique_ptr<SegmentStore>> Open(const SegmentStoreOptions& options, FileSystem& file_system,
                                                            const Clock& clock);
  ~SegmentStore() override;

  absl::StatusOr<ValueLocation> Put(ByteSpan metadata, ByteSpan payload) override;
  absl::StatusOr<ValueLocation> PutChecked(ByteSpan metadata, ByteSpan payload, uint32_t payload_crc) override;
  absl::StatusOr<SharedBytes> Get(const ValueLocation& location, ByteRange range) override;
  absl::Status Sync(uint64_t failures_before) override;
  uint64_t flush_failures() const override;
  void MarkDead(const ValueLocation& location) override;
  std::vector<ValueGroup> Groups() const override;
  absl::Status SealActive() override;
  absl::Status DropGroup(uint64_t group) override;
  absl::Status Scan(uint64_t group, const ScanOptions& options,
                    const std::function<void(const ScannedValue&)>& visit) override;
  uint64_t DiskBytes() const override;
  absl::Status Close() override;

  // Whether segments are written past the page cache: with DirectIo::kAuto the file system decides.
  bool direct_io() const { return direct_io_; }

 private:
  absl::StatusOr<ValueLocation> Append(ByteSpan metadata, const SegmentAppender::Payload& payload);
  SegmentStore(const SegmentStoreOptions& options, FileSystem& file_system, const Clock& clock);

  absl::Status Recover();
  absl::Status ProbeDirectIo();
  absl::Status CheckSpace(uint64_t bytes) const;
  std::string PathOf(uint64_t id) const;
  std::shared_ptr<Segment> Find(uint64_t group) const;
  absl::StatusOr<std::shared_ptr<Segment>> FindOpen(uint64_t group);
  // The appender that takes the next record; creates one when there is none.
  absl::StatusOr<std::shared_ptr<SegmentAppender>> Active();
  absl::StatusOr<std::shared_ptr<SegmentAppender>> CreateSegment() ABSL_EXCLUSIVE_LOCKS_REQUIRED(append_mu_);
  // Writes and syncs the header of a new segment file, and its directory entry.
  absl::StatusOr<std::shared_ptr<File>> CreateFile(const std::string& path, const SegmentIdentity& identity);
  // Takes `appender` out of use (if it still is in use) and seals it as soon as its writes are done.
  void Retire(const std::shared_ptr<SegmentAppender>& appender);
  // Flushes all that is appended to; what fails is noted.
  void SyncAppenders();
  // Notes the failures of those that take no more records, and forgets the sealed ones among them.
  void SettleRetired() ABSL_EXCLUSIVE_LOCKS_REQUIRED(append_mu_);
  void NoteFailure(uint64_t group, const absl::Status& failure) ABSL_EXCLUSIVE_LOCKS_REQUIRED(append_mu_);
  absl::Status LeaveIdMarker() ABSL_EXCLUSIVE_LOCKS_REQUIRED(append_mu_);
  void RemoveIdMarker() ABSL_EXCLUSIVE_LOCKS_REQUIRED(append_mu_);
  void RunFlusher();
  void StopFlusher();

  const SegmentStoreOptions options_;
  FileSystem& file_system_;
  const Clock& clock_;
  std::unique_ptr<FileLock> lock_;
  bool direct_io_ = false;
  BufferPool staging_;
  BufferCache read_buffers_;

  // Lock order: append_mu_ before segments_mu_.
  mutable absl::Mutex append_mu_;
  bool closed_ ABSL_GUARDED_BY(append_mu_) = false;
  uint64_t next_id_ ABSL_GUARDED_BY(append_mu_) = 1;
  // A file without records whose name keeps the highest id from being used again.
  std::optional<std::string> id_marker_ ABSL_GUARDED_BY(append_mu_);
  std::shared_ptr<SegmentAppender> active_ ABSL_GUARDED_BY(append_mu_);
  std::vector<std::shared_ptr<SegmentAppender>> retiring_ ABSL_GUARDED_BY(append_mu_);
  uint64_t flush_failures_ ABSL_GUARDED_BY(append_mu_) = 0;
  // Groups with acknowledged values that may not be durable, and the number of the failure.
  struct FailedFlush {
    uint64_t number = 0;
    absl::Status status;
  };
  std::map<uint64_t, FailedFlush> failed_flushes_ ABSL_GUARDED_BY(append_mu_);

  mutable absl::Mutex segments_mu_;
  std::map<uint64_t, std::shared_ptr<Segment>> segments_ ABSL_GUARDED_BY(segments_mu_);
  std::deque<std::weak_ptr<Segment>> open_segments_ ABSL_GUARDED_BY(segments_mu_);

  absl::Mutex flusher_mu_;
  absl::CondVar flusher_wake_;
  bool flusher_stop_ ABSL_GUARDED_BY(flusher_mu_) = false;
  std::thread flusher_;
};

}  // namespace kdn

#endif  // KDN_STORAGE_SEGMENT_SEGMENT_STORE_H_
