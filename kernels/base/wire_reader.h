#ifndef KDN_KERNELS_BASE_WIRE_READER_H_
#define KDN_KERNELS_BASE_WIRE_READER_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>

#include "kernels/base/bytes.h"

namespace kdn {

// Wire types of the protobuf encoding that KDN reads; groups (3 and 4) are refused.
enum class WireType : uint32_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

struct WireTag {
  uint32_t field = 0;  // at least 1
  WireType type = WireType::kVarint;
};

// Reads the fields of one protobuf message whose bytes lie in several pieces, one behind the other, without joining
// them: what bulk messages are parsed with, so that their payload is copied once. The bytes are hostile. As with
// ByteReader, a read past the end returns zero and makes ok() false for good. Borrows the pieces; not thread-safe.
class WireReader {
 public:
  explicit WireReader(std::span<const ByteSpan> pieces) : pieces_(pieces) {
    for (const ByteSpan piece : pieces) remaining_ += piece.size();
    DropFinished();
  }

  bool ok() const { return ok_; }
  // True when every byte was read without an error.
  bool AtEnd() const { return ok_ && remaining_ == 0; }
  uint64_t remaining() const { return remaining_; }

  // The tag of the next field. ok() turns false on field number 0, one beyond 2^29 - 1, a wire type that is not read,
  // and more bytes than a tag may take.
  WireTag Tag() {
    const uint64_t tag = Varint(kMaxShortVarintBytes);
    const uint64_t field = tag >> 3;
    const uint64_t type = tag & 7;
    if (field == 0 || field >= uint64_t{1} << 29 || (type > 2 && type != 5)) ok_ = false;
    if (!ok_) return {};
    return {static_cast<uint32_t>(field), static_cast<WireType>(type)};
  }

  uint64_t Varint() { return Varint(kMaxVarintBytes); }

  uint32_t Fixed32() {
    uint8_t bytes[4] = {};
    Copy(bytes);
    return LoadLe<uint32_t>(bytes);
  }

  // The length of a length-delimited field, checked against what remains.
  uint64_t Length() {
    const uint64_t length = Varint(kMaxShortVarintBytes);
    if (length > remaining_) ok_ = false;
    return ok_ ? length : 0;
  }

  // Calls take(ByteSpan) for the pieces of the next `count` bytes, in order.
  template <typename Take>
  void ForEachPiece(uint64_t count, Take take) {
    if (!ok_ || count > remaining_) {
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
      DropFinished();
    }
  }

  // Fills `to` with the next bytes.
  void Copy(MutableByteSpan to) {
    uint8_t* at = to.data();
    ForEachPiece(to.size(), [&at](ByteSpan piece) {
      std::memcpy(at, piece.data(), piece.size());
      at += piece.size();
    });
  }

  // Reads past the value of a field of this type.
  void SkipValue(WireType type) {
    const auto ignore = [](ByteSpan) {};
    switch (type) {
      case WireType::kVarint:
        Varint();
        return;
      case WireType::kFixed64:
        return ForEachPiece(8, ignore);
      case WireType::kFixed32:
        return ForEachPiece(4, ignore);
      case WireType::kLengthDelimited:
        return ForEachPiece(Length(), ignore);
    }
  }

 private:
  static constexpr int kMaxVarintBytes = 10;
  static constexpr int kMaxShortVarintBytes = 5;  // of tags and lengths, as protobuf reads them

  uint64_t Varint(int max_bytes) {
    uint64_t value = 0;
    for (int i = 0; i < max_bytes; ++i) {
      const uint8_t byte = U8();
      if (!ok_) return 0;
      if (i == kMaxVarintBytes - 1 && byte > 1) break;
      value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
      if (byte < 0x80) return value;
    }
    ok_ = false;
    return 0;
  }

  uint8_t U8() {
    if (!ok_ || remaining_ == 0) {
      ok_ = false;
      return 0;
    }
    const uint8_t byte = pieces_.front()[at_++];
    --remaining_;
    DropFinished();
    return byte;
  }

  void DropFinished() {
    while (!pieces_.empty() && at_ == pieces_.front().size()) {
      pieces_ = pieces_.subspan(1);
      at_ = 0;
    }
  }

  std::span<const ByteSpan> pieces_;
  size_t at_ = 0;  // in the first piece
  uint64_t remaining_ = 0;
  bool ok_ = true;
};

}  // namespace kdn

#endif  // KDN_KERNELS_BASE_WIRE_READER_H_
