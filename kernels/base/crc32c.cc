#include "kernels/base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace kdn {
namespace {

// ISA-L takes an int length; a step that fits the L1 cache keeps copy and checksum on the same lines.
constexpr size_t kMaxIsalBytes = size_t{1} << 30;
constexpr size_t kCopyStepBytes = 16 * 1024;

// Polynomials over GF(2) modulo the CRC's own, as CRCs are: the highest bit is the coefficient of x^0.
constexpr uint32_t kReflectedPolynomial = 0x82f63b78;
constexpr uint32_t kOne = uint32_t{1} << 31;
constexpr uint32_t kX = kOne >> 1;

constexpr uint32_t Multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (; a != 0; a <<= 1) {
    if ((a & kOne) != 0) product ^= b;
    b = (b >> 1) ^ ((b & 1) != 0 ? kReflectedPolynomial : 0);
  }
  return product;
}

// x^(8 * 2^i): what appending 2^i bytes does to a CRC.
constexpr std::array<uint32_t, 64> BytePowers() {
  std::array<uint32_t, 64> powers{};
  uint32_t power = kX;
  for (int i = 0; i < 3; ++i) power = Multiply(power, power);
  for (uint32_t& entry : powers) {
    entry = power;
    power = Multiply(power, power);
  }
  return powers;
}

constexpr std::array<uint32_t, 64> kBytePowers = BytePowers();

}  // namespace

uint32_t Crc32cExtend(uint32_t crc, ByteSpan bytes) {
  uint32_t state = ~crc;
  while (!bytes.empty()) {
    const size_t step = std::min(bytes.size(), kMaxIsalBytes);
    // The cast away from const is ISA-L's signature; crc32_iscsi only reads.
    state = crc32_iscsi(const_cast<uint8_t*>(bytes.data()), static_cast<int>(step), state);
    bytes = bytes.subspan(step);
  }
  return ~state;
}

uint32_t Crc32c(ByteSpan bytes) { return Crc32cExtend(0, bytes); }

uint32_t Crc32cCombine(uint32_t crc_a, uint32_t crc_b, uint64_t b_bytes) {
  // The inversions at both ends of a CRC cancel: what is left of A's part is its CRC times x^(8 * b_bytes).
  uint32_t shifted = crc_a;
  for (size_t i = 0; shifted != 0 && b_bytes >> i != 0; ++i) {
    if ((b_bytes >> i & 1) != 0) shifted = Multiply(shifted, kBytePowers[i]);
    if (i + 1 == kBytePowers.size()) break;
  }
  return shifted ^ crc_b;
}

uint32_t CopyAndCrc32c(uint32_t crc, ByteSpan from, uint8_t* to) {
  while (!from.empty()) {
    const size_t step = std::min(from.size(), kCopyStepBytes);
    std::memcpy(to, from.data(), step);
    crc = Crc32cExtend(crc, ByteSpan(to, step));
    from = from.subspan(step);
    to += step;
  }
  return crc;
}

}  // namespace kdn
