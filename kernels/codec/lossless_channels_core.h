#ifndef KDN_KERNELS_CODEC_LOSSLESS_CHANNELS_CORE_H_
#define KDN_KERNELS_CODEC_LOSSLESS_CHANNELS_CORE_H_

#include <cstdint>

#include "kernels/base/host_device.h"

// A channel's class in the lossless profile and its byte in a tile (TILE_FORMATS.md), one source for host and device.

namespace kdn {

struct ChannelClass {
  uint8_t offset = 0;  // exponent that symbol 0 stands for
  uint8_t shape = 0;   // index into the shapes of the tile's table set

  friend bool operator==(const ChannelClass&, const ChannelClass&) = default;
};

// A channel's byte in a tile: shape in bits 0..2, distance of its offset below the tile's base in bits 3..7. The
// largest distance stands for offset 1 instead: channels of (nearly) nothing but zeros and subnormals.
inline constexpr uint32_t kZeroDistance = 31;
inline constexpr uint8_t kZeroOffset = 1;

KDN_HD constexpr ChannelClass UnpackChannel(uint8_t packed, uint8_t base) {
  const uint32_t distance = packed >> 3;
  const uint8_t offset = distance == kZeroDistance ? kZeroOffset : static_cast<uint8_t>(base - distance);
  return {offset, static_cast<uint8_t>(packed & 7)};
}

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_LOSSLESS_CHANNELS_CORE_H_
