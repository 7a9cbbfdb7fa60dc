#ifndef KDN_STORAGE_SEGMENT_FORMAT_H_
#define KDN_STORAGE_SEGMENT_FORMAT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "storage/blob/value_store.h"
#include "storage/file/file_system.h"

// The bytes of a segment file, as specified in SEGMENT_FORMAT.md. Pure coding: no files here. Whatever is parsed is
// taken as hostile.

namespace kdn {

inline constexpr uint64_t kSegmentBlockBytes = kIoAlignment;
inline constexpr uint64_t kFirstRecordOffset = kSegmentBlockBytes;
inline constexpr uint64_t kRecordHeaderBytes = 64;
inline constexpr uint64_t kMaxMetadataBytes = 64 * 1024;
inline constexpr uint64_t kMaxPayloadBytes = uint64_t{1} << 30;
inline constexpr uint64_t kMaxHeadBlocks = (kRecordHeaderBytes + kMaxMetadataBytes) / kSegmentBlockBytes + 1;

// Which segment a record must belong to. The nonce is drawn at creation: bytes of another segment, of an earlier store
// on the same disk, or made up inside a payload do not carry it. Unknown only when the segment's own header is damaged.
struct SegmentIdentity {
  uint64_t id = 0;
  std::optional<uint64_t> nonce = std::nullopt;
};

struct SegmentHeader {
  uint64_t id = 0;
  uint64_t nonce = 0;
  uint64_t created_wall_ms = 0;
};

// The clean-close mark: the last block of a sealed segment.
struct SegmentFooter {
  uint64_t id = 0;
  uint64_t nonce = 0;
  uint64_t record_count = 0;   // values, not voids
  uint64_t payload_bytes = 0;  // of those values
  uint64_t data_end = 0;       // offset of the footer itself
};

enum class RecordKind : uint8_t {
  kValue = 0,
  kVoid = 1,  // a write that failed: space to be skipped
};

struct RecordHeader {
  RecordKind kind = RecordKind::kValue;
  uint64_t segment_id = 0;
  uint64_t segment_nonce = 0;
  uint64_t record_offset = 0;  // where this header stands
  uint64_t sequence = 0;       // strictly ascending within a segment
  uint64_t payload_bytes = 0;
  uint32_t metadata_bytes = 0;
  uint32_t metadata_crc = 0;
  uint32_t payload_crc = 0;

  // Bytes from the header to the payload: header, metadata, padding.
  uint64_t HeadBytes() const { return AlignUp(kRecordHeaderBytes + metadata_bytes, kSegmentBlockBytes); }
  uint64_t PayloadOffset() const { return record_offset + HeadBytes(); }
  // Offset of the next record.
  uint64_t End() const { return PayloadOffset() + AlignUp(payload_bytes, kSegmentBlockBytes); }
};

// Bytes a record of these sizes takes in its segment.
inline uint64_t RecordBytes(uint64_t metadata_bytes, uint64_t payload_bytes) {
  return AlignUp(kRecordHeaderBytes + metadata_bytes, kSegmentBlockBytes) + AlignUp(payload_bytes, kSegmentBlockBytes);
}

// Each writes one whole block.
void EncodeSegmentHeader(const SegmentHeader& header, uint8_t* block);
void EncodeSegmentFooter(const SegmentFooter& footer, uint8_t* block);
// Writes kRecordHeaderBytes.
void EncodeRecordHeader(const RecordHeader& header, uint8_t* out);

// DataLoss when `block` (kSegmentBlockBytes) is not an intact one; FailedPrecondition when it is intact and of a newer
// major version, which this program must not touch.
absl::StatusOr<SegmentHeader> ParseSegmentHeader(ByteSpan block);
absl::StatusOr<SegmentFooter> ParseSegmentFooter(ByteSpan block);

// The record header at `record_offset` of the segment: `bytes` holds at least its kRecordHeaderBytes. DataLoss when it
// is damaged, of another segment or offset, or declares more than the limits above. Whether the record ends inside the
// file is the caller's question.
absl::StatusOr<RecordHeader> ParseRecordHeader(ByteSpan bytes, const SegmentIdentity& segment, uint64_t record_offset);

// DataLoss unless `metadata` is what `header` says. `head` is the record from its header on.
absl::StatusOr<ByteSpan> RecordMetadata(const RecordHeader& header, ByteSpan head);

// A location's offset: the record's (a multiple of the block) with the number of head blocks in the low 12 bits, so
// that the payload's place is known without a read.
uint64_t EncodeLocationOffset(uint64_t record_offset, uint64_t head_bytes);
inline uint64_t LocationRecordOffset(const ValueLocation& location) {
  return location.offset & ~(kSegmentBlockBytes - 1);
}
inline uint64_t LocationHeadBytes(const ValueLocation& location) {
  return (location.offset & (kSegmentBlockBytes - 1)) * kSegmentBlockBytes;
}
ValueLocation LocationOf(const RecordHeader& header);

// File name of a segment: 20 decimal digits and ".seg". The inverse gives nullopt for every other name.
std::string SegmentFileName(uint64_t id);
std::optional<uint64_t> ParseSegmentFileName(std::string_view name);

}  // namespace kdn

#endif  // KDN_STORAGE_SEGMENT_FORMAT_H_
