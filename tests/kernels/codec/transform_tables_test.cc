// The constants of transform_core.h against the formulas they come from.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "kernels/codec/transform_core.h"

namespace kdn {
namespace {

constexpr double kShape = 1.4;

// A generalised Gaussian of standard deviation sigma: mass and first absolute moment of an interval, by Simpson's rule.
class Gaussian {
 public:
  explicit Gaussian(double sigma)
      : width_(sigma * std::sqrt(std::tgamma(1 / kShape) / std::tgamma(3 / kShape))),
        peak_(kShape / (2 * width_ * std::tgamma(1 / kShape))) {}

  double Density(double x) const { return peak_ * std::exp(-std::pow(std::fabs(x) / width_, kShape)); }
  double Mass(double low, double high) const {
    return Integrate(low, high, [this](double x) { return Density(x); });
  }
  double Moment(double low, double high) const {
    return Integrate(low, high, [this](double x) { return x * Density(x); });
  }

 private:
  template <typename F>
  static double Integrate(double low, double high, F f) {
    constexpr int kPieces = 2000;
    const double step = (high - low) / kPieces;
    double sum = f(low) + f(high);
    for (int i = 1; i < kPieces; ++i) sum += f(low + i * step) * (i % 2 == 0 ? 2 : 4);
    return sum * step / 3;
  }

  double width_;
  double peak_;
};

TEST(TransformTablesTest, FrequenciesAreMassesOfBins) {
  for (uint32_t t = 0; t < kTransformTables; ++t) {
    SCOPED_TRACE(t);
    const Gaussian gaussian(0.5 * std::exp2(t / 4.0));
    const TransformTable& table = kTransformTableOf[t];
    const auto mass = [&](int m) {
      return kTransformSlots * (m == 0 ? 2 * gaussian.Mass(0, 0.5) : gaussian.Mass(m - 0.5, m + 0.5));
    };
    EXPECT_GE(mass(table.max_magnitude), 0.5);
    EXPECT_LT(mass(table.max_magnitude + 1), 0.5);
    uint32_t sum = table.escape;
    uint32_t rounded = 0;
    for (int m = 0; m <= table.max_magnitude; ++m) {
      sum += (m == 0 ? 1 : 2) * table.magnitudes[m];
      const auto frequency = static_cast<uint32_t>(std::max(1.0, std::floor(mass(m) + 0.5)));
      rounded += (m == 0 ? 1 : 2) * frequency;
      if (m > 0) {
        EXPECT_EQ(table.magnitudes[m], frequency) << m;
      }
    }
    EXPECT_EQ(sum, kTransformSlots);
    EXPECT_EQ(table.escape, rounded < kTransformSlots ? kTransformSlots - rounded : 1);
    EXPECT_NEAR(table.magnitudes[0], mass(0), 4);
  }
}

TEST(TransformTablesTest, ShiftsAreFromTheMiddleToTheMeanOfBins) {
  for (uint32_t t = 0; t < kTransformTables; ++t) {
    SCOPED_TRACE(t);
    const Gaussian gaussian(0.5 * std::exp2(t / 4.0));
    double shifts[4] = {};
    double mass = 0;
    for (int m = 1; m < 100; ++m) {
      const double bin = gaussian.Mass(m - 0.5, m + 0.5);
      const double shift = 32 * (m * bin - gaussian.Moment(m - 0.5, m + 0.5));
      if (m < 3) {
        shifts[m] = shift / bin;
      } else {
        shifts[3] += shift;
        mass += bin;
      }
    }
    shifts[3] /= mass;
    for (uint32_t m = 0; m < 4; ++m) {
      EXPECT_EQ((kTransformShifts[t] >> (8 * m)) & 0xff, static_cast<uint32_t>(std::floor(shifts[m] + 0.5))) << m;
    }
  }
}

TEST(TransformTablesTest, ClassFrequenciesSumUp) {
  EXPECT_EQ(std::accumulate(std::begin(kTransformClassFrequencies), std::end(kTransformClassFrequencies), 0u),
            kTransformSlots);
}

TEST(TransformTablesTest, ContextsStartAtHalfAStepAndGrowByQuarterOctaves) {
  EXPECT_EQ(TransformContext(-5, 0), -1);
  EXPECT_EQ(TransformContext(-4, 0), 0);  // sigma = step / 2
  EXPECT_EQ(TransformContext(-3, 0), 1);
  EXPECT_EQ(TransformContext(-4, 2), 0);
  EXPECT_EQ(TransformContext(-4, 3), -1);
  EXPECT_EQ(TransformContext(127, -1088), 47);
  EXPECT_EQ(TransformBypassBits(15), 0u);
  EXPECT_EQ(TransformBypassBits(16), 1u);
  EXPECT_EQ(TransformBypassBits(47), 8u);
  EXPECT_EQ(TransformTableIndex(15), 15u);
  EXPECT_EQ(TransformTableIndex(16), 12u);
  EXPECT_EQ(TransformTableIndex(47), 15u);
}

TEST(TransformTablesTest, SymbolsAndNumbersAreInverse) {
  for (int32_t number = -kTransformMaxLevel; number <= kTransformMaxLevel; ++number) {
    EXPECT_EQ(TransformSymbolNumber(TransformNumberSymbol(number)), number);
  }
  EXPECT_EQ(TransformNumberSymbol(0), 1u);
  EXPECT_EQ(TransformNumberSymbol(-1), 2u);
  EXPECT_EQ(TransformNumberSymbol(1), 3u);
}

TEST(TransformTablesTest, ValuesFitSixteenBitsAndRiseWithTheLevel) {
  for (uint32_t context = 0; context < kTransformContexts; ++context) {
    const uint32_t bits = TransformBypassBits(context);
    int32_t last = -40000;
    for (int32_t level = -1100; level <= 1100; ++level) {
      const int32_t value = TransformValue(context, level >> bits, static_cast<uint32_t>(level) & ((1u << bits) - 1));
      EXPECT_GE(value, last);
      EXPECT_LE(std::abs(value - 32 * std::clamp(level, -1023, 1023)), 10);
      last = value;
    }
    EXPECT_LE(last, 32767);
    EXPECT_GE(TransformValue(context, -32768, 0), -32767);
    EXPECT_LE(TransformValue(context, 32767, (1u << bits) - 1), 32767);
  }
}

TEST(TransformTablesTest, StepsAreSixteenthsOfAnOctave) {
  EXPECT_EQ(TransformStep(0), 1.0f);
  EXPECT_EQ(TransformStep(-16), 0.5f);
  EXPECT_EQ(TransformStep(1024), 0x1p64f);
  EXPECT_EQ(TransformStep(TransformStepExponent(-1024, 8)), 0x1p-68f);
  for (int exponent = -40; exponent < 40; ++exponent) {
    EXPECT_FLOAT_EQ(TransformStep(exponent), std::exp2(static_cast<float>(exponent) / 16));
  }
}

}  // namespace
}  // namespace kdn
