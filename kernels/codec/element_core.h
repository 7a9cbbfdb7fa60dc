#ifndef KDN_KERNELS_CODEC_ELEMENT_CORE_H_
#define KDN_KERNELS_CODEC_ELEMENT_CORE_H_

#include <cstdint>

#include "kernels/base/host_device.h"
#include "kernels/codec/float_core.h"
#include "kernels/layout/dtype.h"

// Elements of every dtype against fp32, in a form that compilers turn into vectors: one source for host and device.
// Where float_core.h overflows to infinity, finite values saturate here: a rotation may leave a narrow dtype's range.

namespace kdn {

// Shape of a dtype narrower than fp32. `infinity` is the first magnitude that is no finite number.
struct NarrowFormat {
  uint32_t mantissa_bits;
  uint32_t bias;
  uint32_t sign_shift;
  uint32_t largest;   // magnitude of the largest finite number
  uint32_t infinity;  // magnitude of infinity; of NaN where the dtype has no infinity
  uint32_t nan;       // the NaN that is written
};

KDN_HD constexpr NarrowFormat NarrowFormatOf(DType dtype) {
  switch (dtype) {
    case DType::kFp16:
      return {10, 15, 15, 0x7bff, 0x7c00, 0x7e00};
    case DType::kFp8E4M3:
      return {3, 7, 7, 0x7e, 0x7f, 0x7f};
    case DType::kFp8E5M2:
      return {2, 15, 7, 0x7b, 0x7c, 0x7e};
    default:
      return {7, 127, 15, 0x7f7f, 0x7f80, 0x7fc0};  // bf16
  }
}

// The value of an element, exactly. NaN stays NaN.
template <DType kDType>
KDN_HD inline float WidenElement(uint32_t bits) {
  if constexpr (kDType == DType::kFp32) {
    return BitsFloat(bits);
  } else if constexpr (kDType == DType::kBf16) {
    return BitsFloat(bits << 16);
  } else {
    constexpr NarrowFormat kFormat = NarrowFormatOf(kDType);
    const uint32_t magnitude = bits & ((1u << kFormat.sign_shift) - 1);
    const uint32_t sign = (bits >> kFormat.sign_shift) << 31;
    constexpr uint32_t kShift = 23 - kFormat.mantissa_bits;
    const float subnormal = static_cast<float>(static_cast<int32_t>(magnitude)) *
                            BitsFloat((128 - kFormat.bias - kFormat.mantissa_bits) << 23);
    uint32_t wide = (magnitude << kShift) + ((127 - kFormat.bias) << 23);
    wide = magnitude < 1u << kFormat.mantissa_bits ? FloatBits(subnormal) : wide;
    const uint32_t beyond =
        kDType == DType::kFp8E4M3 ? 0x7fc00000u : 0x7f800000u | magnitude << (23 - kFormat.mantissa_bits);
    wide = magnitude >= kFormat.infinity ? beyond : wide;
    return BitsFloat(sign | wide);
  }
}

// `value` rounded to nearest even. Finite values saturate at the largest finite element; infinity stays infinity (NaN
// where the dtype has none); every NaN becomes the same one, without a sign.
template <DType kDType>
KDN_HD inline uint32_t NarrowElement(float value) {
  const uint32_t bits = FloatBits(value);
  if constexpr (kDType == DType::kFp32) {
    return (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc00000u : bits;
  } else {
    constexpr NarrowFormat kFormat = NarrowFormatOf(kDType);
    constexpr uint32_t kDropped = 23 - kFormat.mantissa_bits;
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t sign = (bits >> 31) << kFormat.sign_shift;
    uint32_t rounded = (magnitude + ((1u << (kDropped - 1)) - 1) + ((magnitude >> kDropped) & 1)) >> kDropped;
    if constexpr (kDType != DType::kBf16) {
      rounded -= (127 - kFormat.bias) << kFormat.mantissa_bits;
      // Below the smallest normal element: an addition whose last place is the smallest subnormal rounds.
      constexpr uint32_t kMagic = (127 + 24 - kFormat.bias - kFormat.mantissa_bits) << 23;
      const uint32_t subnormal = FloatBits(BitsFloat(magnitude) + BitsFloat(kMagic)) - kMagic;
      rounded = magnitude < (128 - kFormat.bias) << 23 ? subnormal : rounded;
    }
    rounded = rounded > kFormat.largest ? kFormat.largest : rounded;
    rounded = magnitude == 0x7f800000u ? kFormat.infinity : rounded;
    return magnitude > 0x7f800000u ? kFormat.nan : sign | rounded;
  }
}

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_ELEMENT_CORE_H_
