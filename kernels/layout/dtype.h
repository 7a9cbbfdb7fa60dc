#ifndef KDN_KERNELS_LAYOUT_DTYPE_H_
#define KDN_KERNELS_LAYOUT_DTYPE_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/base/host_device.h"

namespace kdn {

// Element type of KV as the engine holds it. The values are persisted: never renumber.
enum class DType : uint8_t {
  kBf16 = 1,     // bfloat16: 1 sign, 8 exponent, 7 mantissa bits
  kFp16 = 2,     // IEEE 754 binary16
  kFp8E4M3 = 3,  // OCP FP8 E4M3 (no infinities)
  kFp8E5M2 = 4,  // OCP FP8 E5M2
  kFp32 = 5,     // IEEE 754 binary32
};

// Whether K or V. The values are persisted.
enum class KvKind : uint8_t { kK = 0, kV = 1 };

// Bytes of one element; 0 for a value outside the enumeration.
KDN_HD constexpr uint32_t DTypeBytes(DType dtype) {
  switch (dtype) {
    case DType::kBf16:
    case DType::kFp16:
      return 2;
    case DType::kFp8E4M3:
    case DType::kFp8E5M2:
      return 1;
    case DType::kFp32:
      return 4;
  }
  return 0;
}

constexpr bool IsKnownDType(uint8_t value) { return DTypeBytes(static_cast<DType>(value)) != 0; }

// "bf16", "fp16", "fp8_e4m3", "fp8_e5m2", "fp32"; "unknown" outside the enumeration.
std::string_view DTypeName(DType dtype);

// The dtype of that name, nullopt if there is none.
std::optional<DType> ParseDType(std::string_view name);

}  // namespace kdn

#endif  // KDN_KERNELS_LAYOUT_DTYPE_H_
