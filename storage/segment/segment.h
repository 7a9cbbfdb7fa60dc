#ifndef KDN_STORAGE_SEGMENT_SEGMENT_H_
#define KDN_STORAGE_SEGMENT_SEGMENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "storage/blob/value_store.h"
#include "storage/file/aligned_buffer.h"
#include "storage/file/file_system.h"
#include "storage/segment/format.h"

namespace kdn {

// What is known of a segment without reading its records.
struct SegmentState {
  uint64_t readable_end = kFirstRecordOffset;  // records before it are complete, or voids
  uint64_t disk_bytes = 0;
  uint64_t record_count = 0;
  uint64_t payload_bytes = 0;
  bool sealed = false;
};

// One segment file as its readers see it. The appender (while there is one) keeps the state up to date. Thread-safe.
class Segment {
 public:
  // The file is opened at the first use, unless SetFile gave it.
  Segment(FileSystem& file_system, std::string path, const SegmentIdentity& identity, DirectIo direct_io);

  const SegmentIdentity& identity() const { return identity_; }
  const std::string& path() const { return path_; }

  // See ValueStore::Get. Reads into memory from `buffers`.
  absl::StatusOr<SharedBytes> Read(const ValueLocation& location, ByteRange range, BufferCache& buffers);
  // See ValueStore::Scan.
  absl::Status Scan(const ValueStore::ScanOptions& options, const std::function<void(const ScannedValue&)>& visit);

  void SetFile(std::shared_ptr<File> file);
  // The open file; opens it when it is not.
  absl::StatusOr<std::shared_ptr<File>> OpenFile();
  bool is_open() const;
  // Lets go of the file when the segment is sealed and no reader is using it. Returns whether it did.
  bool CloseIdleFile();

  void SetState(const SegmentState& state);
  SegmentState state() const;
  void MarkDead(uint64_t payload_bytes);
  ValueGroup Describe() const;

 private:
  absl::Status CheckLocation(const ValueLocation& location) const;
  absl::StatusOr<SharedBytes> ReadWhole(File& file, const ValueLocation& location, BufferCache& buffers);
  absl::StatusOr<SharedBytes> ReadPart(File& file, const ValueLocation& location, ByteRange range,
                                       BufferCache& buffers);
  // The header of the record at `location`, from the first bytes of the record; DataLoss when it is another one.
  absl::StatusOr<RecordHeader> CheckedHeader(const ValueLocation& location, ByteSpan head) const;

  FileSystem& file_system_;
  const std::string path_;
  const SegmentIdentity identity_;
  const DirectIo direct_io_;

  mutable absl::Mutex mu_;
  std::shared_ptr<File> file_ ABSL_GUARDED_BY(mu_);
  SegmentState state_ ABSL_GUARDED_BY(mu_);
  uint64_t dead_bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace kdn

#endif  // KDN_STORAGE_SEGMENT_SEGMENT_H_
