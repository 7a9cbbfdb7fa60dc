#include "storage/segment/segment.h"

#include <algorithm>
#include <utility>

#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"
#include "storage/file/aligned_buffer.h"
#include "storage/segment/record_walker.h"

namespace kdn {
namespace {

constexpr uint64_t kReadPieceBytes = 1 << 20;
constexpr uint64_t kScanScratchBytes = 1 << 20;
// A part that starts this close to the header is read together with it.
constexpr uint64_t kOneReadBytes = 64 * 1024;

absl::StatusOr<std::shared_ptr<AlignedBuffer>> NewBuffer(BufferCache& buffers, uint64_t bytes) {
  std::shared_ptr<AlignedBuffer> buffer = buffers.Take(bytes);
  if (buffer == nullptr) return ResourceExhausted("no memory for a read of ", bytes, " bytes");
  return buffer;
}

// Reads all of `to` in overlapping pieces and calls `ready` with each piece in order; DataLoss when the file ends
// before `to` is full.
template <typename Ready>
absl::Status ReadPieces(File& file, uint64_t offset, MutableByteSpan to, Ready&& ready) {
  if (to.size() <= kReadPieceBytes) {
    const auto got = file.ReadAt(offset, to);
    KDN_RETURN_IF_ERROR(got);
    if (*got < to.size()) return DataLoss("file ends at ", offset + *got);
    return ready(ByteSpan(to));
  }
  const std::unique_ptr<ReadQueue> queue = file.NewReadQueue();
  uint64_t submitted = 0;
  uint64_t done = 0;
  while (done < to.size()) {
    while (submitted < to.size() && queue->pending() < queue->max_pending()) {
      const uint64_t bytes = std::min<uint64_t>(kReadPieceBytes, to.size() - submitted);
      queue->Submit(offset + submitted, to.subspan(submitted, bytes));
      submitted += bytes;
    }
    const uint64_t expected = std::min<uint64_t>(kReadPieceBytes, to.size() - done);
    const auto got = queue->WaitOldest();
    KDN_RETURN_IF_ERROR(got);
    if (*got < expected) return DataLoss("file ends at ", offset + done + *got);
    KDN_RETURN_IF_ERROR(ready(ByteSpan(to.subspan(done, expected))));
    done += expected;
  }
  return absl::OkStatus();
}

}  // namespace

Segment::Segment(FileSystem& file_system, std::string path, const SegmentIdentity& identity, DirectIo direct_io)
    : file_system_(file_system), path_(std::move(path)), identity_(identity), direct_io_(direct_io) {}

void Segment::SetFile(std::shared_ptr<File> file) {
  absl::MutexLock lock(&mu_);
  file_ = std::move(file);
}

absl::StatusOr<std::shared_ptr<File>> Segment::OpenFile() {
  absl::MutexLock lock(&mu_);
  if (file_ == nullptr) {
    KDN_ASSIGN_OR_RETURN(file_, file_system_.Open(path_, OpenMode::kRead, direct_io_));
  }
  return file_;
}

bool Segment::is_open() const {
  absl::MutexLock lock(&mu_);
  return file_ != nullptr;
}

bool Segment::CloseIdleFile() {
  absl::MutexLock lock(&mu_);
  if (!state_.sealed || file_ == nullptr || file_.use_count() > 1) return false;
  file_ = nullptr;
  return true;
}

void Segment::SetState(const SegmentState& state) {
  absl::MutexLock lock(&mu_);
  state_ = state;
}

SegmentState Segment::state() const {
  absl::MutexLock lock(&mu_);
  return state_;
}

void Segment::MarkDead(uint64_t payload_bytes) {
  absl::MutexLock lock(&mu_);
  dead_bytes_ += std::min(payload_bytes, state_.payload_bytes - std::min(dead_bytes_, state_.payload_bytes));
}

ValueGroup Segment::Describe() const {
  absl::MutexLock lock(&mu_);
  return {.id = identity_.id,
          .disk_bytes = state_.disk_bytes,
          .live_bytes = state_.payload_bytes - std::min(dead_bytes_, state_.payload_bytes),
          .sealed = state_.sealed};
}

absl::Status Segment::CheckLocation(const ValueLocation& location) const {
  const uint64_t record = LocationRecordOffset(location);
  const uint64_t head = LocationHeadBytes(location);
  const bool sane = record >= kFirstRecordOffset && record <= UINT64_MAX / 2 && head >= kSegmentBlockBytes &&
                    head <= kMaxHeadBlocks * kSegmentBlockBytes && location.length <= kMaxPayloadBytes;
  if (!sane) {
    return DataLoss("no record of segment ", identity_.id, " has offset ", location.offset, " and length ",
                    location.length);
  }
  const uint64_t end = record + head + AlignUp(location.length, kSegmentBlockBytes);
  const uint64_t limit = state().disk_bytes;
  if (end > limit) {
    return DataLoss("record at offset ", record, " ends at ", end, ", past the end of segment ", identity_.id, " at ",
                    limit);
  }
  return absl::OkStatus();
}

absl::StatusOr<RecordHeader> Segment::CheckedHeader(const ValueLocation& location, ByteSpan head) const {
  KDN_ASSIGN_OR_RETURN(const RecordHeader header, ParseRecordHeader(head, identity_, LocationRecordOffset(location)));
  if (header.kind != RecordKind::kValue || !(LocationOf(header) == location)) {
    return DataLoss("the record at offset ", header.record_offset, " of segment ", identity_.id, " has ",
                    header.payload_bytes, " payload bytes, not the ", location.length, " asked for");
  }
  return header;
}

absl::StatusOr<SharedBytes> Segment::ReadWhole(File& file, const ValueLocation& location, BufferCache& buffers) {
  const uint64_t record = LocationRecordOffset(location);
  const uint64_t head = LocationHeadBytes(location);
  const uint64_t record_bytes = head + AlignUp(location.length, kSegmentBlockBytes);
  KDN_ASSIGN_OR_RETURN(const std::shared_ptr<AlignedBuffer> buffer, NewBuffer(buffers, record_bytes));
  // Checksums run behind the reads: the payload's part of each piece, while the next pieces are on their way.
  uint32_t crc = 0;
  uint64_t checked = 0;
  const auto check = [&](ByteSpan piece) {
    const uint64_t begin = std::max(checked, head);
    const uint64_t end = std::min(checked + piece.size(), head + location.length);
    if (begin < end) crc = Crc32cExtend(crc, piece.subspan(begin - checked, end - begin));
    checked += piece.size();
    return absl::OkStatus();
  };
  KDN_RETURN_IF_ERROR(ReadPieces(file, record, buffer->span().first(record_bytes), check));
  KDN_ASSIGN_OR_RETURN(const RecordHeader header, CheckedHeader(location, buffer->span()));
  if (crc != header.payload_crc) {
    return DataLoss("damaged payload at offset ", record, " of segment ", identity_.id);
  }
  return SharedBytes(buffer, buffer->span().subspan(head, location.length));
}

absl::StatusOr<SharedBytes> Segment::ReadPart(File& file, const ValueLocation& location, ByteRange range,
                                              BufferCache& buffers) {
  const uint64_t record = LocationRecordOffset(location);
  const uint64_t first = record + LocationHeadBytes(location) + range.offset;
  uint64_t begin = first & ~(kSegmentBlockBytes - 1);
  const uint64_t end = AlignUp(first + range.length, kSegmentBlockBytes);
  if (begin - record <= kOneReadBytes) {
    begin = record;
  } else {
    AlignedBuffer head(kSegmentBlockBytes);
    if (head.size() == 0) return ResourceExhausted("no memory for a record header");
    KDN_RETURN_IF_ERROR(ReadPieces(file, record, head.span(), [](ByteSpan) { return absl::OkStatus(); }));
    KDN_RETURN_IF_ERROR(CheckedHeader(location, head.span()));
  }
  KDN_ASSIGN_OR_RETURN(const std::shared_ptr<AlignedBuffer> buffer, NewBuffer(buffers, end - begin));
  KDN_RETURN_IF_ERROR(
      ReadPieces(file, begin, buffer->span().first(end - begin), [](ByteSpan) { return absl::OkStatus(); }));
  if (begin == record) KDN_RETURN_IF_ERROR(CheckedHeader(location, buffer->span()));
  return SharedBytes(buffer, buffer->span().subspan(first - begin, range.length));
}

absl::StatusOr<SharedBytes> Segment::Read(const ValueLocation& location, ByteRange range, BufferCache& buffers) {
  if (range.offset > location.length || range.length > location.length - range.offset) {
    return OutOfRange("range of ", range.length, " bytes at ", range.offset, " of a payload of ", location.length);
  }
  KDN_RETURN_IF_ERROR(CheckLocation(location));
  KDN_ASSIGN_OR_RETURN(const std::shared_ptr<File> file, OpenFile());
  auto bytes =
      range.length == location.length ? ReadWhole(*file, location, buffers) : ReadPart(*file, location, range, buffers);
  if (!bytes.ok()) return Annotate(bytes.status(), path_);
  return bytes;
}

absl::Status Segment::Scan(const ValueStore::ScanOptions& options,
                           const std::function<void(const ScannedValue&)>& visit) {
  const SegmentState state = this->state();
  if (!identity_.nonce.has_value()) {
    visit({.location = {.group = identity_.id, .offset = kFirstRecordOffset, .length = 0},
           .metadata = {},
           .status = DataLoss("segment ", identity_.id, " has neither an intact header nor an intact first record")});
    return absl::OkStatus();
  }
  KDN_ASSIGN_OR_RETURN(const std::shared_ptr<File> file, OpenFile());
  AlignedBuffer scratch(options.verify_payload ? kScanScratchBytes : 0);
  if (options.verify_payload && scratch.size() == 0) return ResourceExhausted("no memory to scan with");
  RecordWalker walker(*file, identity_, state.readable_end);
  while (auto record = walker.Next()) {
    ScannedValue value{.location = {.group = identity_.id, .offset = record->offset, .length = 0},
                       .metadata = record->metadata,
                       .status = record->status};
    if (record->header.has_value()) value.location = LocationOf(*record->header);
    if (value.status.ok() && options.verify_payload) {
      const auto intact = PayloadIntact(*file, *record->header, scratch.span());
      if (!intact.ok()) {
        value.status = DataLoss(FromAbsl(intact.status().message()));
      } else if (!*intact) {
        value.status = DataLoss("damaged payload at offset ", record->offset, " of segment ", identity_.id);
      }
    }
    visit(value);
  }
  return absl::OkStatus();
}

}  // namespace kdn
