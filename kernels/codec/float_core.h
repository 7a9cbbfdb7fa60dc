#ifndef KDN_KERNELS_CODEC_FLOAT_CORE_H_
#define KDN_KERNELS_CODEC_FLOAT_CORE_H_

#include <cstdint>

#include "kernels/base/host_device.h"
#include "kernels/layout/dtype.h"

// 16-bit elements to fp32 and back, the same on every host and device: widening is exact, narrowing rounds to nearest,
// ties to even. Integer arithmetic but for one exact product, so that neither the rounding mode nor a thread that
// flushes subnormals changes a bit. The SIMD coders use instructions with the same results.

namespace kdn {

KDN_HD inline uint32_t FloatBits(float value) { return __builtin_bit_cast(uint32_t, value); }
KDN_HD inline float BitsFloat(uint32_t bits) { return __builtin_bit_cast(float, bits); }

KDN_HD inline float WidenBf16(uint16_t element) { return BitsFloat(static_cast<uint32_t>(element) << 16); }

KDN_HD inline float WidenFp16(uint16_t element) {
  const uint32_t sign = static_cast<uint32_t>(element & 0x8000) << 16;
  const uint32_t exponent = (element >> 10) & 0x1f;
  const uint32_t mantissa = element & 0x3ff;
  if (exponent == 0) return BitsFloat(sign | FloatBits(static_cast<float>(mantissa) * 0x1p-24f));
  if (exponent == 0x1f) return BitsFloat(sign | 0x7f800000 | (mantissa << 13));
  return BitsFloat(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

// `value` is no NaN.
KDN_HD inline uint16_t NarrowToBf16(float value) {
  const uint32_t bits = FloatBits(value);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// `value` is no NaN.
KDN_HD inline uint16_t NarrowToFp16(float value) {
  const uint32_t bits = FloatBits(value);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x47800000) return static_cast<uint16_t>(sign | 0x7c00);  // 2^16 and more
  if (magnitude >= 0x38800000) {                                             // 2^-14 and more: normal
    const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
  }
  const uint32_t shift = 126 - (magnitude >> 23);  // from units of the significand's last bit to 2^-24
  if (shift > 24) return static_cast<uint16_t>(sign);
  const uint32_t significand = (magnitude & 0x7fffff) | 0x800000;
  const uint32_t half = uint32_t{1} << (shift - 1);
  const uint32_t rounded = (significand + half - 1 + ((significand >> shift) & 1)) >> shift;
  return static_cast<uint16_t>(sign | rounded);
}

template <DType kDType>
KDN_HD inline float Widen(uint16_t element) {
  static_assert(kDType == DType::kBf16 || kDType == DType::kFp16);
  if constexpr (kDType == DType::kBf16) {
    return WidenBf16(element);
  } else {
    return WidenFp16(element);
  }
}

// `value` is no NaN.
template <DType kDType>
KDN_HD inline uint16_t Narrow(float value) {
  static_assert(kDType == DType::kBf16 || kDType == DType::kFp16);
  if constexpr (kDType == DType::kBf16) {
    return NarrowToBf16(value);
  } else {
    return NarrowToFp16(value);
  }
}

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_FLOAT_CORE_H_
