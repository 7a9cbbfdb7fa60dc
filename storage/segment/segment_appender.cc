#include "storage/segment/segment_appender.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/base/crc32c.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

namespace kdn {
namespace {

// Waits for the oldest write and checks that it moved anything; a queue reports a partial write as an error.
absl::Status FinishOldest(IoQueue& queue) { return queue.WaitOldest().status(); }

absl::Status FinishAll(IoQueue& queue) {
  absl::Status first;
  while (queue.pending() > 0) first.Update(FinishOldest(queue));
  return first;
}

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
    // A refused allocation may have taken a part of what it was asked for.
    if (can_allocate_) file_->Truncate(allocated_).IgnoreError();
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

absl::Status SegmentAppender::WriteSmall(RecordHeader& header, ByteSpan metadata, ByteSpan payload,
                                         AlignedBuffer& buffer) {
  const uint64_t head = header.HeadBytes();
  const uint64_t bytes = RecordBytes(metadata.size(), payload.size());
  header.payload_crc = CopyAndCrc32c(0, payload, buffer.data() + head);
  std::fill(buffer.data() + head + payload.size(), buffer.data() + bytes, uint8_t{0});
  FillHead(header, metadata, buffer.data());
  return file_->WriteAt(header.record_offset, buffer.span().first(bytes));
}

absl::Status SegmentAppender::SubmitPayload(RecordHeader& header, ByteSpan payload, IoQueue& queue,
                                            std::vector<AlignedBuffer>& stages) {
  const uint64_t offset = header.PayloadOffset();
  const uint64_t piece_bytes = stages[0].size();
  const bool in_place = !file_->direct_io() || IsAligned(payload.data());
  uint64_t slot = 0;
  for (uint64_t done = 0; done < payload.size(); done += piece_bytes, slot = (slot + 1) % stages.size()) {
    while (queue.pending() >= stages.size()) KDN_RETURN_IF_ERROR(FinishOldest(queue));
    const ByteSpan piece = payload.subspan(done, std::min<uint64_t>(piece_bytes, payload.size() - done));
    const uint64_t rounded = AlignUp(piece.size(), kSegmentBlockBytes);
    if (in_place && rounded == piece.size()) {
      queue.SubmitWrite(offset + done, piece);
      header.payload_crc = Crc32cExtend(header.payload_crc, piece);
      continue;
    }
    uint8_t* stage = stages[slot].data();
    header.payload_crc = CopyAndCrc32c(header.payload_crc, piece, stage);
    std::fill(stage + piece.size(), stage + rounded, uint8_t{0});
    queue.SubmitWrite(offset + done, ByteSpan(stage, rounded));
  }
  return absl::OkStatus();
}

absl::Status SegmentAppender::WriteLarge(RecordHeader& header, ByteSpan metadata, ByteSpan payload,
                                         BufferPool& staging) {
  std::vector<AlignedBuffer> stages;
  AlignedBuffer head = staging.Take();
  absl::Status status;
  {
    // Destroyed before the buffers it writes from.
    const std::unique_ptr<IoQueue> queue = file_->NewQueue();
    bool have_memory = head.size() > 0;
    for (size_t i = 0; i < queue->max_pending(); ++i) {
      stages.push_back(staging.Take());
      have_memory = have_memory && stages.back().size() > 0;
    }
    status =
        have_memory ? SubmitPayload(header, payload, *queue, stages) : ResourceExhausted("no memory to write from");
    if (status.ok()) {
      // The header goes last: only now the checksum is known.
      FillHead(header, metadata, head.data());
      queue->SubmitWrite(header.record_offset, head.span().first(header.HeadBytes()));
    }
    status.Update(FinishAll(*queue));
  }
  for (AlignedBuffer& stage : stages) staging.Return(std::move(stage));
  staging.Return(std::move(head));
  return status;
}

absl::Status SegmentAppender::WriteRecord(const Reservation& reservation, RecordHeader& header, ByteSpan metadata,
                                          ByteSpan payload, BufferPool& staging) {
  header.segment_id = segment_->identity().id;
  header.segment_nonce = segment_->identity().nonce.value_or(0);
  header.record_offset = reservation.offset;
  header.sequence = reservation.sequence;
  header.payload_bytes = payload.size();
  header.metadata_bytes = static_cast<uint32_t>(metadata.size());
  header.metadata_crc = Crc32c(metadata);
  if (reservation.bytes > staging.buffer_bytes()) return WriteLarge(header, metadata, payload, staging);
  AlignedBuffer buffer = staging.Take();
  if (buffer.size() == 0) return ResourceExhausted("no memory to write from");
  const absl::Status status = WriteSmall(header, metadata, payload, buffer);
  staging.Return(std::move(buffer));
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
                                                     ByteSpan payload, BufferPool& staging) {
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
