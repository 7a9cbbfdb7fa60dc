#include "kernels/codec/row_kernels.h"

#include "kernels/codec/row_core.h"

namespace kdn::codec_internal {
namespace {

void Widen(DType dtype, const uint8_t* elements, size_t count, float* out) { WidenCore(dtype, elements, count, out); }
void Narrow(DType dtype, const float* values, size_t count, uint8_t* out) { NarrowCore(dtype, values, count, out); }
void RotateHalfSplit(const RotateJob& job) { RotateHalfSplitCore(job); }
void RotateInterleaved(const RotateJob& job) { RotateInterleavedCore(job); }

constexpr RowKernels kScalar = {Widen, Narrow, RotateHalfSplit, RotateInterleaved};

}  // namespace

const RowKernels& RowKernelsFor(Isa isa) {
  if (isa == Isa::kAvx512 && Avx512RowKernels() != nullptr) return *Avx512RowKernels();
  if (isa == Isa::kAvx2 && Avx2RowKernels() != nullptr) return *Avx2RowKernels();
  return kScalar;
}

}  // namespace kdn::codec_internal
