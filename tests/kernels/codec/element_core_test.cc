#include "kernels/codec/element_core.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/codec/row_kernels.h"
#include "tests/kernels/codec/test_tiles.h"

namespace kdn {
namespace {

constexpr DType kNarrowDTypes[] = {DType::kBf16, DType::kFp16, DType::kFp8E4M3, DType::kFp8E5M2};

uint32_t Patterns(DType dtype) { return 1u << (8 * DTypeBytes(dtype)); }

float WidenOne(DType dtype, uint32_t bits) {
  const uint8_t bytes[2] = {static_cast<uint8_t>(bits), static_cast<uint8_t>(bits >> 8)};
  float value;
  codec_internal::RowKernelsFor(Isa::kScalar).widen(dtype, bytes, 1, &value);
  return value;
}

uint32_t NarrowOne(DType dtype, float value) {
  uint8_t bytes[4] = {};
  codec_internal::RowKernelsFor(Isa::kScalar).narrow(dtype, &value, 1, bytes);
  return bytes[0] | bytes[1] << 8;
}

// The value by the definition of the format; infinite or NaN where the pattern is.
double ValueOf(DType dtype, uint32_t bits) {
  const NarrowFormat format = NarrowFormatOf(dtype);
  const uint32_t magnitude = bits & ((1u << format.sign_shift) - 1);
  const double sign = bits >> format.sign_shift != 0 ? -1 : 1;
  if (magnitude > format.infinity || (dtype == DType::kFp8E4M3 && magnitude == format.infinity)) return std::nan("");
  if (magnitude == format.infinity) return sign * INFINITY;
  const int exponent = static_cast<int>(magnitude >> format.mantissa_bits);
  const int mantissa = static_cast<int>(magnitude & ((1u << format.mantissa_bits) - 1));
  const int bias = static_cast<int>(format.bias) + static_cast<int>(format.mantissa_bits);
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias);
  return sign * std::ldexp(mantissa + (1 << format.mantissa_bits), exponent - bias);
}

TEST(ElementCoreTest, EveryElementWidensToItsValueAndBack) {
  for (const DType dtype : kNarrowDTypes) {
    SCOPED_TRACE(DTypeName(dtype));
    for (uint32_t bits = 0; bits < Patterns(dtype); ++bits) {
      const double expected = ValueOf(dtype, bits);
      const float wide = WidenOne(dtype, bits);
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(wide)) << bits;
        ASSERT_EQ(NarrowOne(dtype, wide), NarrowFormatOf(dtype).nan) << bits;
      } else {
        ASSERT_EQ(wide, expected) << bits;
        ASSERT_EQ(NarrowOne(dtype, wide), bits);
      }
    }
  }
}

TEST(ElementCoreTest, RoundsToTheNearestElementTiesToEven) {
  for (const DType dtype : kNarrowDTypes) {
    SCOPED_TRACE(DTypeName(dtype));
    for (uint32_t bits = 0; bits < NarrowFormatOf(dtype).largest; ++bits) {
      const double low = ValueOf(dtype, bits);
      const double high = ValueOf(dtype, bits + 1);
      const auto middle = static_cast<float>((low + high) / 2);  // exact: one more bit
      ASSERT_EQ(NarrowOne(dtype, middle), bits + bits % 2) << bits;
      ASSERT_EQ(NarrowOne(dtype, std::nextafter(middle, -INFINITY)), bits);
      ASSERT_EQ(NarrowOne(dtype, std::nextafter(middle, INFINITY)), bits + 1);
      const uint32_t sign = 1u << NarrowFormatOf(dtype).sign_shift;
      ASSERT_EQ(NarrowOne(dtype, -std::nextafter(middle, INFINITY)), sign | (bits + 1));
    }
  }
}

TEST(ElementCoreTest, FiniteValuesSaturate) {
  for (const DType dtype : kNarrowDTypes) {
    const NarrowFormat format = NarrowFormatOf(dtype);
    EXPECT_EQ(NarrowOne(dtype, 3.4e38f), format.largest) << DTypeName(dtype);
    EXPECT_EQ(NarrowOne(dtype, -3.4e38f), format.largest | 1u << format.sign_shift) << DTypeName(dtype);
    EXPECT_EQ(NarrowOne(dtype, INFINITY), format.infinity) << DTypeName(dtype);
  }
}

TEST(RowKernelsTest, EveryInstructionSetConvertsAlike) {
  std::mt19937 random(1);
  std::vector<float> values(4111);
  for (float& value : values) {
    // Every exponent, and those of the narrow dtypes more often.
    const uint32_t bits = static_cast<uint32_t>(random());
    value = random() % 2 == 0 ? BitsFloat(bits) : BitsFloat((bits & 0x807fffff) | (96 + bits % 64) << 23);
  }
  for (const DType dtype : kAllDTypes) {
    const size_t size = values.size() * DTypeBytes(dtype);
    std::vector<uint8_t> reference(size);
    codec_internal::RowKernelsFor(Isa::kScalar).narrow(dtype, values.data(), values.size(), reference.data());
    std::vector<float> wide(values.size());
    codec_internal::RowKernelsFor(Isa::kScalar).widen(dtype, reference.data(), values.size(), wide.data());
    for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
      if (!IsaSupported(isa)) continue;
      std::vector<uint8_t> narrow(size);
      codec_internal::RowKernelsFor(isa).narrow(dtype, values.data(), values.size(), narrow.data());
      EXPECT_EQ(narrow, reference) << DTypeName(dtype) << " " << IsaName(isa);
      std::vector<float> other(values.size());
      codec_internal::RowKernelsFor(isa).widen(dtype, reference.data(), values.size(), other.data());
      EXPECT_EQ(std::memcmp(other.data(), wide.data(), wide.size() * sizeof(float)), 0) << DTypeName(dtype);
    }
  }
}

TEST(RowKernelsTest, RoundsManyBf16AsItRoundsOne) {
  std::mt19937 random(2);
  std::vector<float> values(1800);
  for (float& value : values) value = BitsFloat((static_cast<uint32_t>(random()) & 0x80ffffff) | 0x3f000000);
  // Saturating, infinite and not a number: in the second and the last of the pieces that are looked at together.
  values[700] = -3.4e38f;
  values[1799] = INFINITY;
  values[1600] = BitsFloat(0xffc00001);
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (!IsaSupported(isa)) continue;
    std::vector<uint8_t> narrow(2 * values.size());
    codec_internal::RowKernelsFor(isa).narrow(DType::kBf16, values.data(), values.size(), narrow.data());
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(LoadLe<uint16_t>(narrow.data() + 2 * i), NarrowElement<DType::kBf16>(values[i])) << i;
    }
  }
}

}  // namespace
}  // namespace kdn
