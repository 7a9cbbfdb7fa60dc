#include "storage/segment/segment_appender.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/base/crc32c.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

namespace kdn {
namespace {

// Below this a copy costs less than a gathered write.
constexpr uint64_t kMinInPlaceBytes = 64 * 1024;

// Writes header, metadata and the zeros up to the payload into `out` (header.HeadBytes()).
void FillHead(const RecordHeader& header, ByteSpan metadata, uint8_t* out) {
  EncodeRecordHeader(header, out);
  std::copy(metadata.begin(), metadata.end(), out + kRecordHeaderBytes);
  std::fill(out + kRecordHeaderBytes + metadata.size(), out + header.HeadBytes(), uint8_t{0});
}

bool IsAligned(const uint8_t* address) { return reinterpret_cast<uintptr_t>(address) % kIoAlignment == 0; }

}  // namespace

SegmentAppender::SegmentAppender(std::shared_ptr<Segment> segment, std::shared_ptr<File> file, const Limits& limits,
                                 SpaceCheck space_check)
    : segment_(std::move(segment)), file_(std::move(file)), limits_(limits), space_check_(std::move(space_check)) {
  absl::MutexLock lock(&mu_);
  Publish();
}

absl::Status SegmentAppender::Extend(uint64_t end) {
  // The footer's block is always part of the allocation, so that a full disk cannot keep a segment from being sealed.
  const uint64_t needed = end + kSegmentBlockBytes;
  if (needed <= allocated_) return absl::OkStatus();
  const uint64_t step = std::min(allocated_ + limits_.allocation_bytes, limits_.segment_bytes);
  absl::Status status;
  for (const uint64_t target : {std::max(step, needed), needed}) {
    status = space_check_(target - allocated_);
    if (status.ok() && can_allocate_) status = file_->Allocate(allocated_, target - allocated_);
    if (absl::IsUnimplemented(status)) {
      can_allocate_ = false;
      status = absl::OkStatus();
    }
    if (status.ok()) {
      allocated_ = target;
      return status;
    }
    if (!absl::IsResourceExhausted(status)) break;
  }
  return status;
}

absl::StatusOr<std::optional<SegmentAppender::Reservation>> SegmentAppender::Reserve(uint64_t record_bytes) {
  absl::MutexLock lock(&mu_);
  const uint64_t end = tail_ + record_bytes;
  const bool fits = end + kSegmentBlockBytes <= limits_.segment_bytes || tail_ == kFirstRecordOffset;
  if (stage_ != Stage::kOpen || broken_ || !fits) return std::optional<Reservation>();
  const absl::Status extended = Extend(end);
  if (!extended.ok()) {
    if (!absl::IsResourceExhausted(extended)) broken_ = true;
    return Annotate(extended, segment_->path());
  }
  const Reservation reservation{.offset = tail_, .bytes = record_bytes, .sequence = next_sequence_++};
  tail_ = end;
  in_flight_.insert(reservation.offset);
  Publish();
  return std::optional<Reservation>(reservation);
}

absl::Status SegmentAppender::WriteCopied(RecordHeader& header, ByteSpan metadata, const Payload& given,
                                          MutableByteSpan stage) {
  ByteSpan payload = given.bytes;
  const uint64_t head = header.HeadBytes();
  const uint64_t bytes = RecordBytes(metadata.size(), payload.size());
  if (bytes <= stage.size()) {
    if (given.crc.has_value()) {
      header.payload_crc = *given.crc;
      std::copy(payload.begin(), payload.end(), stage.data() + head);
    } else {
      header.payload_crc = CopyAndCrc32c(0, payload, stage.data() + head);
    }
    std::fill(stage.data() + head + payload.size(), stage.data() + bytes, uint8_t{0});
    FillHead(header, metadata, stage.data());
    return file_->WriteAt(header.record_offset, stage.first(bytes));
  }
  // The header goes first, so that the file grows in order: the checksum has to be known before the copy.
  header.payload_crc = given.crc.has_value() ? *given.crc : Crc32c(payload);
  FillHead(header, metadata, stage.data());
  uint64_t offset = header.record_offset;
  uint64_t used = head;
  while (true) {
    const ByteSpan piece = payload.first(std::min<uint64_t>(payload.size(), stage.size() - used));
    std::copy(piece.begin(), piece.end(), stage.data() + used);
    const uint64_t filled = AlignUp(used + piece.size(), kSegmentBlockBytes);
    std::fill(stage.data() + used + piece.size(), stage.data() + filled, uint8_t{0});
    KDN_RETURN_IF_ERROR(file_->WriteAt(offset, stage.first(filled)));
    payload = payload.subspan(piece.size());
    if (payload.empty()) return absl::OkStatus();
    offset += filled;
    used = 0;
  }
}

absl::Status SegmentAppender::WriteInPlace(RecordHeader& header, ByteSpan metadata, const Payload& given,
                                           MutableByteSpan stage) {
  const ByteSpan payload = given.bytes;
  const uint64_t head = header.HeadBytes();
  const ByteSpan body = payload.first(payload.size() & ~(kSegmentBlockBytes - 1));
  const ByteSpan rest = payload.subspan(body.size());
  header.payload_crc = given.crc.has_value() ? *given.crc : Crc32c(payload);
  FillHead(header, metadata, stage.data());
  const MutableByteSpan last = stage.subspan(head, AlignUp(rest.size(), kSegmentBlockBytes));
  std::copy(rest.begin(), rest.end(), last.begin());
  std::fill(last.begin() + static_cast<int64_t>(rest.size()), last.end(), uint8_t{0});
  const ByteSpan pieces[] = {stage.first(head), body, last};
  return file_->WriteAt(header.record_offset, std::span<const ByteSpan>(pieces, last.empty() ? 2 : 3));
}

absl::Status SegmentAppender::WriteRecord(const Reservation& reservation, RecordHeader& header, ByteSpan metadata,
                                          const Payload& payload, BufferPool& staging) {
  header.segment_id = segment_->identity().id;
  header.segment_nonce = segment_->identity().nonce.value_or(0);
  header.record_offset = reservation.offset;
  header.sequence = reservation.sequence;
  header.payload_bytes = payload.bytes.size();
  header.metadata_bytes = static_cast<uint32_t>(metadata.size());
  header.metadata_crc = Crc32c(metadata);
  AlignedBuffer stage = staging.Take();
  if (stage.size() == 0) return ResourceExhausted("no memory to write from");
  // Direct I/O takes the payload from where it is only if it starts on a block.
  const bool in_place =
      payload.bytes.size() >= kMinInPlaceBytes && (!file_->direct_io() || IsAligned(payload.bytes.data()));
  const absl::Status status = in_place ? WriteInPlace(header, metadata, payload, stage.span())
                                       : WriteCopied(header, metadata, payload, stage.span());
  staging.Return(std::move(stage));
  return status;
}

absl::Status SegmentAppender::WriteVoid(RecordHeader header) {
  AlignedBuffer block(kSegmentBlockBytes);
  if (block.size() == 0) return ResourceExhausted("no memory to write from");
  std::fill(block.span().begin(), block.span().end(), uint8_t{0});
  header.kind = RecordKind::kVoid;
  EncodeRecordHeader(header, block.data());
  return file_->WriteAt(header.record_offset, block.span());
}

void SegmentAppender::FinishWrite(const Reservation& reservation, const RecordHeader& header,
                                  const absl::Status& written) {
  bool is_last = false;
  if (!written.ok()) {
    absl::MutexLock lock(&mu_);
    if (!absl::IsResourceExhausted(written)) broken_ = true;
    is_last = reservation.offset + reservation.bytes == tail_;
    // The next record, or the footer, goes over what was written.
    if (is_last) tail_ = reservation.offset;
  }
  const bool undone = written.ok() || is_last || WriteVoid(header).ok();
  absl::MutexLock lock(&mu_);
  if (!undone) broken_ = true;
  if (written.ok()) {
    ++records_;
    payload_bytes_ += header.payload_bytes;
  }
  in_flight_.erase(reservation.offset);
  Publish();
}

absl::StatusOr<ValueLocation> SegmentAppender::Write(const Reservation& reservation, ByteSpan metadata,
                                                     const Payload& payload, BufferPool& staging) {
  RecordHeader header;
  const absl::Status written = WriteRecord(reservation, header, metadata, payload, staging);
  FinishWrite(reservation, header, written);
  SealIfIdle();
  if (!written.ok()) return Annotate(written, segment_->path());
  return LocationOf(header);
}

absl::Status SegmentAppender::Sync() {
  absl::MutexLock lock(&mu_);
  const uint64_t wanted = records_;
  while (synced_records_ < wanted && sync_error_.ok() && syncing_) changed_.Wait(&mu_);
  if (synced_records_ >= wanted) return absl::OkStatus();
  if (!sync_error_.ok()) return sync_error_;
  const uint64_t covered = records_;
  syncing_ = true;
  mu_.Unlock();
  const absl::Status status = file_->Sync();
  mu_.Lock();
  syncing_ = false;
  if (status.ok()) {
    synced_records_ = covered;
  } else {
    // The kernel may drop what it failed to write and report it once: a second flush that succeeds proves nothing.
    sync_error_ = Annotate(status, segment_->path());
    broken_ = true;
    Log(LogLevel::kError, "segment flush failed", {{"path", segment_->path()}, {"error", status.ToString()}});
  }
  changed_.SignalAll();
  return sync_error_;
}

void SegmentAppender::Retire() {
  {
    absl::MutexLock lock(&mu_);
    if (stage_ == Stage::kOpen) stage_ = Stage::kRetired;
  }
  SealIfIdle();
}

void SegmentAppender::SealIfIdle() {
  SegmentState state;
  bool broken = false;
  {
    absl::MutexLock lock(&mu_);
    if (stage_ != Stage::kRetired || !in_flight_.empty()) return;
    stage_ = Stage::kSealing;
    state = {.readable_end = tail_, .record_count = records_, .payload_bytes = payload_bytes_};
    broken = broken_;
  }
  // The mark vouches for the records, so they must be durable before it can be.
  absl::Status sealed = Sync();
  if (sealed.ok()) sealed = broken ? FailedPrecondition("a write failed") : WriteMark(state);
  absl::MutexLock lock(&mu_);
  stage_ = Stage::kSealed;
  if (sealed.ok()) {
    allocated_ = tail_ + kSegmentBlockBytes;
  } else {
    Log(LogLevel::kWarn, "segment left without its clean-close mark",
        {{"path", segment_->path()}, {"error", sealed.ToString()}});
  }
  Publish();
  changed_.SignalAll();
}

absl::Status SegmentAppender::WriteMark(const SegmentState& state) {
  AlignedBuffer block(kSegmentBlockBytes);
  if (block.size() == 0) return ResourceExhausted("no memory to write from");
  EncodeSegmentFooter({.id = segment_->identity().id,
                       .nonce = segment_->identity().nonce.value_or(0),
                       .record_count = state.record_count,
                       .payload_bytes = state.payload_bytes,
                       .data_end = state.readable_end},
                      block.data());
  KDN_RETURN_IF_ERROR(file_->WriteAt(state.readable_end, block.span()));
  return file_->Truncate(state.readable_end + kSegmentBlockBytes);
}

void SegmentAppender::WaitSealed() {
  absl::MutexLock lock(&mu_);
  while (stage_ != Stage::kSealed) changed_.Wait(&mu_);
}

bool SegmentAppender::IsUnused() const {
  absl::MutexLock lock(&mu_);
  return next_sequence_ == 0;
}

absl::Status SegmentAppender::sync_error() const {
  absl::MutexLock lock(&mu_);
  return sync_error_;
}

void SegmentAppender::Publish() {
  segment_->SetState({.readable_end = in_flight_.empty() ? tail_ : *in_flight_.begin(),
                      .disk_bytes = std::max(allocated_, tail_),
                      .record_count = records_,
                      .payload_bytes = payload_bytes_,
                      .sealed = stage_ == Stage::kSealed});
}

}  // namespace kdn
