#include "client/transport/retrieve_assembler.h"

#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"

namespace kdn {

std::string_view ClientMissReasonName(MissReason reason) {
  switch (reason) {
    case MissReason::kAbsent:
      return "absent";
    case MissReason::kExpired:
      return "expired";
    case MissReason::kEvicted:
      return "evicted";
    case MissReason::kCorrupt:
      return "corrupt";
    case MissReason::kIncompatible:
      return "incompatible";
    case MissReason::kTimeout:
      return "timeout";
    case MissReason::kOverBudget:
      return "over_budget";
    case MissReason::kIncomplete:
      return "incomplete";
    case MissReason::kUnavailable:
      return "unavailable";
  }
  return "unknown";
}

absl::Status RetrieveAssembler::Add(const RetrieveFrameView& frame) {
  if (complete()) return InvalidArgument("retrieve stream: a frame after the end of the last chunk");
  if (frame.chunk_index != chunk_) {
    return InvalidArgument("retrieve stream: frame of chunk ", frame.chunk_index, " while chunk ", chunk_, " is due");
  }
  if (frame.miss != 0) {
    if (frame.data_bytes > 0 || frame.has_part_begin) {
      return InvalidArgument("retrieve stream: a miss with data, chunk ", chunk_);
    }
    const bool known = frame.miss <= static_cast<uint32_t>(MissReason::kIncomplete);
    Fail(known ? static_cast<MissReason>(frame.miss) : MissReason::kAbsent, frame.miss_message);
    EndChunk();
    return absl::OkStatus();
  }
  if (frame.has_part_begin) KDN_RETURN_IF_ERROR(BeginPart(frame));
  if (frame.data_bytes > 0) KDN_RETURN_IF_ERROR(AddData(frame));
  if (!frame.chunk_end) return absl::OkStatus();
  if (InPart()) {
    return InvalidArgument("retrieve stream: chunk ", chunk_, " ends with ", part_sent_ - part_received_,
                           " bytes of part ", next_part_ - 1, " missing");
  }
  EndChunk();
  return absl::OkStatus();
}

absl::Status RetrieveAssembler::BeginPart(const RetrieveFrameView& frame) {
  const v1::PartBegin& begin = frame.part_begin;
  if (InPart() || frame.part != next_part_ || frame.part >= kMaxPartsPerChunk) {
    return InvalidArgument("retrieve stream: part ", frame.part, " of chunk ", chunk_, " begins out of order");
  }
  if (begin.header_bytes() == 0 || begin.header_bytes() > begin.sent_bytes() ||
      begin.sent_bytes() > begin.container_bytes()) {
    return InvalidArgument("retrieve stream: part ", frame.part, " of chunk ", chunk_, " announces header ",
                           begin.header_bytes(), ", sent ", begin.sent_bytes(), ", container ", begin.container_bytes(),
                           " bytes");
  }
  ++next_part_;
  part_bytes_ = begin.container_bytes();
  part_header_bytes_ = begin.header_bytes();
  part_sent_ = begin.sent_bytes();
  part_received_ = 0;
  part_next_offset_ = 0;
  if (failed_) return absl::OkStatus();
  absl::StatusOr<MutableByteSpan> memory = sink_.OnPartBegin(chunk_, frame.part, begin);
  if (!memory.ok()) {
    Fail(memory.status());
  } else {
    memory_ = *memory;
  }
  return absl::OkStatus();
}

absl::Status RetrieveAssembler::AddData(const RetrieveFrameView& frame) {
  if (!InPart() || frame.part + 1 != next_part_) {
    return InvalidArgument("retrieve stream: data outside of a part, chunk ", chunk_, " part ", frame.part);
  }
  const bool gap_allowed = part_next_offset_ >= part_header_bytes_ && part_sent_ < part_bytes_;
  const bool in_order = frame.offset == part_next_offset_ || (gap_allowed && frame.offset > part_next_offset_);
  if (!in_order || frame.offset > part_bytes_ || frame.data_bytes > part_bytes_ - frame.offset ||
      frame.data_bytes > part_sent_ - part_received_) {
    return InvalidArgument("retrieve stream: ", frame.data_bytes, " bytes at offset ", frame.offset, " of part ",
                           frame.part, ", chunk ", chunk_, ", where ", part_next_offset_, " is due");
  }
  received_bytes_ += frame.data_bytes;
  part_received_ += frame.data_bytes;
  part_next_offset_ = frame.offset + frame.data_bytes;
  if (failed_) return absl::OkStatus();
  uint32_t crc = 0;
  uint8_t* to = memory_.data() + frame.offset;
  for (const ByteSpan piece : frame.data) {
    crc = CopyAndCrc32c(crc, piece, to);
    to += piece.size();
  }
  if (crc != frame.crc32c) {
    Fail(MissReason::kCorrupt, StrCat("frame at offset ", frame.offset, " of part ", frame.part, " has CRC ", crc,
                                      ", announced was ", frame.crc32c));
    return absl::OkStatus();
  }
  absl::Status status = sink_.OnPartProgress(chunk_, frame.part, part_next_offset_);
  if (status.ok() && !InPart()) status = sink_.OnPartEnd(chunk_, frame.part);
  if (!status.ok()) Fail(status);
  return absl::OkStatus();
}

void RetrieveAssembler::EndChunk() {
  if (!failed_) sink_.OnChunkEnd(chunk_);
  ++chunk_;
  next_part_ = 0;
  failed_ = false;
  memory_ = {};
  part_bytes_ = part_sent_ = part_received_ = 0;
}

void RetrieveAssembler::Fail(MissReason reason, std::string_view message) {
  if (failed_) return;
  failed_ = true;
  memory_ = {};
  sink_.OnChunkMiss(chunk_, reason, message);
}

void RetrieveAssembler::Fail(const absl::Status& status) {
  MissReason reason = MissReason::kIncompatible;
  if (status.code() == absl::StatusCode::kResourceExhausted) reason = MissReason::kOverBudget;
  if (status.code() == absl::StatusCode::kDataLoss) reason = MissReason::kCorrupt;
  Fail(reason, FromAbsl(status.message()));
}

}  // namespace kdn
