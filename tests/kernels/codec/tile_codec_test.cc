#include "kernels/codec/tile_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>

#include "tests/kernels/codec/test_tiles.h"

namespace kdn {
namespace {

std::vector<Isa> SupportedIsas() {
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (IsaSupported(isa)) isas.push_back(isa);
  }
  return isas;
}

struct Shape {
  uint32_t tokens;
  uint32_t dim;
};

// Odd token counts, half steps, dims that are 16 modulo 32, the largest dim and the largest token count.
constexpr Shape kShapes[] = {{1, 16},   {2, 16},   {3, 48},    {1, 64},    {7, 80},   {17, 64},   {64, 128},
                             {255, 64}, {256, 64}, {128, 128}, {100, 576}, {5, 1008}, {33, 1024}, {4096, 16}};

std::vector<uint8_t> Encode(const TileGeometry& geometry, ByteSpan rows, Isa isa, ProfileId& used,
                            CodecTables tables = {}) {
  std::vector<uint8_t> coded;
  TileEncoder encoder(tables, isa);
  const auto profile = encoder.Encode(geometry, rows, ProfileId::kLossless, coded);
  EXPECT_TRUE(profile.ok()) << profile.status();
  used = profile.ok() ? *profile : ProfileId::kRaw;
  return coded;
}

class RoundTripTest : public testing::TestWithParam<std::tuple<DType, TilePattern>> {};

TEST_P(RoundTripTest, RestoresEveryBitOnEveryInstructionSet) {
  const auto [dtype, pattern] = GetParam();
  for (const Shape shape : kShapes) {
    const TileGeometry geometry = {dtype, shape.tokens, shape.dim, 3, 1, KvKind::kV};
    const std::vector<uint8_t> rows = MakeRows(geometry, pattern, shape.tokens * 1000 + shape.dim);
    SCOPED_TRACE(testing::Message() << shape.tokens << " x " << shape.dim);
    ProfileId reference_profile;
    const std::vector<uint8_t> reference = Encode(geometry, rows, Isa::kScalar, reference_profile);
    EXPECT_LE(reference.size(), rows.size());
    for (const Isa isa : SupportedIsas()) {
      SCOPED_TRACE(IsaName(isa));
      ProfileId profile;
      EXPECT_EQ(Encode(geometry, rows, isa, profile), reference);
      EXPECT_EQ(profile, reference_profile);
      std::vector<uint8_t> decoded(rows.size(), 0xa5);
      TileDecoder decoder({}, isa);
      ASSERT_EQ(decoder.Decode(geometry, profile, reference, decoded), absl::OkStatus());
      EXPECT_EQ(decoded, rows);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, RoundTripTest,
                         testing::Combine(testing::ValuesIn(kAllDTypes), testing::ValuesIn(kAllPatterns)),
                         [](const auto& info) {
                           std::string name = std::string(DTypeName(std::get<0>(info.param))) + "_" +
                                              PatternName(std::get<1>(info.param));
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(TileEncoderTest, CompressesKvLikeTilesOfEveryDtype) {
  const std::pair<DType, double> expected[] = {{DType::kBf16, 1.40},
                                               {DType::kFp16, 1.15},
                                               {DType::kFp8E4M3, 1.15},
                                               {DType::kFp8E5M2, 1.30},
                                               {DType::kFp32, 1.15}};
  for (const auto& [dtype, ratio] : expected) {
    const TileGeometry geometry = {dtype, 256, 64, 0, 0, KvKind::kK};
    const std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kKvLike, 1);
    ProfileId profile;
    const std::vector<uint8_t> coded = Encode(geometry, rows, BestIsa(), profile);
    EXPECT_EQ(profile, ProfileId::kLossless);
    EXPECT_GT(static_cast<double>(rows.size()) / static_cast<double>(coded.size()), ratio) << DTypeName(dtype);
  }
}

TEST(TileEncoderTest, FallsBackToRawWhereLosslessDoesNotGain) {
  for (const DType dtype : kAllDTypes) {
    const TileGeometry geometry = {dtype, 64, 64, 0, 0, KvKind::kK};
    const std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kRandomBits, 2);
    ProfileId profile;
    const std::vector<uint8_t> coded = Encode(geometry, rows, BestIsa(), profile);
    EXPECT_EQ(profile, ProfileId::kRaw) << DTypeName(dtype);
    EXPECT_EQ(coded, rows);
  }
}

TEST(TileEncoderTest, ConstantTileTakesLittleMoreThanItsRawBits) {
  const TileGeometry geometry = {DType::kBf16, 256, 64, 0, 0, KvKind::kK};
  const std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kConstant, 3);
  ProfileId profile;
  EXPECT_LT(Encode(geometry, rows, BestIsa(), profile).size(), geometry.elements() * 105 / 100 + 200);
  EXPECT_EQ(profile, ProfileId::kLossless);
}

TEST(TileEncoderTest, AppendsBehindWhatIsThere) {
  const TileGeometry geometry = {DType::kBf16, 64, 64, 0, 0, KvKind::kK};
  const std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kKvLike, 4);
  ProfileId profile;
  const std::vector<uint8_t> alone = Encode(geometry, rows, BestIsa(), profile);
  std::vector<uint8_t> coded = {1, 2, 3};
  TileEncoder encoder;
  ASSERT_TRUE(encoder.Encode(geometry, rows, ProfileId::kLossless, coded).ok());
  ASSERT_TRUE(encoder.Encode(geometry, rows, ProfileId::kLossless, coded).ok());
  ASSERT_EQ(coded.size(), 3 + 2 * alone.size());
  EXPECT_TRUE(std::equal(alone.begin(), alone.end(), coded.begin() + 3));
  EXPECT_TRUE(std::equal(alone.begin(), alone.end(), coded.begin() + 3 + static_cast<ptrdiff_t>(alone.size())));
}

TEST(TileEncoderTest, RawIsACopy) {
  const TileGeometry geometry = {DType::kFp16, 3, 16, 0, 0, KvKind::kK};
  const std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kKvLike, 5);
  std::vector<uint8_t> coded;
  TileEncoder encoder;
  EXPECT_EQ(*encoder.Encode(geometry, rows, ProfileId::kRaw, coded), ProfileId::kRaw);
  EXPECT_EQ(coded, rows);
}

TEST(TileCodecTest, RefusesBadGeometry) {
  std::vector<uint8_t> rows(64 * 64 * 2);
  std::vector<uint8_t> coded;
  TileEncoder encoder;
  TileDecoder decoder;
  const TileGeometry bad[] = {{DType::kBf16, 0, 64},  {DType::kBf16, 4097, 64}, {DType::kBf16, 64, 0},
                              {DType::kBf16, 64, 24}, {DType::kBf16, 64, 1040}, {static_cast<DType>(9), 64, 64},
                              {DType::kBf16, 63, 64}};
  for (const TileGeometry& geometry : bad) {
    EXPECT_EQ(encoder.Encode(geometry, rows, ProfileId::kLossless, coded).status().code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(decoder.Decode(geometry, ProfileId::kRaw, rows, rows).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(coded.empty());
}

TEST(TileCodecTest, NamesTheProfileItDoesNotKnow) {
  const TileGeometry geometry = {DType::kBf16, 1, 16};
  std::vector<uint8_t> rows(32);
  std::vector<uint8_t> coded;
  TileEncoder encoder;
  const absl::Status status = encoder.Encode(geometry, rows, ProfileId::kCacheGen, coded).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("cachegen"));
  TileDecoder decoder;
  EXPECT_EQ(decoder.Decode(geometry, static_cast<ProfileId>(77), coded, rows).code(), absl::StatusCode::kUnimplemented);
}

TEST(TileCodecTest, SaysWhichProfilesItEncodes) {
  EXPECT_EQ(CheckEncodable(ProfileId::kInt8), absl::OkStatus());
  const absl::Status unknown = CheckEncodable(ProfileId::kCacheGen);
  EXPECT_EQ(unknown.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(unknown.message()), testing::HasSubstr(EncodableProfileNames()));
  EXPECT_THAT(EncodableProfileNames(), testing::HasSubstr("raw, lossless, int8, q4, transform"));
  EXPECT_EQ(CheckEncodable(ProfileId::kInt8, DType::kFp32).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckEncodable(ProfileId::kLossless, DType::kFp32), absl::OkStatus());
}

TEST(TileDecoderTest, RefusesARawTileOfAnotherSize) {
  const TileGeometry geometry = {DType::kBf16, 1, 16};
  std::vector<uint8_t> rows(32);
  TileDecoder decoder;
  EXPECT_EQ(decoder.Decode(geometry, ProfileId::kRaw, std::vector<uint8_t>(31), rows).code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(decoder.Decode(geometry, ProfileId::kRaw, std::vector<uint8_t>(33), rows).code(),
            absl::StatusCode::kDataLoss);
}

// One object per kind of channel source: a tile of each must round-trip, and differ.
TEST(TileCodecTest, CodesWithChannelsFixedInTheObject) {
  for (const uint8_t prob_bits : {9, 10, 11}) {
    LosslessObjectSpec spec;
    spec.prob_bits = prob_bits;
    spec.shapes_per_set = 16;
    spec.channel_source = ChannelSource::kObject;
    spec.dtype = DType::kBf16;
    spec.layers = 2;
    spec.kv_heads = 2;
    spec.k_dim = 64;
    spec.v_dim = 48;
    spec.set_of = {0, 1, 1, 2};
    for (uint32_t i = 0; i < 3 * 16; ++i) {
      LosslessShape shape;
      shape.fill(1);
      for (uint32_t left = (uint32_t{1} << prob_bits) - 16, s = 0; left > 0; left -= left / 2 + left % 2, s++) {
        shape[(s + i) % 15] = static_cast<uint16_t>(shape[(s + i) % 15] + left / 2 + left % 2);
      }
      spec.shapes.push_back(shape);
    }
    spec.channels.resize(2 * 2 * (64 + 48));
    for (size_t i = 0; i < spec.channels.size(); ++i) {
      spec.channels[i] = {static_cast<uint8_t>(127 + i % 6), static_cast<uint8_t>(i % 5)};
    }
    const auto tables = LosslessTables::Create(spec);
    ASSERT_TRUE(tables.ok()) << tables.status();
    for (const TileGeometry& geometry : {TileGeometry{DType::kBf16, 256, 64, 1, 0, KvKind::kK},
                                         TileGeometry{DType::kBf16, 255, 48, 1, 1, KvKind::kV}}) {
      const std::vector<uint8_t> rows = MakeRows(geometry, TilePattern::kKvLike, 6);
      ProfileId profile;
      const std::vector<uint8_t> reference = Encode(geometry, rows, Isa::kScalar, profile, {&*tables});
      EXPECT_EQ(profile, ProfileId::kLossless);
      for (const Isa isa : SupportedIsas()) {
        EXPECT_EQ(Encode(geometry, rows, isa, profile, {&*tables}), reference);
        std::vector<uint8_t> decoded(rows.size());
        TileDecoder decoder({&*tables}, isa);
        ASSERT_EQ(decoder.Decode(geometry, profile, reference, decoded), absl::OkStatus());
        EXPECT_EQ(decoded, rows);
      }
    }
    TileEncoder encoder({&*tables});
    std::vector<uint8_t> coded;
    for (const TileGeometry& geometry :
         {TileGeometry{DType::kBf16, 4, 64, 2, 0, KvKind::kK}, TileGeometry{DType::kBf16, 4, 64, 0, 2, KvKind::kK},
          TileGeometry{DType::kBf16, 4, 64, 0, 0, KvKind::kV}, TileGeometry{DType::kFp16, 4, 64, 0, 0, KvKind::kK}}) {
      const std::vector<uint8_t> rows(geometry.raw_bytes());
      EXPECT_EQ(encoder.Encode(geometry, rows, ProfileId::kLossless, coded).status().code(),
                absl::StatusCode::kInvalidArgument);
      EXPECT_TRUE(coded.empty());
    }
  }
}

}  // namespace
}  // namespace kdn
