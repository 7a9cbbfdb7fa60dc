#ifndef KDN_STORAGE_SEGMENT_SEGMENT_APPENDER_H_
#define KDN_STORAGE_SEGMENT_SEGMENT_APPENDER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "storage/file/aligned_buffer.h"
#include "storage/segment/segment.h"

namespace kdn {

// The writing side of one segment. Writers reserve a stretch each and write them side by side; one flush covers every
// write that was complete when it began. Thread-safe.
//
// Life: open -> retired (full, broken or asked to) -> sealed, by the thread that finishes the last write. A segment is
// broken after a failed flush or a failed write that could not be undone: it takes no more records and gets no
// clean-close mark, so that the next start looks at every record.
class SegmentAppender {
 public:
  struct Limits {
    uint64_t segment_bytes = 0;     // a record that is larger gets a segment of its own
    uint64_t allocation_bytes = 0;  // disk space is reserved ahead in steps of this
  };
  // Says whether so many more bytes of disk may be taken: ResourceExhausted when not.
  using SpaceCheck = std::function<absl::Status(uint64_t bytes)>;

  struct Reservation {
    uint64_t offset = 0;
    uint64_t bytes = 0;
    uint64_t sequence = 0;
  };

  // The bytes of a record, with their CRC-32C where it is known already.
  struct Payload {
    ByteSpan bytes;
    std::optional<uint32_t> crc = std::nullopt;
  };

  // `file` holds the durable segment header and nothing else.
  SegmentAppender(std::shared_ptr<Segment> segment, std::shared_ptr<File> file, const Limits& limits,
                  SpaceCheck space_check);

  const std::shared_ptr<Segment>& segment() const { return segment_; }

  // Takes the next stretch, which must be given to Write. nullopt when this segment takes no more: retire it and go on
  // in a new one. ResourceExhausted when the disk is full; nothing has changed then.
  absl::StatusOr<std::optional<Reservation>> Reserve(uint64_t record_bytes);

  // Writes the record into its stretch. After an error the stretch is given back or made a void.
  absl::StatusOr<ValueLocation> Write(const Reservation& reservation, ByteSpan metadata, const Payload& payload,
                                      BufferPool& staging);

  // Makes every write durable that had returned before the call. The first error is final for this segment.
  absl::Status Sync();

  // Takes no more reservations, and seals as soon as no write is in flight: here, or in the last Write.
  void Retire();
  // Waits until sealed. Call after Retire.
  void WaitSealed();
  // True as long as nothing was ever reserved.
  bool IsUnused() const;
  // The error that kept written records of this segment from becoming durable; OK when there was none.
  absl::Status sync_error() const;

 private:
  absl::Status Extend(uint64_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status WriteRecord(const Reservation& reservation, RecordHeader& header, ByteSpan metadata,
                           const Payload& payload, BufferPool& staging);
  // Through `stage`, which holds at least a head and a block; a record that fits is written at once.
  absl::Status WriteCopied(RecordHeader& header, ByteSpan metadata, const Payload& given, MutableByteSpan stage);
  // The payload from where it is, head and last block through `stage`.
  absl::Status WriteInPlace(RecordHeader& header, ByteSpan metadata, const Payload& given, MutableByteSpan stage);
  void FinishWrite(const Reservation& reservation, const RecordHeader& header, const absl::Status& written);
  // Leaves a void where a failed write is followed by others.
  absl::Status WriteVoid(RecordHeader header);
  void SealIfIdle();
  absl::Status WriteMark(const SegmentState& state);
  void Publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::shared_ptr<Segment> segment_;
  const std::shared_ptr<File> file_;
  const Limits limits_;
  const SpaceCheck space_check_;

  enum class Stage { kOpen, kRetired, kSealing, kSealed };

  mutable absl::Mutex mu_;
  absl::CondVar changed_;
  Stage stage_ ABSL_GUARDED_BY(mu_) = Stage::kOpen;
  bool broken_ ABSL_GUARDED_BY(mu_) = false;
  bool can_allocate_ ABSL_GUARDED_BY(mu_) = true;
  uint64_t tail_ ABSL_GUARDED_BY(mu_) = kFirstRecordOffset;
  uint64_t allocated_ ABSL_GUARDED_BY(mu_) = kFirstRecordOffset;
  uint64_t next_sequence_ ABSL_GUARDED_BY(mu_) = 0;
  std::set<uint64_t> in_flight_ ABSL_GUARDED_BY(mu_);  // offsets
  uint64_t records_ ABSL_GUARDED_BY(mu_) = 0;          // written; also the clock of group commit
  uint64_t payload_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t synced_records_ ABSL_GUARDED_BY(mu_) = 0;
  bool syncing_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status sync_error_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kdn

#endif  // KDN_STORAGE_SEGMENT_SEGMENT_APPENDER_H_
