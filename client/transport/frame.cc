#include "client/transport/frame.h"

#include "kernels/base/status.h"
#include "kernels/base/wire_reader.h"

namespace kdn {
namespace {

// Field numbers of kdn.v1.RetrieveFrame.
enum Field : uint32_t {
  kChunkIndex = 1,
  kPart = 2,
  kOffset = 3,
  kCrc32c = 4,
  kPartBegin = 5,
  kMiss = 6,
  kMissMessage = 7,
  kChunkEnd = 8,
  kData = 15,
};

void Reset(RetrieveFrameView& frame) {
  frame.chunk_index = 0;
  frame.part = 0;
  frame.offset = 0;
  frame.crc32c = 0;
  frame.has_part_begin = false;
  frame.miss = 0;
  frame.miss_message.clear();
  frame.chunk_end = false;
  frame.data.clear();
  frame.data_bytes = 0;
}

WireType TypeOf(uint32_t field) {
  switch (field) {
    case kCrc32c:
      return WireType::kFixed32;
    case kPartBegin:
    case kMissMessage:
    case kData:
      return WireType::kLengthDelimited;
    default:
      return WireType::kVarint;
  }
}

absl::Status ReadDelimited(WireReader& reader, uint32_t field, RetrieveFrameView& frame) {
  const uint64_t length = reader.Length();
  if (!reader.ok()) {
    return InvalidArgument("retrieve frame: field ", field, " runs past the end of the message");
  }
  if (field == kData) {
    if (length > kMaxFrameDataBytes) {
      return InvalidArgument("retrieve frame: ", length, " bytes of data, at most ", kMaxFrameDataBytes);
    }
    frame.data_bytes = length;
    reader.ForEachPiece(length, [&frame](ByteSpan piece) { frame.data.push_back(piece); });
    return absl::OkStatus();
  }
  const uint32_t limit = field == kPartBegin ? kMaxPartBeginBytes : kMaxMissMessageBytes;
  if (length > limit)
    return InvalidArgument("retrieve frame: field ", field, " has ", length, " bytes, at most ", limit);
  std::string bytes(length, '\0');
  reader.Copy({reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()});
  if (field == kMissMessage) {
    frame.miss_message = std::move(bytes);
    return absl::OkStatus();
  }
  if (!frame.part_begin.ParseFromString(bytes)) return InvalidArgument("retrieve frame: part_begin does not parse");
  frame.has_part_begin = true;
  return absl::OkStatus();
}

void ReadScalar(WireReader& reader, uint32_t field, RetrieveFrameView& frame) {
  if (field == kCrc32c) {
    frame.crc32c = reader.Fixed32();
    return;
  }
  const uint64_t value = reader.Varint();
  switch (field) {
    case kChunkIndex:
      frame.chunk_index = static_cast<uint32_t>(value);
      break;
    case kPart:
      frame.part = static_cast<uint32_t>(value);
      break;
    case kOffset:
      frame.offset = value;
      break;
    case kMiss:
      frame.miss = static_cast<uint32_t>(value);
      break;
    case kChunkEnd:
      frame.chunk_end = value != 0;
      break;
    default:
      break;
  }
}

}  // namespace

absl::Status ParseRetrieveFrame(std::span<const ByteSpan> pieces, RetrieveFrameView& frame) {
  Reset(frame);
  WireReader reader(pieces);
  uint32_t seen = 0;
  while (reader.ok() && reader.remaining() > 0) {
    const WireTag tag = reader.Tag();
    if (!reader.ok()) break;
    if ((tag.field > kChunkEnd && tag.field != kData) || tag.type != TypeOf(tag.field)) {
      reader.SkipValue(tag.type);
      continue;
    }
    if ((seen >> tag.field & 1) != 0) return InvalidArgument("retrieve frame: field ", tag.field, " comes twice");
    seen |= uint32_t{1} << tag.field;
    if (tag.type == WireType::kLengthDelimited) {
      KDN_RETURN_IF_ERROR(ReadDelimited(reader, tag.field, frame));
    } else {
      ReadScalar(reader, tag.field, frame);
    }
  }
  if (!reader.ok()) return InvalidArgument("retrieve frame: truncated or malformed");
  return absl::OkStatus();
}

namespace {

constexpr uint8_t TagByte(uint32_t field, WireType type) {
  return static_cast<uint8_t>(field << 3 | static_cast<uint32_t>(type));
}

}  // namespace

std::vector<uint8_t> EncodeStoreFrameHeader(const StoreFrameHeader& header) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  if (header.begin != nullptr) {
    const std::string begin = header.begin->SerializeAsString();
    writer.U8(TagByte(1, WireType::kLengthDelimited));
    writer.Varint(begin.size());
    writer.Bytes(AsBytes(begin));
  }
  if (header.chunk_index != 0) {
    writer.U8(TagByte(2, WireType::kVarint));
    writer.Varint(header.chunk_index);
  }
  if (header.offset != 0) {
    writer.U8(TagByte(3, WireType::kVarint));
    writer.Varint(header.offset);
  }
  writer.U8(TagByte(4, WireType::kFixed32));
  writer.U32(header.crc32c);
  writer.U8(TagByte(15, WireType::kLengthDelimited));
  writer.Varint(header.data_bytes);
  return out;
}

}  // namespace kdn
