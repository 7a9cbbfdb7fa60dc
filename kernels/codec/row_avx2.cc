#include "kernels/codec/row_kernels.h"

#if defined(__x86_64__)

#include "kernels/codec/row_core.h"

#define KDN_TARGET __attribute__((target("avx2,popcnt")))

namespace kdn::codec_internal {
namespace {

KDN_TARGET void Widen(DType dtype, const uint8_t* elements, size_t count, float* out) {
  WidenCore(dtype, elements, count, out);
}
KDN_TARGET void Narrow(DType dtype, const float* values, size_t count, uint8_t* out) {
  NarrowCore(dtype, values, count, out);
}
KDN_TARGET void RotateHalfSplit(const RotateJob& job) { RotateHalfSplitCore(job); }
KDN_TARGET void RotateInterleaved(const RotateJob& job) { RotateInterleavedCore(job); }

constexpr RowKernels kKernels = {Widen, Narrow, RotateHalfSplit, RotateInterleaved};

}  // namespace

const RowKernels* Avx2RowKernels() { return &kKernels; }

}  // namespace kdn::codec_internal

#else

namespace kdn::codec_internal {
const RowKernels* Avx2RowKernels() { return nullptr; }
}  // namespace kdn::codec_internal

#endif
