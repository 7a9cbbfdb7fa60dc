#ifndef KDN_KERNELS_CODEC_ROW_KERNELS_H_
#define KDN_KERNELS_CODEC_ROW_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/codec/isa.h"
#include "kernels/layout/dtype.h"

// Rows between the cache's dtype and fp32, and their rotation: one core (row_core.h), compiled for each instruction
// set. Internal to kernels/codec.

namespace kdn::codec_internal {

// Rows to rotate in place: [row][dim] fp32. Row r takes cos_sin[r * 2 * pairs ...]: `pairs` cosines, then the sines.
struct RotateJob {
  float* rows = nullptr;
  const float* cos_sin = nullptr;
  uint32_t row_count = 0;
  uint32_t dim = 0;
  uint32_t offset = 0;  // first channel that rotates
  uint32_t pairs = 0;
};

struct RowKernels {
  // `count` elements of `dtype`, little-endian, any alignment. In and out do not overlap.
  void (*widen)(DType dtype, const uint8_t* elements, size_t count, float* out);
  void (*narrow)(DType dtype, const float* values, size_t count, uint8_t* out);
  // (a, b) -> (a cos - b sin, b cos + a sin), each product and each sum rounded.
  void (*rotate_half_split)(const RotateJob& job);   // a, b = channels offset + i, offset + pairs + i
  void (*rotate_interleaved)(const RotateJob& job);  // a, b = channels offset + 2 i, offset + 2 i + 1
};

// Kernels of a supported instruction set.
const RowKernels& RowKernelsFor(Isa isa);

// Null when the build has none.
const RowKernels* Avx2RowKernels();
const RowKernels* Avx512RowKernels();

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_ROW_KERNELS_H_
