#ifndef KDN_KERNELS_CODEC_INT8_CORE_H_
#define KDN_KERNELS_CODEC_INT8_CORE_H_

#include <cstdint>

#include "kernels/base/host_device.h"
#include "kernels/codec/float_core.h"
#include "kernels/layout/dtype.h"

// The arithmetic of the int8 profile, one source for the scalar reference, the SIMD coders (which must agree with it
// bit for bit) and a device: symmetric codes -127..127 and a bf16 scale, element = code * scale. Each operation is one
// fp32 operation rounded to nearest even; nothing may be contracted (-ffp-contract=off, -fmad=false).
//
// Scales are bf16 because its range is the elements' own: dead and huge channels need no second format, and eight bits
// of significand cost at most 2^-9 of the step. They are 0 or at least 2^-125, so that neither a product nor an element
// that matters is subnormal in fp32, and threads that flush subnormals (some numerical libraries make them do so) get
// the same bytes as others.

namespace kdn {

// Dtypes the profile codes: fp8 would gain nothing, fp32 loses what the user chose it for.
KDN_HD constexpr bool Int8Codes(DType dtype) { return dtype == DType::kBf16 || dtype == DType::kFp16; }

// An element without its sign: magnitudes compare as integers.
inline constexpr uint16_t kInt8MagnitudeMask = 0x7fff;

// The largest magnitude coded, 2^127 for bf16 and 2^15 for fp16: codes of larger ones could decode to infinity. Bits of
// infinities and NaN are larger too.
KDN_HD constexpr uint16_t Int8MaxMagnitude(DType dtype) { return dtype == DType::kBf16 ? 0x7f00 : 0x7800; }

inline constexpr uint16_t kInt8MinScale = 0x0100;  // 2^-125; the smallest but 0

// The scale of the largest magnitude.
KDN_HD constexpr uint16_t Int8MaxScale(DType dtype) { return dtype == DType::kBf16 ? 0x7b81 : 0x4381; }

// Whether an encoder may have written `scale`. No code times such a scale is infinite or NaN in the dtype.
KDN_HD constexpr bool Int8ScaleValid(DType dtype, uint16_t scale) {
  return scale == 0 || (scale >= kInt8MinScale && scale <= Int8MaxScale(dtype));
}

// The scale for elements of at most `magnitude` (element bits, at most Int8MaxMagnitude): magnitude / 127 rounded to
// bf16, or kInt8MinScale if that is larger; 0 for 0.
template <DType kDType>
KDN_HD inline uint16_t Int8ScaleOf(uint16_t magnitude) {
  const float largest = Widen<kDType>(magnitude);
  if (FloatBits(largest) < 0x04000000) return magnitude == 0 ? 0 : kInt8MinScale;  // below 2^-119
  const uint16_t scale = NarrowToBf16(largest / 127.0f);
  return scale < kInt8MinScale ? kInt8MinScale : scale;
}

// What elements are multiplied with; 0 for scale 0, whose elements are all zero.
KDN_HD inline float Int8InverseOf(uint16_t scale) { return scale == 0 ? 0.0f : 1.0f / WidenBf16(scale); }

// The code of an element: element / scale, rounded to the nearest integer, within -127..127. At a tie, which side wins
// follows from the rounded inverse.
KDN_HD inline int32_t Int8Quantise(float element, float inverse) {
  constexpr float kShifter = 0x1.8p23f;  // adding it leaves no fraction bits
  return static_cast<int32_t>(FloatBits(element * inverse + kShifter) - 0x4b400000u);
}

KDN_HD inline float Int8Dequantise(int32_t code, float scale) { return static_cast<float>(code) * scale; }

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_INT8_CORE_H_
