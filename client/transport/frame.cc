#include "client/transport/frame.h"

#include <algorithm>
#include <cstring>

#include "kernels/base/status.h"

namespace kdn {
namespace {

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

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

// Reads across pieces. As ByteReader, a read past the end makes ok() false for good.
class PieceReader {
 public:
  explicit PieceReader(std::span<const ByteSpan> pieces) : pieces_(pieces) {
    for (const ByteSpan piece : pieces) remaining_ += piece.size();
    SkipEmpty();
  }

  bool ok() const { return ok_; }
  uint64_t remaining() const { return remaining_; }

  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const uint8_t byte = U8();
      if (!ok_) return 0;
      if (shift == 63 && byte > 1) break;
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    ok_ = false;
    return 0;
  }

  uint32_t Fixed32() {
    uint8_t bytes[4] = {};
    Copy(4, bytes);
    return LoadLe<uint32_t>(bytes);
  }

  // Calls `take` with the pieces of the next `count` bytes.
  template <typename Take>
  void ForEachPiece(uint64_t count, Take take) {
    if (count > remaining_) {
      ok_ = false;
      return;
    }
    remaining_ -= count;
    while (count > 0) {
      const ByteSpan rest = pieces_.front().subspan(at_);
      const size_t step = static_cast<size_t>(std::min<uint64_t>(count, rest.size()));
      take(rest.first(step));
      at_ += step;
      count -= step;
      SkipEmpty();
    }
  }

  void Skip(uint64_t count) {
    ForEachPiece(count, [](ByteSpan) {});
  }

  void Copy(uint64_t count, uint8_t* to) {
    ForEachPiece(count, [&to](ByteSpan piece) {
      std::memcpy(to, piece.data(), piece.size());
      to += piece.size();
    });
  }

 private:
  uint8_t U8() {
    if (remaining_ == 0) {
      ok_ = false;
      return 0;
    }
    const uint8_t byte = pieces_.front()[at_++];
    --remaining_;
    SkipEmpty();
    return byte;
  }

  void SkipEmpty() {
    while (!pieces_.empty() && at_ == pieces_.front().size()) {
      pieces_ = pieces_.subspan(1);
      at_ = 0;
    }
  }

  std::span<const ByteSpan> pieces_;
  size_t at_ = 0;
  uint64_t remaining_ = 0;
  bool ok_ = true;
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

uint32_t ExpectedWireType(uint32_t field) {
  switch (field) {
    case kCrc32c:
      return kFixed32;
    case kPartBegin:
    case kMissMessage:
    case kData:
      return kLengthDelimited;
    default:
      return kVarint;
  }
}

absl::Status SkipUnknown(PieceReader& reader, uint32_t field, uint32_t wire_type) {
  switch (wire_type) {
    case kVarint:
      reader.Varint();
      return absl::OkStatus();
    case kFixed64:
      reader.Skip(8);
      return absl::OkStatus();
    case kLengthDelimited: {
      const uint64_t length = reader.Varint();
      reader.Skip(length);
      return absl::OkStatus();
    }
    case kFixed32:
      reader.Skip(4);
      return absl::OkStatus();
    default:
      return InvalidArgument("retrieve frame: field ", field, " has wire type ", wire_type);
  }
}

absl::Status ReadDelimited(PieceReader& reader, uint32_t field, RetrieveFrameView& frame) {
  const uint64_t length = reader.Varint();
  if (!reader.ok() || length > reader.remaining()) {
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
  reader.Copy(length, reinterpret_cast<uint8_t*>(bytes.data()));
  if (field == kMissMessage) {
    frame.miss_message = std::move(bytes);
    return absl::OkStatus();
  }
  if (!frame.part_begin.ParseFromString(bytes)) return InvalidArgument("retrieve frame: part_begin does not parse");
  frame.has_part_begin = true;
  return absl::OkStatus();
}

void ReadScalar(PieceReader& reader, uint32_t field, RetrieveFrameView& frame) {
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
  PieceReader reader(pieces);
  uint32_t seen = 0;
  while (reader.ok() && reader.remaining() > 0) {
    const uint64_t tag = reader.Varint();
    if (!reader.ok() || tag > UINT32_MAX || tag >> 3 == 0) return InvalidArgument("retrieve frame: no valid tag");
    const uint32_t field = static_cast<uint32_t>(tag >> 3);
    const uint32_t wire_type = static_cast<uint32_t>(tag & 7);
    if ((field > kChunkEnd && field != kData) || wire_type != ExpectedWireType(field)) {
      KDN_RETURN_IF_ERROR(SkipUnknown(reader, field, wire_type));
      continue;
    }
    if ((seen >> field & 1) != 0) return InvalidArgument("retrieve frame: field ", field, " comes twice");
    seen |= uint32_t{1} << field;
    if (wire_type == kLengthDelimited) {
      KDN_RETURN_IF_ERROR(ReadDelimited(reader, field, frame));
    } else {
      ReadScalar(reader, field, frame);
    }
  }
  if (!reader.ok()) return InvalidArgument("retrieve frame: truncated or malformed");
  return absl::OkStatus();
}

std::vector<uint8_t> EncodeStoreFrameHeader(const StoreFrameHeader& header) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  if (header.begin != nullptr) {
    const std::string begin = header.begin->SerializeAsString();
    writer.U8(1 << 3 | kLengthDelimited);
    writer.Varint(begin.size());
    writer.Bytes(AsBytes(begin));
  }
  if (header.chunk_index != 0) {
    writer.U8(2 << 3 | kVarint);
    writer.Varint(header.chunk_index);
  }
  if (header.offset != 0) {
    writer.U8(3 << 3 | kVarint);
    writer.Varint(header.offset);
  }
  writer.U8(4 << 3 | kFixed32);
  writer.U32(header.crc32c);
  writer.U8(15 << 3 | kLengthDelimited);
  writer.Varint(header.data_bytes);
  return out;
}

}  // namespace kdn
