#ifndef KDN_KERNELS_BASE_BYTES_H_
#define KDN_KERNELS_BASE_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kernels/base/host_device.h"

// Byte spans, explicit little-endian coding, and a bounded reader and appending writer. Every persisted or transmitted
// integer of KDN goes through these: no struct is ever dumped.

namespace kdn {

using ByteSpan = std::span<const uint8_t>;
using MutableByteSpan = std::span<uint8_t>;

inline ByteSpan AsBytes(std::string_view text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }
inline std::string_view AsStringView(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Little-endian load and store of an unsigned integer at any alignment. The caller guarantees sizeof(T) bytes.
template <typename T>
KDN_HD constexpr T LoadLe(const uint8_t* p) {
  static_assert(std::is_unsigned_v<T>);
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | (static_cast<T>(p[i]) << (8 * i)));
  return value;
}

template <typename T>
KDN_HD constexpr void StoreLe(T value, uint8_t* p) {
  static_assert(std::is_unsigned_v<T>);
  for (size_t i = 0; i < sizeof(T); ++i) p[i] = static_cast<uint8_t>(value >> (8 * i));
}

// `value` rounded up to a multiple of `alignment` (a power of two). The caller guarantees that this does not overflow.
KDN_HD constexpr uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

constexpr uint64_t CeilDiv(uint64_t value, uint64_t divisor) { return value / divisor + (value % divisor != 0); }

// Appends to a byte vector it borrows. Not thread-safe.
class ByteWriter {
 public:
  explicit ByteWriter(std::vector<uint8_t>& out) : out_(out) {}

  template <typename T>
  void Le(T value) {
    const size_t at = out_.size();
    out_.resize(at + sizeof(T));
    StoreLe<T>(value, out_.data() + at);
  }
  void U8(uint8_t value) { out_.push_back(value); }
  void U16(uint16_t value) { Le<uint16_t>(value); }
  void U32(uint32_t value) { Le<uint32_t>(value); }
  void U64(uint64_t value) { Le<uint64_t>(value); }
  void F32(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    U32(bits);
  }
  // Unsigned LEB128, at most 10 bytes.
  void Varint(uint64_t value) {
    while (value >= 0x80) {
      U8(static_cast<uint8_t>(value | 0x80));
      value >>= 7;
    }
    U8(static_cast<uint8_t>(value));
  }
  // Zigzag, then LEB128.
  void SignedVarint(int64_t value) { Varint((static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63)); }
  void Bytes(ByteSpan bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  void PadTo(size_t alignment) { out_.resize(AlignUp(out_.size(), alignment)); }
  size_t size() const { return out_.size(); }

 private:
  std::vector<uint8_t>& out_;
};

// Reads from a span it borrows. A read past the end returns zero (or an empty span) and makes ok() false for good, so
// that a parser may read a group of fields and check once, before it uses any of them. Not thread-safe.
class ByteReader {
 public:
  explicit ByteReader(ByteSpan bytes) : bytes_(bytes) {}

  bool ok() const { return ok_; }
  size_t offset() const { return offset_; }
  size_t remaining() const { return bytes_.size() - offset_; }

  template <typename T>
  T Le() {
    const ByteSpan field = Bytes(sizeof(T));
    return field.empty() ? T{0} : LoadLe<T>(field.data());
  }
  uint8_t U8() { return Le<uint8_t>(); }
  uint16_t U16() { return Le<uint16_t>(); }
  uint32_t U32() { return Le<uint32_t>(); }
  uint64_t U64() { return Le<uint64_t>(); }
  float F32() {
    const uint32_t bits = U32();
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
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
  int64_t SignedVarint() {
    const uint64_t value = Varint();
    return static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1);
  }
  ByteSpan Bytes(size_t count) {
    if (!ok_ || count > remaining()) {
      ok_ = false;
      return {};
    }
    const ByteSpan field = bytes_.subspan(offset_, count);
    offset_ += count;
    return field;
  }

 private:
  ByteSpan bytes_;
  size_t offset_ = 0;
  bool ok_ = true;
};

// Lower-case hexadecimal of `bytes`.
std::string Hex(ByteSpan bytes);

// The bytes `hex` spells, in either case. Empty `ok` result (false) on an odd length or a character that is not a
// hexadecimal digit; `out` is then unspecified.
bool ParseHex(std::string_view hex, std::vector<uint8_t>& out);

}  // namespace kdn

#endif  // KDN_KERNELS_BASE_BYTES_H_
