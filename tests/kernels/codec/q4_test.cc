#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <numeric>

#include "kernels/codec/element_core.h"
#include "kernels/codec/tile_codec.h"
#include "tests/kernels/codec/test_tiles.h"

namespace kdn {
namespace {

constexpr DType kQ4DTypes[] = {DType::kBf16, DType::kFp16, DType::kFp8E4M3, DType::kFp8E5M2};

struct Shape {
  uint32_t tokens;
  uint32_t dim;
};

// Every block size, rows of several blocks, odd token counts, the largest dim.
constexpr Shape kShapes[] = {{40, 16},  {33, 32},  {64, 48},  {256, 64}, {17, 80},
                             {65, 128}, {40, 256}, {19, 576}, {9, 1008}, {6, 1024}};

double ValueOf(DType dtype, const uint8_t* element) {
  switch (dtype) {
    case DType::kBf16:
      return WidenElement<DType::kBf16>(LoadLe<uint16_t>(element));
    case DType::kFp16:
      return WidenElement<DType::kFp16>(LoadLe<uint16_t>(element));
    case DType::kFp8E4M3:
      return WidenElement<DType::kFp8E4M3>(*element);
    default:
      return WidenElement<DType::kFp8E5M2>(*element);
  }
}

std::vector<double> ValuesOf(const TileGeometry& geometry, ByteSpan rows) {
  std::vector<double> values(geometry.elements());
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = ValueOf(geometry.dtype, rows.data() + i * DTypeBytes(geometry.dtype));
  }
  return values;
}

std::vector<uint8_t> Encode(const TileGeometry& geometry, ByteSpan rows, Isa isa, TileContext context,
                            ProfileId expected) {
  std::vector<uint8_t> coded;
  const auto used = TileEncoder({}, isa).Encode(geometry, rows, ProfileId::kQ4, coded, context);
  EXPECT_TRUE(used.ok()) << used.status();
  if (used.ok()) {
    EXPECT_EQ(*used, expected);
  }
  return coded;
}

std::vector<uint8_t> Decode(const TileGeometry& geometry, ByteSpan coded, Isa isa) {
  std::vector<uint8_t> rows(geometry.raw_bytes(), 0xa5);
  EXPECT_EQ(TileDecoder({}, isa).Decode(geometry, ProfileId::kQ4, coded, rows), absl::OkStatus());
  return rows;
}

// A tile's rows by TILE_FORMATS.md, word for word and in quadratic time.
std::vector<uint8_t> DecodeByDefinition(const TileGeometry& geometry, ByteSpan coded) {
  const bool has_means = coded[0] == 1;
  const auto base = static_cast<int8_t>(coded[1]);
  const uint32_t raw_rows = LoadLe<uint16_t>(coded.data() + 2);
  const uint32_t dim = geometry.dim;
  const uint32_t coded_rows = geometry.tokens - raw_rows;
  const uint8_t* codes = coded.data() + 16;
  const uint8_t* means = codes + size_t{coded_rows} * dim / 2;
  const uint8_t* raw = means + (has_means ? 2 * dim : 0);
  const uint8_t* scales = raw + size_t{2} * raw_rows * dim;
  std::vector<uint8_t> rows;
  const auto append = [&](float value) {
    uint32_t bits = 0;
    if (geometry.dtype == DType::kBf16) bits = NarrowElement<DType::kBf16>(value);
    if (geometry.dtype == DType::kFp16) bits = NarrowElement<DType::kFp16>(value);
    if (geometry.dtype == DType::kFp8E4M3) bits = NarrowElement<DType::kFp8E4M3>(value);
    if (geometry.dtype == DType::kFp8E5M2) bits = NarrowElement<DType::kFp8E5M2>(value);
    rows.push_back(static_cast<uint8_t>(bits));
    if (DTypeBytes(geometry.dtype) == 2) rows.push_back(static_cast<uint8_t>(bits >> 8));
  };
  for (uint32_t i = 0; i < raw_rows * dim; ++i) {
    const uint16_t bits = LoadLe<uint16_t>(raw + size_t{2} * i);
    append(geometry.dtype == DType::kFp16 ? WidenElement<DType::kFp16>(bits) : WidenElement<DType::kBf16>(bits));
  }
  for (uint32_t row = 0; row < coded_rows; ++row) {
    for (uint32_t begin = 0; begin < dim;) {
      uint32_t block = 256;
      while (begin + block > dim) block /= 2;
      std::vector<int> levels(block);
      for (uint32_t i = 0; i < block / 2; ++i) {
        const uint8_t pair = codes[(size_t{row} * dim + begin) / 2 + i];
        levels[i] = kQ4Levels[pair & 15];
        levels[i + block / 2] = kQ4Levels[pair >> 4];
      }
      const uint8_t scale = *scales++;
      const float factor =
          scale == 0 ? 0.0f : std::ldexp(static_cast<float>(std::exp2((scale % 16) / 16.0)), base + scale / 16);
      for (uint32_t i = 0; i < block; ++i) {
        int sum = 0;
        for (uint32_t j = 0; j < block; ++j) sum += std::popcount(i & j) % 2 == 0 ? levels[j] : -levels[j];
        float value = static_cast<float>(sum) * factor;
        if (Q4Sign(begin + i) != 0) value = -value;
        if (has_means) value += WidenElement<DType::kFp16>(LoadLe<uint16_t>(means + size_t{2} * (begin + i)));
        append(value);
      }
      begin += block;
    }
  }
  return rows;
}

TEST(Q4CoreTest, LevelsAreTheLloydMaxQuantiserOfTheGaussian) {
  // Lloyd's iteration in closed form, from any start.
  std::vector<double> levels(16);
  for (int i = 0; i < 16; ++i) levels[i] = (i - 7.5) / 3;
  const auto cumulative = [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); };
  const auto density = [](double x) { return std::exp(-x * x / 2) / std::sqrt(2 * M_PI); };
  for (int iteration = 0; iteration < 20000; ++iteration) {
    double low = -40;
    std::vector<double> next(16);
    for (int i = 0; i < 16; ++i) {
      const double high = i == 15 ? 40 : (levels[i] + levels[i + 1]) / 2;
      next[i] = (density(low) - density(high)) / (cumulative(high) - cumulative(low));
      low = high;
    }
    levels = next;
  }
  EXPECT_NEAR(kQ4UnitsPerSigma, 127 / levels[15], 1e-3);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(kQ4Levels[i], std::lround(levels[i] * 127 / levels[15])) << i;
}

TEST(Q4CoreTest, ScalesAreSixteenthsOfAnOctave) {
  for (int scale = 1; scale < 256; ++scale) {
    const double expected = std::exp2(scale / 16.0 - 20);
    EXPECT_EQ(Q4Factor(static_cast<uint8_t>(scale), -20), static_cast<float>(expected)) << scale;
  }
  EXPECT_EQ(Q4Factor(0, 3), 0.0f);
}

TEST(Q4CoreTest, BlocksCoverEveryDim) {
  for (uint32_t dim = 16; dim <= kMaxTileDim; dim += 16) {
    uint32_t channel = 0;
    uint32_t blocks = 0;
    while (channel < dim) {
      const uint32_t block = Q4BlockAt(dim, channel);
      ASSERT_TRUE(std::has_single_bit(block) && block >= kQ4MinBlock && block <= kQ4MaxBlock);
      channel += block;
      ++blocks;
    }
    EXPECT_EQ(channel, dim);
    EXPECT_EQ(blocks, Q4Blocks(dim));
    EXPECT_LE(blocks, kQ4MaxBlocks);
  }
  EXPECT_EQ(Q4Blocks(576), 3u);
}

TEST(Q4CoreTest, SignsAreHalfAndHalfAndFixed) {
  uint32_t negative = 0;
  uint64_t first = 0;
  for (uint32_t channel = 0; channel < kMaxTileDim; ++channel) {
    negative += Q4Sign(channel);
    if (channel < 64) first |= uint64_t{Q4Sign(channel)} << channel;
  }
  EXPECT_NEAR(negative, 512, 64);
  EXPECT_EQ(first, 0x6105932434d38f98u);
}

class Q4TileTest : public testing::TestWithParam<std::tuple<DType, KvKind>> {};

TEST_P(Q4TileTest, EveryInstructionSetMakesTheSameBytesAndRows) {
  const auto [dtype, kind] = GetParam();
  for (const Shape shape : kShapes) {
    for (const TilePattern pattern : {TilePattern::kKvLike, TilePattern::kSparse, TilePattern::kDeadChannels,
                                      TilePattern::kConstant, TilePattern::kZeros}) {
      const TileGeometry geometry = {dtype, shape.tokens, shape.dim, 0, 0, kind};
      const std::vector<uint8_t> rows = MakeRows(geometry, pattern, shape.tokens + shape.dim);
      TileContext context;
      context.sink_rows = dtype == DType::kBf16 ? shape.tokens % 4 : 0;
      if (Q4TileBytes(geometry, context.sink_rows) > rows.size() * 3 / 4) continue;
      SCOPED_TRACE(testing::Message() << shape.tokens << " x " << shape.dim << " " << PatternName(pattern));
      const std::vector<uint8_t> coded = Encode(geometry, rows, Isa::kScalar, context, ProfileId::kQ4);
      ASSERT_EQ(coded.size(), Q4TileBytes(geometry, context.sink_rows));
      const std::vector<uint8_t> decoded = Decode(geometry, coded, Isa::kScalar);
      EXPECT_EQ(decoded, DecodeByDefinition(geometry, coded));
      for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
        if (!IsaSupported(isa)) continue;
        SCOPED_TRACE(IsaName(isa));
        EXPECT_EQ(Encode(geometry, rows, isa, context, ProfileId::kQ4), coded);
        EXPECT_EQ(Decode(geometry, coded, isa), decoded);
      }
    }
  }
}

TEST_P(Q4TileTest, ErrorIsThatOfFourBitsOnAGaussian) {
  const auto [dtype, kind] = GetParam();
  for (const uint32_t dim : {64u, 128u, 256u, 576u}) {
    const TileGeometry geometry = {dtype, 256, dim, 0, 0, kind};
    const std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kKvLike, dim);
    const std::vector<double> before = ValuesOf(geometry, rows);
    const std::vector<double> after =
        ValuesOf(geometry, Decode(geometry, Encode(geometry, rows, BestIsa(), {}, ProfileId::kQ4), BestIsa()));
    // The error spreads over all channels of a row, so what counts is the row's energy, without the means for K.
    double error = 0;
    double energy = 0;
    for (uint32_t channel = 0; channel < dim; ++channel) {
      double mean = 0;
      for (uint32_t token = 0; token < 256; ++token) mean += before[token * dim + channel] / 256;
      if (kind == KvKind::kV) mean = 0;
      for (uint32_t token = 0; token < 256; ++token) {
        const size_t at = token * dim + channel;
        error += (after[at] - before[at]) * (after[at] - before[at]);
        energy += (before[at] - mean) * (before[at] - mean);
      }
    }
    const double rounding = dtype == DType::kFp8E5M2 ? 0.012 : dtype == DType::kFp8E4M3 ? 0.004 : 0;
    EXPECT_LT(error / energy, 0.0096 + rounding) << dim;
    EXPECT_GT(error / energy, 0.004) << dim;
  }
}

TEST_P(Q4TileTest, SinkRowsStayExact) {
  const auto [dtype, kind] = GetParam();
  const TileGeometry geometry = {dtype, 64, 128, 0, 0, kind};
  std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kKvLike, 3);
  const std::vector<uint8_t> coded = Encode(geometry, rows, BestIsa(), {nullptr, 0, 4}, ProfileId::kQ4);
  std::vector<uint8_t> decoded = Decode(geometry, coded, BestIsa());
  const size_t exact = size_t{4} * 128 * DTypeBytes(dtype);
  EXPECT_TRUE(std::equal(rows.begin(), rows.begin() + static_cast<ptrdiff_t>(exact), decoded.begin()));
  EXPECT_NE(rows, decoded);
}

INSTANTIATE_TEST_SUITE_P(All, Q4TileTest,
                         testing::Combine(testing::ValuesIn(kQ4DTypes), testing::Values(KvKind::kK, KvKind::kV)),
                         [](const auto& info) {
                           return std::string(DTypeName(std::get<0>(info.param))) +
                                  (std::get<1>(info.param) == KvKind::kK ? "_k" : "_v");
                         });

TEST(Q4TileTest, DeadTokensAndTilesDecodeToZero) {
  const TileGeometry geometry = {DType::kBf16, 64, 64, 0, 0, KvKind::kV};
  std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kKvLike, 4);
  std::fill_n(rows.begin() + 5 * 128, 128, uint8_t{0});
  const std::vector<double> decoded =
      ValuesOf(geometry, Decode(geometry, Encode(geometry, rows, BestIsa(), {}, ProfileId::kQ4), BestIsa()));
  for (uint32_t channel = 0; channel < 64; ++channel) EXPECT_EQ(decoded[5 * 64 + channel], 0);
  std::fill(rows.begin(), rows.end(), uint8_t{0});
  for (const double value :
       ValuesOf(geometry, Decode(geometry, Encode(geometry, rows, BestIsa(), {}, ProfileId::kQ4), BestIsa()))) {
    EXPECT_EQ(value, 0);
  }
}

TEST(Q4TileTest, TilesWithNonFiniteElementsStayLossless) {
  for (const uint16_t bad : {uint16_t{0x7f80}, uint16_t{0xff80}, uint16_t{0x7fc1}}) {
    for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
      for (const uint32_t token : {0u, 3u, 255u}) {
        const TileGeometry geometry = {DType::kBf16, 256, 64, 0, 0, kind};
        std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kKvLike, 5);
        StoreLe<uint16_t>(bad, rows.data() + (token * 64 + 17) * 2);
        const std::vector<uint8_t> coded = Encode(geometry, rows, BestIsa(), {nullptr, 0, 2}, ProfileId::kLossless);
        std::vector<uint8_t> decoded(rows.size());
        ASSERT_EQ(TileDecoder().Decode(geometry, ProfileId::kLossless, coded, decoded), absl::OkStatus());
        EXPECT_EQ(decoded, rows);
      }
    }
  }
}

TEST(Q4TileTest, HugeAndTinyMagnitudesNeverBreakATile) {
  for (const int exponent : {-126, -100, -60, -30, 30, 60, 100, 120}) {
    const TileGeometry geometry = {DType::kBf16, 64, 64, 0, 0, KvKind::kV};
    std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kKvLike, 6);
    for (size_t i = 0; i < rows.size(); i += 2) {
      const float value = WidenElement<DType::kBf16>(LoadLe<uint16_t>(rows.data() + i));
      StoreLe<uint16_t>(static_cast<uint16_t>(NarrowElement<DType::kBf16>(std::ldexp(value, exponent))),
                        rows.data() + i);
    }
    std::vector<uint8_t> coded;
    const auto used = TileEncoder().Encode(geometry, rows, ProfileId::kQ4, coded);
    ASSERT_TRUE(used.ok()) << used.status();
    std::vector<uint8_t> decoded(rows.size());
    ASSERT_EQ(TileDecoder().Decode(geometry, *used, coded, decoded), absl::OkStatus());
    const std::vector<double> before = ValuesOf(geometry, rows);
    const std::vector<double> after = ValuesOf(geometry, decoded);
    double largest = 0;
    for (const double value : before) largest = std::max(largest, std::fabs(value));
    // Rows below 2^-50 become zeros.
    const double bound = std::max(largest / 4, std::ldexp(1.0, -45));
    for (size_t i = 0; i < before.size(); ++i) ASSERT_NEAR(after[i], before[i], bound) << exponent;
  }
}

TEST(Q4TileTest, ShortTilesStayExact) {
  const TileGeometry geometry = {DType::kBf16, 1, 64, 0, 0, KvKind::kK};
  const std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kKvLike, 7);
  std::vector<uint8_t> coded;
  const auto used = TileEncoder().Encode(geometry, rows, ProfileId::kQ4, coded, {nullptr, 0, 1});
  ASSERT_TRUE(used.ok()) << used.status();
  EXPECT_EQ(*used, ProfileId::kRaw);
  EXPECT_EQ(coded, rows);
}

TEST(Q4TileTest, RefusesFp32AndSinksBeyondTheTile) {
  const TileGeometry fp32 = {DType::kFp32, 64, 64, 0, 0, KvKind::kK};
  std::vector<uint8_t> rows = MakeRows(fp32, TilePattern::kKvLike, 8);
  std::vector<uint8_t> coded;
  const absl::Status status = TileEncoder().Encode(fp32, rows, ProfileId::kQ4, coded).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(TileDecoder().Decode(fp32, ProfileId::kQ4, std::vector<uint8_t>(64), rows).code(),
            absl::StatusCode::kDataLoss);
  const TileGeometry bf16 = {DType::kBf16, 8, 64, 0, 0, KvKind::kK};
  rows = MakeRows(bf16, TilePattern::kKvLike, 9);
  EXPECT_EQ(TileEncoder().Encode(bf16, rows, ProfileId::kQ4, coded, {nullptr, 0, 9}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(coded.empty());
}

// ---- Bytes nobody encoded ----

absl::Status DecodeEverywhere(const TileGeometry& geometry, ByteSpan coded) {
  const std::vector<uint8_t> exact(coded.begin(), coded.end());
  std::vector<uint8_t> reference(geometry.raw_bytes());
  const absl::Status status = TileDecoder({}, Isa::kScalar).Decode(geometry, ProfileId::kQ4, exact, reference);
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
    if (!IsaSupported(isa)) continue;
    std::vector<uint8_t> rows(geometry.raw_bytes());
    EXPECT_EQ(TileDecoder({}, isa).Decode(geometry, ProfileId::kQ4, exact, rows).ok(), status.ok());
    if (status.ok()) {
      EXPECT_EQ(rows, reference) << IsaName(isa);
    }
  }
  return status;
}

TEST(Q4HostileTest, RefusesEveryOtherLength) {
  const TileGeometry geometry = {DType::kBf16, 12, 48, 0, 0, KvKind::kK};
  std::vector<uint8_t> coded =
      Encode(geometry, MakeRows(geometry, TilePattern::kKvLike, 1), BestIsa(), {nullptr, 0, 1}, ProfileId::kQ4);
  for (size_t size = 0; size < coded.size(); ++size) {
    ASSERT_EQ(DecodeEverywhere(geometry, ByteSpan(coded).first(size)).code(), absl::StatusCode::kDataLoss) << size;
  }
  coded.push_back(0);
  EXPECT_EQ(DecodeEverywhere(geometry, coded).code(), absl::StatusCode::kDataLoss);
}

TEST(Q4HostileTest, SurvivesEveryByteWithEveryFewValues) {
  const TileGeometry geometry = {DType::kBf16, 9, 80, 0, 0, KvKind::kK};
  std::vector<uint8_t> coded =
      Encode(geometry, MakeRows(geometry, TilePattern::kKvLike, 2), BestIsa(), {nullptr, 0, 1}, ProfileId::kQ4);
  size_t refused = 0;
  for (size_t at = 0; at < coded.size(); ++at) {
    const uint8_t before = coded[at];
    for (const int value : {0x00, 0x01, 0x7c, 0x7f, 0x80, 0xff}) {
      coded[at] = static_cast<uint8_t>(value);
      refused += !DecodeEverywhere(geometry, coded).ok();
    }
    coded[at] = before;
  }
  EXPECT_GT(refused, 60u);  // the header's fields and the means' exponents at least
  EXPECT_EQ(DecodeEverywhere(geometry, coded), absl::OkStatus());
}

TEST(Q4HostileTest, RefusesWhatTheHeaderCannotSay) {
  const TileGeometry geometry = {DType::kFp16, 8, 64, 0, 0, KvKind::kK};
  const std::vector<uint8_t> good =
      Encode(geometry, MakeRows(geometry, TilePattern::kKvLike, 3), BestIsa(), {}, ProfileId::kQ4);
  const auto with = [&](size_t at, uint8_t value) {
    std::vector<uint8_t> coded = good;
    coded[at] = value;
    return DecodeEverywhere(geometry, coded).code();
  };
  EXPECT_EQ(with(0, 3), absl::StatusCode::kDataLoss);                           // a flag without meaning
  EXPECT_EQ(with(0, 0), absl::StatusCode::kDataLoss);                           // another length
  EXPECT_EQ(with(1, static_cast<uint8_t>(-127)), absl::StatusCode::kDataLoss);  // factors that are subnormal
  EXPECT_EQ(with(1, 97), absl::StatusCode::kDataLoss);                          // and infinite
  EXPECT_EQ(with(1, 96), absl::StatusCode::kOk);
  EXPECT_EQ(with(2, 9), absl::StatusCode::kDataLoss);
  EXPECT_EQ(with(15, 1), absl::StatusCode::kDataLoss);
  EXPECT_EQ(with(16 + 8 * 32 + 1, 0x7c), absl::StatusCode::kDataLoss);  // an infinite mean
}

}  // namespace
}  // namespace kdn
