// The int8 profile: what it promises of values and scales, that all instruction sets agree, and when it steps back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/codec/int8_core.h"
#include "kernels/codec/tile_codec.h"
#include "tests/kernels/codec/test_tiles.h"

namespace kdn {
namespace {

constexpr DType kInt8DTypes[] = {DType::kBf16, DType::kFp16};
constexpr KvKind kBothKinds[] = {KvKind::kK, KvKind::kV};

struct Shape {
  uint32_t tokens;
  uint32_t dim;
};

// Odd token counts, dims that are 16 modulo 32, latents, the largest dim and the largest token count.
constexpr Shape kShapes[] = {{1, 16},   {3, 16},   {7, 48},    {5, 64},    {17, 80},   {63, 64},  {255, 64},
                             {256, 64}, {64, 128}, {100, 576}, {256, 576}, {33, 1024}, {4096, 16}};

float ValueAt(DType dtype, ByteSpan rows, size_t element) {
  const auto bits = LoadLe<uint16_t>(rows.data() + 2 * element);
  return dtype == DType::kBf16 ? WidenBf16(bits) : WidenFp16(bits);
}

struct Coded {
  ProfileId profile = ProfileId::kRaw;
  std::vector<uint8_t> bytes;
};

Coded Encode(const TileGeometry& geometry, ByteSpan rows, Isa isa = BestIsa(), ProfileId wanted = ProfileId::kInt8) {
  Coded coded;
  const auto profile = TileEncoder({}, isa).Encode(geometry, rows, wanted, coded.bytes);
  EXPECT_TRUE(profile.ok()) << profile.status();
  if (profile.ok()) coded.profile = *profile;
  return coded;
}

std::vector<uint8_t> Decode(const TileGeometry& geometry, const Coded& coded, Isa isa = BestIsa()) {
  std::vector<uint8_t> rows(geometry.raw_bytes(), 0xa5);
  EXPECT_EQ(TileDecoder({}, isa).Decode(geometry, coded.profile, coded.bytes, rows), absl::OkStatus());
  return rows;
}

void SetElement(std::vector<uint8_t>& rows, size_t element, uint16_t bits) { StoreLe(bits, rows.data() + 2 * element); }

// Every code is the nearest one and every decoded element the nearest to code times scale.
void ExpectWithinHalfAStep(const TileGeometry& geometry, ByteSpan rows, const Coded& coded, ByteSpan decoded) {
  const Int8TileLayout layout(geometry);
  ASSERT_EQ(coded.bytes.size(), layout.tile_bytes);
  for (uint32_t i = 0; i < geometry.elements(); ++i) {
    const uint32_t factor = geometry.kind == KvKind::kK ? i % geometry.dim : i / geometry.dim;
    const double scale = WidenBf16(LoadLe<uint16_t>(coded.bytes.data() + 2 * factor));
    const auto code = static_cast<int8_t>(coded.bytes[layout.codes_offset + i]);
    ASSERT_NE(code, -128);
    ASSERT_LE(std::fabs(ValueAt(geometry.dtype, rows, i) - code * scale), scale / 2) << "element " << i;
    const auto product = static_cast<float>(code * scale);  // exact: 7 bits times 8
    const uint16_t expected = geometry.dtype == DType::kBf16 ? NarrowToBf16(product) : NarrowToFp16(product);
    ASSERT_EQ(LoadLe<uint16_t>(decoded.data() + size_t{2} * i), expected) << "element " << i;
  }
}

TEST(Int8CoreTest, EveryMagnitudeGetsAValidScaleThatHoldsIt) {
  for (const DType dtype : kInt8DTypes) {
    uint16_t before = 0;
    for (uint32_t magnitude = 0; magnitude <= Int8MaxMagnitude(dtype); ++magnitude) {
      const auto bits = static_cast<uint16_t>(magnitude);
      const bool bf16 = dtype == DType::kBf16;
      const uint16_t scale = bf16 ? Int8ScaleOf<DType::kBf16>(bits) : Int8ScaleOf<DType::kFp16>(bits);
      ASSERT_TRUE(Int8ScaleValid(dtype, scale)) << magnitude;
      ASSERT_GE(scale, before) << magnitude;
      before = scale;
      const float value = bf16 ? WidenBf16(bits) : WidenFp16(bits);
      const int32_t code = Int8Quantise(value, Int8InverseOf(scale));
      ASSERT_LE(code, 127) << magnitude;
      ASSERT_EQ(Int8Quantise(-value, Int8InverseOf(scale)), -code) << magnitude;
      // At least 7 bits of the range are used, except where the scale cannot get smaller.
      if (scale > kInt8MinScale) {
        ASSERT_EQ(code, 127) << magnitude;
      }
      ASSERT_LE(std::fabs(value - Int8Dequantise(code, WidenBf16(scale))), WidenBf16(scale) / 2) << magnitude;
    }
    EXPECT_EQ(before, Int8MaxScale(dtype));
  }
}

TEST(Int8CoreTest, NoCodeOfAValidScaleDecodesToInfinity) {
  EXPECT_LT(NarrowToBf16(Int8Dequantise(127, WidenBf16(Int8MaxScale(DType::kBf16)))), 0x7f80);
  EXPECT_LT(NarrowToBf16(Int8Dequantise(-128, WidenBf16(Int8MaxScale(DType::kBf16)))) & 0x7fff, 0x7f80);
  EXPECT_LT(NarrowToFp16(Int8Dequantise(-128, WidenBf16(Int8MaxScale(DType::kFp16)))) & 0x7fff, 0x7c00);
}

class Int8RoundTripTest : public testing::TestWithParam<std::tuple<DType, TilePattern>> {};

TEST_P(Int8RoundTripTest, IsWithinHalfAStepAndTheSameOnEveryInstructionSet) {
  const auto [dtype, pattern] = GetParam();
  for (const Shape shape : kShapes) {
    for (const KvKind kind : kBothKinds) {
      const TileGeometry geometry = {dtype, shape.tokens, shape.dim, 3, 1, kind};
      const std::vector<uint8_t> rows = MakeRows(geometry, pattern, shape.tokens * 1000 + shape.dim);
      SCOPED_TRACE(testing::Message() << shape.tokens << " x " << shape.dim << (kind == KvKind::kK ? " K" : " V"));
      const Coded reference = Encode(geometry, rows, Isa::kScalar);
      const std::vector<uint8_t> decoded = Decode(geometry, reference, Isa::kScalar);
      if (reference.profile == ProfileId::kInt8) {
        ExpectWithinHalfAStep(geometry, rows, reference, decoded);
      } else {
        EXPECT_EQ(decoded, rows) << "another profile, and not exact";
      }
      for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
        if (!IsaSupported(isa)) continue;
        SCOPED_TRACE(IsaName(isa));
        const Coded coded = Encode(geometry, rows, isa);
        EXPECT_EQ(coded.profile, reference.profile);
        EXPECT_EQ(coded.bytes, reference.bytes);
        EXPECT_EQ(Decode(geometry, reference, isa), decoded);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Int8RoundTripTest,
                         testing::Combine(testing::ValuesIn(kInt8DTypes), testing::ValuesIn(kAllPatterns)),
                         [](const auto& info) {
                           std::string name = std::string(DTypeName(std::get<0>(info.param))) + "_" +
                                              PatternName(std::get<1>(info.param));
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

// Channels (K) or tokens (V) at every power of two the dtype has, beside dead ones.
TEST(Int8TileTest, EveryRangeKeepsItsOwnPrecision) {
  for (const DType dtype : kInt8DTypes) {
    for (const KvKind kind : kBothKinds) {
      const TileGeometry geometry = {dtype, 288, 288, 0, 0, kind};
      std::mt19937_64 random(11);
      std::vector<uint8_t> rows(geometry.raw_bytes());
      const uint32_t mantissa_bits = FieldsOf(dtype).mantissa_bits;
      for (uint32_t i = 0; i < geometry.elements(); ++i) {
        const uint32_t group = kind == KvKind::kK ? i % geometry.dim : i / geometry.dim;
        const uint32_t top = (group << mantissa_bits) | ((1u << mantissa_bits) - 1);
        const uint32_t largest = std::min<uint32_t>(top, Int8MaxMagnitude(dtype));
        const uint32_t lowest = group > 8 ? largest - (8u << mantissa_bits) : 0;
        const auto magnitude = static_cast<uint16_t>(lowest + random() % (largest - lowest + 1));
        SetElement(rows, i, static_cast<uint16_t>(magnitude | (random() % 2 << 15)));
        if (group % 16 == 5) SetElement(rows, i, static_cast<uint16_t>(random() % 2 << 15));
      }
      const Coded reference = Encode(geometry, rows, Isa::kScalar);
      ASSERT_EQ(reference.profile, ProfileId::kInt8);
      const std::vector<uint8_t> decoded = Decode(geometry, reference, Isa::kScalar);
      ExpectWithinHalfAStep(geometry, rows, reference, decoded);
      for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
        if (!IsaSupported(isa)) continue;
        EXPECT_EQ(Encode(geometry, rows, isa).bytes, reference.bytes) << IsaName(isa);
        EXPECT_EQ(Decode(geometry, reference, isa), decoded) << IsaName(isa);
      }
    }
  }
}

#if defined(__x86_64__)
TEST(Int8TileTest, ThreadsThatFlushSubnormalsGetTheSameBytes) {
  for (const DType dtype : kInt8DTypes) {
    for (const KvKind kind : kBothKinds) {
      const TileGeometry geometry = {dtype, 64, 64, 0, 0, kind};
      std::mt19937_64 random(12);
      std::vector<uint8_t> rows(geometry.raw_bytes());
      for (uint32_t i = 0; i < geometry.elements(); ++i) {
        SetElement(rows, i, static_cast<uint16_t>((random() % 0x600) | (random() % 2 << 15)));
      }
      for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
        if (!IsaSupported(isa)) continue;
        const Coded plain = Encode(geometry, rows, isa);
        EXPECT_EQ(plain.profile, ProfileId::kInt8);
        const std::vector<uint8_t> decoded = Decode(geometry, plain, isa);
        const unsigned saved = _mm_getcsr();
        _mm_setcsr(saved | 0x8040);  // flush to zero, denormals are zero
        const Coded flushed = Encode(geometry, rows, isa);
        const std::vector<uint8_t> decoded_flushed = Decode(geometry, plain, isa);
        _mm_setcsr(saved);
        EXPECT_EQ(flushed.bytes, plain.bytes) << IsaName(isa);
        EXPECT_EQ(decoded_flushed, decoded) << IsaName(isa);
      }
    }
  }
}
#endif

TEST(Int8TileTest, TakesHalfTheBytesAndItsScales) {
  const TileGeometry k = {DType::kBf16, 256, 64, 0, 0, KvKind::kK};
  EXPECT_EQ(Int8TileLayout(k).tile_bytes, 256u * 64 + 2 * 64);
  const TileGeometry v = {DType::kBf16, 255, 64, 0, 0, KvKind::kV};
  EXPECT_EQ(Int8TileLayout(v).tile_bytes, 255u * 64 + 512);  // 510 bytes of scales, padded
  for (const TileGeometry& geometry : {k, v}) {
    const Coded coded = Encode(geometry, MakeRows(geometry, TilePattern::kKvLike, 1));
    EXPECT_EQ(coded.profile, ProfileId::kInt8);
    EXPECT_EQ(coded.bytes.size(), Int8TileLayout(geometry).tile_bytes);
  }
}

// NaN, infinities and magnitudes without a finite code: wherever in the tile, the tile comes back as it was.
TEST(Int8TileTest, TilesItCannotHoldStayExact) {
  for (const DType dtype : kInt8DTypes) {
    const auto beyond = static_cast<uint16_t>(Int8MaxMagnitude(dtype) + 1);
    const uint16_t infinity = dtype == DType::kBf16 ? 0x7f80 : 0x7c00;
    for (const KvKind kind : kBothKinds) {
      const TileGeometry geometry = {dtype, 40, 48, 0, 0, kind};
      for (const uint16_t bits : {beyond, infinity, static_cast<uint16_t>(infinity | 0x8000),
                                  static_cast<uint16_t>(infinity + 1), uint16_t{0xffff}}) {
        for (const size_t element : {size_t{0}, size_t{47}, size_t{48 * 20 + 33}, size_t{48 * 40 - 1}}) {
          std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kKvLike, 2);
          SetElement(rows, element, bits);
          for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
            if (!IsaSupported(isa)) continue;
            const Coded coded = Encode(geometry, rows, isa);
            EXPECT_EQ(coded.profile, ProfileId::kLossless) << bits << " at " << element;
            EXPECT_EQ(Decode(geometry, coded, isa), rows);
          }
        }
      }
      std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kKvLike, 2);
      SetElement(rows, 100, Int8MaxMagnitude(dtype));
      EXPECT_EQ(Encode(geometry, rows).profile, ProfileId::kInt8);
    }
  }
}

TEST(Int8TileTest, TheSmallerOfInt8AndLosslessIsTaken) {
  std::mt19937_64 random(13);
  size_t taken[3] = {};
  for (int round = 0; round < 400; ++round) {
    const TilePattern pattern = kAllPatterns[random() % std::size(kAllPatterns)];
    const TileGeometry geometry = {kInt8DTypes[random() % 2],
                                   static_cast<uint32_t>(1 + random() % 300),
                                   static_cast<uint32_t>(16 * (1 + random() % 8)),
                                   0,
                                   0,
                                   kBothKinds[random() % 2]};
    std::vector<uint8_t> rows = MakeRows(geometry, pattern, random());
    // Exponents that seldom change are what makes lossless tiles as small.
    const uint32_t rare = 1u << random() % 12;
    for (uint32_t i = 0; round % 2 == 0 && i < geometry.elements(); ++i) {
      const uint16_t base = geometry.dtype == DType::kBf16 ? 0x3f80 : 0x3c00;
      SetElement(rows, i, static_cast<uint16_t>((base | (random() & 0x7f)) - (random() % rare == 0 ? 0x400 : 0)));
    }
    const Coded coded = Encode(geometry, rows);
    const Coded lossless = Encode(geometry, rows, BestIsa(), ProfileId::kLossless);
    ++taken[static_cast<int>(coded.profile)];
    const size_t int8_bytes = Int8TileLayout(geometry).tile_bytes;
    if (coded.profile == ProfileId::kInt8) {
      EXPECT_LT(int8_bytes, lossless.bytes.size()) << PatternName(pattern) << " round " << round;
    } else {
      EXPECT_EQ(coded.bytes, lossless.bytes);
      const Coded exact = {coded.profile, coded.bytes};
      EXPECT_EQ(Decode(geometry, exact), rows);
    }
  }
  EXPECT_GT(taken[0], 5u);
  EXPECT_GT(taken[1], 20u);
  EXPECT_GT(taken[2], 100u);
}

TEST(Int8TileTest, Fp8StaysLossless) {
  for (const DType dtype : {DType::kFp8E4M3, DType::kFp8E5M2}) {
    const TileGeometry geometry = {dtype, 256, 64, 0, 0, KvKind::kK};
    const std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kKvLike, 3);
    const Coded coded = Encode(geometry, rows);
    EXPECT_EQ(coded.profile, ProfileId::kLossless);
    EXPECT_EQ(Decode(geometry, coded), rows);
  }
}

TEST(Int8TileTest, Fp32IsRefusedByName) {
  const TileGeometry geometry = {DType::kFp32, 256, 64, 0, 0, KvKind::kK};
  std::vector<uint8_t> coded;
  const absl::Status status =
      TileEncoder().Encode(geometry, std::vector<uint8_t>(geometry.raw_bytes()), ProfileId::kInt8, coded).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr("fp32"), testing::HasSubstr("lossless")));
  EXPECT_TRUE(coded.empty());
}

}  // namespace
}  // namespace kdn
