#ifndef KDN_KERNELS_CODEC_Q4_KERNELS_H_
#define KDN_KERNELS_CODEC_Q4_KERNELS_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/codec/isa.h"
#include "kernels/codec/q4_core.h"

// The inner loops of profile q4, one set per instruction set. Internal to kernels/codec: tile_codec.h is the interface.

namespace kdn::codec_internal {

// Coded rows of a tile. Pointers are borrowed.
struct Q4DecodeJob {
  uint32_t dim = 0;
  uint32_t blocks = 0;  // of a row
  int base = 0;
  const uint8_t* codes = nullptr;   // [row][dim / 2]
  const uint8_t* scales = nullptr;  // [row][block]
  const uint32_t* signs = nullptr;  // kQ4SignMasks
  const float* means = nullptr;     // [dim], or null
};

struct Q4EncodeJob {
  uint32_t dim = 0;
  uint32_t blocks = 0;
  uint32_t rows = 0;
  const float* values = nullptr;    // [row][dim]
  const float* means = nullptr;     // [dim], or null
  const uint32_t* signs = nullptr;  // kQ4SignMasks
  uint8_t* codes = nullptr;         // [row][dim / 2]
  int32_t* scales = nullptr;        // [row][block]: 16 * exponent + mantissa index; kQ4ZeroScale for a zero block
};

inline constexpr int32_t kQ4ZeroScale = INT32_MIN;

constexpr std::array<uint32_t, 1024> MakeQ4SignMasks() {
  std::array<uint32_t, 1024> masks = {};
  for (uint32_t channel = 0; channel < masks.size(); ++channel) masks[channel] = Q4Sign(channel) << 31;
  return masks;
}

// [channel]: the sign bit where the channel changes its sign.
inline constexpr std::array<uint32_t, 1024> kQ4SignMasks = MakeQ4SignMasks();

struct Q4Kernels {
  // Rows [first, first + count) of the coded ones as fp32 [row][dim].
  void (*decode)(const Q4DecodeJob& job, uint32_t first, uint32_t count, float* out);
  // Codes all rows. False when a value is not finite or beyond what a tile can say.
  bool (*encode)(const Q4EncodeJob& job);
  // sums[channel] = the sum of `rows` rows, in order.
  void (*sum_rows)(const float* values, uint32_t rows, uint32_t dim, float* sums);
};

// Kernels of a supported instruction set.
const Q4Kernels& Q4KernelsFor(Isa isa);

// The reference for any block; also what the vector sets use for blocks they have no code for.
void DecodeQ4BlockScalar(const Q4DecodeJob& job, uint32_t row, uint32_t block, uint32_t channel, float* out);

// Null when the build has none.
const Q4Kernels* Avx2Q4Kernels();
const Q4Kernels* Avx512Q4Kernels();

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_Q4_KERNELS_H_
