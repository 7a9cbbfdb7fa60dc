#ifndef KDN_KERNELS_CODEC_Q4_CORE_H_
#define KDN_KERNELS_CODEC_Q4_CORE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/base/host_device.h"
#include "kernels/codec/float_core.h"

// The arithmetic of profile q4 (TILE_FORMATS.md), one source for host and device: constants, blocks, scales, offsets.

namespace kdn {

inline constexpr uint32_t kQ4HeaderBytes = 16;
inline constexpr uint32_t kQ4MaxBlock = 256;  // channels of a Hadamard block: sums of 256 levels fit 16 bits
inline constexpr uint32_t kQ4MinBlock = 16;
inline constexpr uint32_t kQ4MaxBlocks = 8;  // of a row: 1008 = 256 + 256 + 256 + 128 + 64 + 32 + 16
inline constexpr uint8_t kQ4HasMeans = 1;    // flag
inline constexpr int kQ4MinBase = -126;
inline constexpr int kQ4MaxBase = 96;  // 2^(96 + 16) * 2^15 is finite
inline constexpr uint64_t kQ4SignSeed = 0x4b444e2071340001;

struct Q4Constants {
  // The 16-level Lloyd-Max quantiser of the unit Gaussian (mean squared error 0.0095) in units of its largest level /
  // 127.
  int8_t levels[16];
  // Mantissa bits of 2^(j / 16).
  uint32_t scale_mantissas[16];
};

KDN_HD constexpr Q4Constants MakeQ4Constants() {
  return {{-127, -96, -75, -58, -44, -31, -18, -6, 6, 18, 31, 44, 58, 75, 96, 127},
          {0x000000, 0x05aac3, 0x0b95c2, 0x11c3d3, 0x1837f0, 0x1ef532, 0x25fed7, 0x2d583f, 0x3504f3, 0x3d08a4, 0x45672a,
           0x4e248c, 0x5744fd, 0x60ccdf, 0x6ac0c7, 0x75257d}};
}

inline constexpr Q4Constants kQ4Constants = MakeQ4Constants();
inline constexpr const int8_t (&kQ4Levels)[16] = kQ4Constants.levels;
inline constexpr const uint32_t (&kQ4ScaleMantissas)[16] = kQ4Constants.scale_mantissas;
inline constexpr float kQ4UnitsPerSigma = 46.4761f;  // 127 / 2.73259

// Entries of the arrays above: device code cannot refer to a host's arrays.
KDN_HD inline int32_t Q4Level(uint32_t code) {
  static constexpr Q4Constants kConstants = MakeQ4Constants();
  return kConstants.levels[code];
}
KDN_HD inline uint32_t Q4ScaleMantissa(uint32_t sixteenth) {
  static constexpr Q4Constants kConstants = MakeQ4Constants();
  return kConstants.scale_mantissas[sixteenth];
}

// Channels of the block that starts at `channel`: the largest power of two that fits, at most kQ4MaxBlock.
KDN_HD constexpr uint32_t Q4BlockAt(uint32_t dim, uint32_t channel) {
  uint32_t block = kQ4MaxBlock;
  while (block > dim - channel) block /= 2;
  return block;
}

KDN_HD constexpr uint32_t Q4Blocks(uint32_t dim) {
  uint32_t blocks = 0;
  for (uint32_t channel = 0; channel < dim; channel += Q4BlockAt(dim, channel)) ++blocks;
  return blocks;
}

// The factor that scale byte `scale` stands for under a tile's base; 0 for 0.
KDN_HD inline float Q4Factor(uint8_t scale, int base) {
  if (scale == 0) return 0.0f;
  const auto exponent = static_cast<uint32_t>(127 + base + (scale >> 4));
  return BitsFloat(exponent << 23 | Q4ScaleMantissa(scale & 15u));
}

// Bit 0: whether channel `channel` changes its sign. Bit i % 64 of the (i / 64 + 1)-th number of SplitMix64.
KDN_HD constexpr uint32_t Q4Sign(uint32_t channel) {
  uint64_t z = kQ4SignSeed + (uint64_t{channel / 64} + 1) * 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  z ^= z >> 31;
  return static_cast<uint32_t>(z >> (channel % 64)) & 1;
}

// Where the parts of a tile lie.
struct Q4Layout {
  uint32_t coded_rows = 0;  // those behind the raw ones
  uint32_t blocks = 0;      // of a row
  size_t means = 0;         // offsets; the codes start at kQ4HeaderBytes
  size_t raw_rows = 0;
  size_t scales = 0;
  size_t total_bytes = 0;
};

KDN_HD constexpr Q4Layout Q4LayoutOf(uint32_t tokens, uint32_t dim, uint32_t raw_rows, bool has_means) {
  Q4Layout layout;
  layout.coded_rows = tokens - raw_rows;
  layout.blocks = Q4Blocks(dim);
  layout.means = kQ4HeaderBytes + size_t{layout.coded_rows} * (dim / 2);
  layout.raw_rows = layout.means + (has_means ? size_t{2} * dim : 0);
  layout.scales = layout.raw_rows + size_t{2} * raw_rows * dim;
  layout.total_bytes = layout.scales + size_t{layout.coded_rows} * layout.blocks;
  return layout;
}

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_Q4_CORE_H_
