#ifndef KDN_STORAGE_SEGMENT_RECORD_WALKER_H_
#define KDN_STORAGE_SEGMENT_RECORD_WALKER_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "storage/file/aligned_buffer.h"
#include "storage/file/file_system.h"
#include "storage/segment/format.h"

namespace kdn {

// One step of a walk through a segment.
struct WalkedRecord {
  uint64_t offset = 0;
  uint64_t end = 0;                                   // where the walk goes on
  std::optional<RecordHeader> header = std::nullopt;  // absent: bytes that are no record, up to the next intact one
  ByteSpan metadata = {};                             // of an intact value; valid until the next step
  absl::Status status = {};  // DataLoss: no header, damaged metadata, or a record that ends past the end
};

// Walks the records of a segment from the first one to `end` in the order written, from header to header, reading no
// payload. Voids and stretches that were never written (all zero) are passed over silently; after damage it searches,
// block by block, for the next intact header of this segment. Borrows `file`. Not thread-safe.
class RecordWalker {
 public:
  RecordWalker(File& file, const SegmentIdentity& segment, uint64_t end);

  // The next value or damaged stretch; nullopt at the end.
  std::optional<WalkedRecord> Next();
  // True when the device failed a read: what looked damaged may not be.
  bool met_read_error() const { return met_read_error_; }

 private:
  // The bytes of [offset, offset + bytes), cut at end_, in the window. Empty when they cannot be read.
  ByteSpan Load(uint64_t offset, uint64_t bytes);
  // The header at `offset`, when an intact one that belongs here stands there.
  std::optional<RecordHeader> HeaderAt(uint64_t offset, ByteSpan block) const;
  WalkedRecord Describe(const RecordHeader& header);
  // Searches for the next intact header from `offset` on. nullopt when nothing but zeros was passed.
  std::optional<WalkedRecord> PassGap(uint64_t offset);

  File& file_;
  const SegmentIdentity segment_;
  const uint64_t end_;
  AlignedBuffer window_;
  uint64_t position_ = kFirstRecordOffset;
  std::optional<uint64_t> last_sequence_;
  bool met_read_error_ = false;
};

// Whether the payload of `header` is what its checksum says, read through `scratch` (aligned, whole blocks). An error
// when the device failed the read.
absl::StatusOr<bool> PayloadIntact(File& file, const RecordHeader& header, MutableByteSpan scratch);

}  // namespace kdn

#endif  // KDN_STORAGE_SEGMENT_RECORD_WALKER_H_
