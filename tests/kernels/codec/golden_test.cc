// The committed vectors and today's coders agree in both directions. golden_generate.cc wrote them, once.
#include <gtest/gtest.h>

#include "tests/kernels/codec/golden_files.h"

namespace kdn {
namespace {

std::vector<uint8_t> Golden(const std::string& name) {
  std::vector<uint8_t> bytes = ReadBytes(std::string(KDN_SOURCE_DIR "/tests/kernels/codec/golden/") + name);
  EXPECT_FALSE(bytes.empty()) << name;
  return bytes;
}

void ExpectBothWays(const TileGeometry& geometry, ProfileId profile, const std::vector<uint8_t>& rows,
                    const std::vector<uint8_t>& coded, CodecTables tables) {
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (!IsaSupported(isa)) continue;
    SCOPED_TRACE(IsaName(isa));
    std::vector<uint8_t> decoded(geometry.raw_bytes());
    ASSERT_EQ(TileDecoder(tables, isa).Decode(geometry, profile, coded, decoded), absl::OkStatus());
    EXPECT_EQ(decoded, rows);
    std::vector<uint8_t> encoded;
    const auto used = TileEncoder(tables, isa).Encode(geometry, rows, profile, encoded);
    ASSERT_TRUE(used.ok()) << used.status();
    EXPECT_EQ(*used, profile);
    EXPECT_EQ(encoded, coded);
  }
}

TEST(GoldenTileTest, EveryProfileAndDtypeIsFrozen) {
  for (const DType dtype : kAllDTypes) {
    const std::string name(DTypeName(dtype));
    SCOPED_TRACE(name);
    const std::vector<uint8_t> rows = Golden(name + ".rows");
    ExpectBothWays(GoldenGeometry(dtype), ProfileId::kRaw, rows, rows, {});
    ExpectBothWays(GoldenGeometry(dtype), ProfileId::kLossless, rows, Golden(name + ".lossless"), {});
  }
}

TEST(GoldenTileTest, Q4OfEveryDtypeAndKindIsFrozen) {
  for (const DType dtype : kGoldenQ4DTypes) {
    const std::vector<uint8_t> rows = Golden(std::string(DTypeName(dtype)) + ".q4.rows");
    for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
      const TileGeometry geometry = GoldenQ4Geometry(dtype, kind);
      const std::vector<uint8_t> coded = Golden(GoldenQ4Name(geometry));
      const std::vector<uint8_t> expected = Golden(GoldenQ4Name(geometry) + ".rows");
      for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
        if (!IsaSupported(isa)) continue;
        SCOPED_TRACE(GoldenQ4Name(geometry) + ", " + std::string(IsaName(isa)));
        std::vector<uint8_t> decoded(geometry.raw_bytes());
        ASSERT_EQ(TileDecoder({}, isa).Decode(geometry, ProfileId::kQ4, coded, decoded), absl::OkStatus());
        EXPECT_EQ(decoded, expected);
        EXPECT_EQ(EncodeGoldenQ4(geometry, rows, isa), coded);
      }
    }
  }
}

TEST(GoldenTileTest, Int8OfEveryDtypeAndKindIsFrozen) {
  for (const DType dtype : kGoldenInt8DTypes) {
    const std::vector<uint8_t> rows = Golden(std::string(DTypeName(dtype)) + ".int8.rows");
    for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
      const TileGeometry geometry = GoldenInt8Geometry(dtype, kind);
      const std::vector<uint8_t> coded = Golden(GoldenInt8Name(geometry));
      const std::vector<uint8_t> expected = Golden(GoldenInt8Name(geometry) + ".rows");
      for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
        if (!IsaSupported(isa)) continue;
        SCOPED_TRACE(GoldenInt8Name(geometry) + ", " + std::string(IsaName(isa)));
        std::vector<uint8_t> decoded(geometry.raw_bytes());
        ASSERT_EQ(TileDecoder({}, isa).Decode(geometry, ProfileId::kInt8, coded, decoded), absl::OkStatus());
        EXPECT_EQ(decoded, expected);
        std::vector<uint8_t> encoded;
        EXPECT_TRUE(Int8TileEncoder(isa).Encode(geometry, rows, encoded));
        EXPECT_EQ(encoded, coded);
      }
    }
  }
}

TEST(GoldenTileTest, TransformOfEveryDtypeIsFrozen) {
  for (const DType dtype : kGoldenTransformDTypes) {
    const std::vector<uint8_t> bytes = Golden(std::string(DTypeName(dtype)) + ".transform.object");
    const auto object = TransformObject::Parse(bytes, GoldenTransformSpec(dtype));
    ASSERT_TRUE(object.ok()) << object.status();
    for (uint32_t group = 0; group < 2; ++group) {
      const std::string name = GoldenTransformName(dtype, group);
      const std::vector<uint8_t> rows = Golden(name + ".rows");
      const std::vector<uint8_t> coded = Golden(name);
      const TransformTileHeader header = ReadTransformTileHeader(coded).value();
      EXPECT_GE(header.raw_rows, 3u);
      EXPECT_GT(header.escape_count, 0u);
      for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
        if (!IsaSupported(isa)) continue;
        SCOPED_TRACE(name + ", " + std::string(IsaName(isa)));
        EXPECT_EQ(DecodeGoldenTransform(**object, dtype, group, coded, isa), Golden(name + ".decoded"));
        EXPECT_EQ(EncodeGoldenTransform(**object, dtype, group, rows, isa), coded);
      }
    }
  }
}

TEST(GoldenTileTest, TileUnderAnObjectWithChannelsIsFrozen) {
  const std::vector<uint8_t> object = Golden("channels.object");
  const auto tables = LosslessTables::Parse(object);
  ASSERT_TRUE(tables.ok()) << tables.status();
  const auto created = LosslessTables::Create(GoldenObjectSpec());
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_EQ(tables->digest(), created->digest());
  ExpectBothWays(GoldenGeometry(DType::kBf16), ProfileId::kLossless, Golden("bf16.rows"),
                 Golden("bf16.lossless-channels"), {&*tables});
}

}  // namespace
}  // namespace kdn
