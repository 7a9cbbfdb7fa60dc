#ifndef KDN_TESTS_KERNELS_CODEC_FLOAT_CAST_H_
#define KDN_TESTS_KERNELS_CODEC_FLOAT_CAST_H_

#include <cstdint>
#include <cstring>

#include "kernels/base/bytes.h"
#include "kernels/codec/rans_core.h"

// Casts of test data from bf16 to the other dtypes, in integers: round to nearest even; what is too large becomes the
// dtype's infinity (E4M3: NaN), NaN stays NaN.

namespace kdn {

inline uint32_t CastFromBf16(DType dtype, uint16_t value) {
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  if (dtype == DType::kBf16) return value;
  if (dtype == DType::kFp32) return bits;
  const ElementFields fields = FieldsOf(dtype);
  const int mantissa_bits = static_cast<int>(fields.mantissa_bits);
  const uint32_t sign = (bits >> 31) << (fields.exponent_bits + fields.mantissa_bits);
  const uint32_t top = fields.exponent_mask() << mantissa_bits;  // infinity's exponent field
  const bool e4m3 = dtype == DType::kFp8E4M3;
  const uint32_t infinity = e4m3 ? top | fields.mantissa_mask() : top;
  const int exponent = static_cast<int>((bits >> 23) & 0xff);
  if (exponent == 0xff) return sign | ((bits & 0x7fffff) != 0 ? top | fields.mantissa_mask() : infinity);
  if (exponent == 0) return sign;
  const int bias = (1 << (fields.exponent_bits - 1)) - 1;
  const int target = exponent - 127 + bias;  // exponent field before rounding
  const uint64_t significand = (bits & 0x7fffff) | 0x800000;
  const int shift = 23 - mantissa_bits + (target < 1 ? 1 - target : 0);
  if (shift > 40) return sign;
  uint64_t rounded = significand >> shift;
  const uint64_t rest = significand & ((uint64_t{1} << shift) - 1);
  const uint64_t half = uint64_t{1} << (shift - 1);
  if (rest > half || (rest == half && (rounded & 1) != 0)) ++rounded;
  // A normal number's significand carries its leading one into the exponent field.
  const uint64_t magnitude = target < 1 ? rounded : rounded + (static_cast<uint64_t>(target - 1) << mantissa_bits);
  return sign | static_cast<uint32_t>(magnitude < infinity ? magnitude : infinity);
}

inline void StoreCast(DType dtype, uint16_t value, uint8_t* out) {
  const uint32_t element = CastFromBf16(dtype, value);
  for (uint32_t i = 0; i < DTypeBytes(dtype); ++i) out[i] = static_cast<uint8_t>(element >> (8 * i));
}

}  // namespace kdn

#endif  // KDN_TESTS_KERNELS_CODEC_FLOAT_CAST_H_
