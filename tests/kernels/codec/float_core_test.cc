#include "kernels/codec/float_core.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace kdn {
namespace {

constexpr uint32_t kFp16Infinity = 0x7c00;
constexpr uint32_t kBf16Infinity = 0x7f80;

TEST(FloatCoreTest, WidensEveryFiniteFp16Exactly) {
  for (uint32_t element = 0; element < kFp16Infinity; ++element) {
    const uint32_t exponent = element >> 10;
    const uint32_t significand = (element & 0x3ff) | (exponent == 0 ? 0 : 0x400);
    const double expected = std::ldexp(significand, static_cast<int>(exponent == 0 ? 1 : exponent) - 25);
    ASSERT_EQ(WidenFp16(static_cast<uint16_t>(element)), expected) << element;
    ASSERT_EQ(WidenFp16(static_cast<uint16_t>(element | 0x8000)), -expected) << element;
  }
  EXPECT_EQ(WidenFp16(kFp16Infinity), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(WidenFp16(0x7c01)));
  EXPECT_TRUE(std::signbit(WidenFp16(0x8000)));
}

// Every element, every tie between two, and what lies just beside a tie.
template <DType kDType>
void ExpectRoundsToNearestEven(uint32_t infinity) {
  const auto narrow = [](float value) { return Narrow<kDType>(value); };
  for (uint32_t element = 0; element < infinity; ++element) {
    const auto low = static_cast<uint16_t>(element);
    const float below = Widen<kDType>(low);
    ASSERT_EQ(narrow(below), low);
    ASSERT_EQ(narrow(-below), low | 0x8000);
    // What would follow the largest element stands for infinity.
    const float above = element + 1 < infinity   ? Widen<kDType>(static_cast<uint16_t>(element + 1))
                        : kDType == DType::kFp16 ? 65536.0f
                                                 : std::numeric_limits<float>::infinity();
    if (std::isinf(above)) continue;
    const float tie = below + (above - below) / 2;  // exact: fp32 has bits to spare
    const uint32_t even = element % 2 == 0 ? element : element + 1;
    ASSERT_EQ(narrow(tie), even) << element;
    ASSERT_EQ(narrow(std::nextafter(tie, below)), element);
    ASSERT_EQ(narrow(std::nextafter(tie, above)), element + 1);
    ASSERT_EQ(narrow(-std::nextafter(tie, above)), (element + 1) | 0x8000);
  }
  EXPECT_EQ(narrow(std::numeric_limits<float>::infinity()), infinity);
  EXPECT_EQ(narrow(-std::numeric_limits<float>::infinity()), infinity | 0x8000);
  EXPECT_EQ(narrow(std::numeric_limits<float>::max()), infinity);
}

TEST(FloatCoreTest, NarrowsToFp16ToNearestEven) { ExpectRoundsToNearestEven<DType::kFp16>(kFp16Infinity); }
TEST(FloatCoreTest, NarrowsToBf16ToNearestEven) { ExpectRoundsToNearestEven<DType::kBf16>(kBf16Infinity); }

}  // namespace
}  // namespace kdn
