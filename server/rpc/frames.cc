#include "server/rpc/frames.h"

#include <algorithm>
#include <string>
#include <utility>

#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"
#include "kernels/base/wire_reader.h"

namespace kdn {
namespace {

// Field numbers of kdn.v1.StoreFrame.
enum StoreField : uint32_t { kStoreBegin = 1, kStoreChunkIndex = 2, kStoreOffset = 3, kStoreCrc32c = 4, kData = 15 };

// Field numbers of kdn.v1.RetrieveFrame; data is field 15 in both.
enum RetrieveField : uint32_t {
  kChunkIndex = 1,
  kPart = 2,
  kOffset = 3,
  kCrc32c = 4,
  kPartBegin = 5,
  kMiss = 6,
  kMissMessage = 7,
  kChunkEnd = 8,
};

// nullopt for fields that are not known.
std::optional<WireType> TypeOf(uint32_t field) {
  switch (field) {
    case kStoreChunkIndex:
    case kStoreOffset:
      return WireType::kVarint;
    case kStoreCrc32c:
      return WireType::kFixed32;
    case kStoreBegin:
    case kData:
      return WireType::kLengthDelimited;
    default:
      return std::nullopt;
  }
}

absl::Status ReadBegin(WireReader& reader, StoreFrameView& frame) {
  const uint64_t length = reader.Length();
  if (length > kMaxStoreBeginBytes) {
    return InvalidArgument("store frame: begin of ", length, " bytes, at most ", kMaxStoreBeginBytes);
  }
  std::string bytes(length, '\0');
  reader.Copy({reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()});
  if (!reader.ok() || !frame.begin.ParseFromString(bytes)) return InvalidArgument("store frame: begin does not parse");
  frame.has_begin = true;
  return absl::OkStatus();
}

absl::Status ReadField(WireReader& reader, uint32_t field, StoreFrameView& frame) {
  switch (field) {
    case kStoreBegin:
      return ReadBegin(reader, frame);
    case kStoreChunkIndex:
      frame.chunk_index = static_cast<uint32_t>(reader.Varint());  // protobuf truncates, too
      break;
    case kStoreOffset:
      frame.offset = reader.Varint();
      break;
    case kStoreCrc32c:
      frame.crc32c = reader.Fixed32();
      break;
    case kData:
      frame.data_bytes = reader.Length();
      reader.ForEachPiece(frame.data_bytes, [&frame](ByteSpan piece) { frame.data.push_back(piece); });
      break;
    default:
      break;
  }
  return absl::OkStatus();
}

void Reset(StoreFrameView& frame) {
  frame.has_begin = false;
  frame.begin.Clear();
  frame.chunk_index = 0;
  frame.offset = 0;
  frame.crc32c = 0;
  frame.data.clear();
  frame.data_bytes = 0;
}

void WriteTag(ByteWriter& writer, uint32_t field, WireType type) {
  writer.U8(static_cast<uint8_t>(field << 3 | static_cast<uint32_t>(type)));
}

void WriteVarint(ByteWriter& writer, uint32_t field, uint64_t value) {
  if (value == 0) return;
  WriteTag(writer, field, WireType::kVarint);
  writer.Varint(value);
}

void WriteBytes(ByteWriter& writer, uint32_t field, std::string_view bytes) {
  WriteTag(writer, field, WireType::kLengthDelimited);
  writer.Varint(bytes.size());
  writer.Bytes(AsBytes(bytes));
}

std::string SerializedBegin(const RetrievedPart& part) {
  v1::PartBegin begin;
  begin.set_container_bytes(part.container_bytes);
  begin.set_header_bytes(part.header_bytes);
  const std::vector<uint8_t> bitmap = part.cells.ToBytes();
  begin.mutable_cells()->set_bitmap(bitmap.data(), bitmap.size());
  uint64_t sent_bytes = 0;
  for (const RetrievedPart::Slice& slice : part.slices) sent_bytes += slice.bytes.size();
  begin.set_sent_bytes(sent_bytes);
  begin.set_tier(part.from_ram ? "ram" : "disk");
  return begin.SerializeAsString();
}

}  // namespace

absl::Status ParseStoreFrame(std::span<const ByteSpan> pieces, StoreFrameView& frame) {
  Reset(frame);
  WireReader reader(pieces);
  uint32_t seen = 0;
  while (reader.ok() && reader.remaining() > 0) {
    const WireTag tag = reader.Tag();
    if (!reader.ok()) break;
    const std::optional<WireType> type = TypeOf(tag.field);
    if (!type.has_value()) {
      reader.SkipValue(tag.type);
      continue;
    }
    if (tag.type != *type) {
      return InvalidArgument("store frame: field ", tag.field, " has wire type ", static_cast<uint32_t>(tag.type));
    }
    if ((seen >> tag.field & 1) != 0) return InvalidArgument("store frame: field ", tag.field, " comes twice");
    seen |= uint32_t{1} << tag.field;
    KDN_RETURN_IF_ERROR(ReadField(reader, tag.field, frame));
  }
  if (!reader.AtEnd()) return InvalidArgument("store frame: truncated or malformed");
  return absl::OkStatus();
}

ChunkFramer::ChunkFramer(uint32_t chunk_index, RetrievedChunk chunk, uint64_t max_frame_bytes)
    : chunk_index_(chunk_index), chunk_(std::move(chunk)), max_frame_bytes_(max_frame_bytes) {
  DropEmpty();
}

RetrieveFrame ChunkFramer::Next() {
  if (chunk_.miss.has_value()) return MissFrame();
  RetrieveFrame frame;
  ByteWriter writer(frame.header);
  frame.header.reserve(64);
  WriteVarint(writer, kChunkIndex, chunk_index_);
  if (part_ == chunk_.parts.size()) {  // a chunk without parts
    done_ = true;
    WriteVarint(writer, kChunkEnd, 1);
    return frame;
  }
  const size_t part = part_;
  const bool begins = !part_begun_;
  uint64_t offset = 0;
  RetrieveFrame payload = TakePayload(offset);
  frame.payload = std::move(payload.payload);
  frame.payload_bytes = payload.payload_bytes;
  uint32_t crc = 0;
  uint64_t piece_offset = offset;
  for (const SharedBytes& piece : frame.payload) {
    BlockChecksums* const known = chunk_.parts[part].checksums.get();
    crc = known != nullptr ? known->Extend(crc, piece_offset, piece.span()) : Crc32cExtend(crc, piece.span());
    piece_offset += piece.size();
  }
  WriteVarint(writer, kPart, part);
  WriteVarint(writer, kOffset, offset);
  WriteTag(writer, kCrc32c, WireType::kFixed32);
  writer.U32(crc);
  if (begins) WriteBytes(writer, kPartBegin, SerializedBegin(chunk_.parts[part]));
  done_ = part_ == chunk_.parts.size();
  if (done_) WriteVarint(writer, kChunkEnd, 1);
  if (frame.payload_bytes > 0) {
    WriteTag(writer, kData, WireType::kLengthDelimited);
    writer.Varint(frame.payload_bytes);
  }
  return frame;
}

RetrieveFrame ChunkFramer::MissFrame() {
  done_ = true;
  RetrieveFrame frame;
  ByteWriter writer(frame.header);
  WriteVarint(writer, kChunkIndex, chunk_index_);
  WriteVarint(writer, kMiss, static_cast<uint64_t>(*chunk_.miss));
  if (!chunk_.miss_message.empty()) {
    WriteBytes(writer, kMissMessage, std::string_view(chunk_.miss_message).substr(0, kMaxMissMessageBytes));
  }
  return frame;
}

RetrieveFrame ChunkFramer::TakePayload(uint64_t& offset) {
  RetrieveFrame frame;
  const RetrievedPart& part = chunk_.parts[part_];
  part_begun_ = true;
  if (slice_ < part.slices.size()) offset = part.slices[slice_].offset + at_;
  while (slice_ < part.slices.size() && frame.payload_bytes < max_frame_bytes_ &&
         frame.payload.size() < kMaxPiecesPerFrame) {
    const RetrievedPart::Slice& slice = part.slices[slice_];
    if (slice.offset + at_ != offset + frame.payload_bytes) break;
    const uint64_t count = std::min(slice.bytes.size() - at_, max_frame_bytes_ - frame.payload_bytes);
    if (count > 0) frame.payload.push_back(slice.bytes.Slice(at_, count));
    frame.payload_bytes += count;
    at_ += count;
    if (at_ == slice.bytes.size()) {
      ++slice_;
      at_ = 0;
    }
  }
  DropEmpty();
  return frame;
}

// Moves on from what has nothing left to send, so that done() and chunk_end are known with the last payload.
void ChunkFramer::DropEmpty() {
  while (part_ < chunk_.parts.size()) {
    const std::vector<RetrievedPart::Slice>& slices = chunk_.parts[part_].slices;
    while (slice_ < slices.size() && at_ == slices[slice_].bytes.size()) {
      ++slice_;
      at_ = 0;
    }
    if (slice_ < slices.size() || !part_begun_) return;
    ++part_;
    slice_ = 0;
    part_begun_ = false;
  }
}

uint64_t PayloadBytes(const RetrievedChunk& chunk) {
  uint64_t bytes = 0;
  for (const RetrievedPart& part : chunk.parts) {
    for (const RetrievedPart::Slice& slice : part.slices) bytes += slice.bytes.size();
  }
  return bytes;
}

}  // namespace kdn
