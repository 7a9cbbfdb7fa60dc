#include "kernels/layout/dtype.h"

namespace kdn {
namespace {

struct NamedDType {
  DType dtype;
  std::string_view name;
};

constexpr NamedDType kNames[] = {
    {DType::kBf16, "bf16"},        {DType::kFp16, "fp16"}, {DType::kFp8E4M3, "fp8_e4m3"},
    {DType::kFp8E5M2, "fp8_e5m2"}, {DType::kFp32, "fp32"},
};

}  // namespace

std::string_view DTypeName(DType dtype) {
  for (const NamedDType& named : kNames) {
    if (named.dtype == dtype) return named.name;
  }
  return "unknown";
}

std::optional<DType> ParseDType(std::string_view name) {
  for (const NamedDType& named : kNames) {
    if (named.name == name) return named.dtype;
  }
  return std::nullopt;
}

}  // namespace kdn
