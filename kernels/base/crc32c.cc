#include "kernels/base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <cstring>

namespace kdn {
namespace {

// ISA-L takes an int length; a step that fits the L1 cache keeps copy and checksum on the same lines.
constexpr size_t kMaxIsalBytes = size_t{1} << 30;
constexpr size_t kCopyStepBytes = 16 * 1024;

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
