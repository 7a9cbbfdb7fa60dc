// The int8 decoder against bytes nobody encoded. Run under AddressSanitizer, this is also the proof that nothing is
// read or written out of bounds.
#include <gtest/gtest.h>

#include "kernels/codec/int8_core.h"
#include "kernels/codec/tile_codec.h"
#include "tests/kernels/codec/test_tiles.h"

namespace kdn {
namespace {

constexpr TileGeometry kSmallV = {DType::kBf16, 13, 48, 0, 0, KvKind::kV};  // 26 bytes of scales, 6 of padding

// Decodes a heap copy of exactly the given bytes with every instruction set; returns the scalar status.
absl::Status DecodeEverywhere(const TileGeometry& geometry, ByteSpan coded) {
  const std::vector<uint8_t> exact(coded.begin(), coded.end());
  std::vector<uint8_t> reference(geometry.raw_bytes());
  const absl::Status status = TileDecoder({}, Isa::kScalar).Decode(geometry, ProfileId::kInt8, exact, reference);
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
    if (!IsaSupported(isa)) continue;
    std::vector<uint8_t> rows(geometry.raw_bytes());
    const absl::Status other = TileDecoder({}, isa).Decode(geometry, ProfileId::kInt8, exact, rows);
    EXPECT_EQ(other, status) << IsaName(isa);
    if (status.ok()) {
      EXPECT_EQ(rows, reference) << IsaName(isa);
    }
  }
  const uint16_t infinity = geometry.dtype == DType::kBf16 ? 0x7f80 : 0x7c00;
  for (size_t i = 0; status.ok() && i < reference.size(); i += 2) {
    EXPECT_LT(LoadLe<uint16_t>(reference.data() + i) & 0x7fff, infinity) << "not finite at " << i;
  }
  return status;
}

std::vector<uint8_t> EncodeTile(const TileGeometry& geometry) {
  std::vector<uint8_t> coded;
  const auto profile =
      TileEncoder().Encode(geometry, MakeRows(geometry, TilePattern::kKvLike, 1), ProfileId::kInt8, coded);
  EXPECT_TRUE(profile.ok() && *profile == ProfileId::kInt8);
  return coded;
}

TEST(Int8HostileTest, RefusesEveryOtherSize) {
  for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
    TileGeometry geometry = kSmallV;
    geometry.kind = kind;
    std::vector<uint8_t> coded = EncodeTile(geometry);
    ASSERT_EQ(DecodeEverywhere(geometry, coded), absl::OkStatus());
    for (size_t size = 0; size < coded.size(); ++size) {
      ASSERT_EQ(DecodeEverywhere(geometry, ByteSpan(coded).first(size)).code(), absl::StatusCode::kDataLoss) << size;
    }
    coded.push_back(0);
    EXPECT_EQ(DecodeEverywhere(geometry, coded).code(), absl::StatusCode::kDataLoss);
  }
}

TEST(Int8HostileTest, RefusesScalesThatNoEncoderWrites) {
  for (const DType dtype : {DType::kBf16, DType::kFp16}) {
    TileGeometry geometry = kSmallV;
    geometry.dtype = dtype;
    const std::vector<uint8_t> good = EncodeTile(geometry);
    const auto near = [](uint32_t scale, uint32_t edge) { return scale + 2 >= edge && scale <= edge + 2; };
    for (uint32_t scale = 0; scale < 0x10000; ++scale) {
      if (scale % 97 != 0 && !near(scale, 1) && !near(scale, kInt8MinScale) && !near(scale, Int8MaxScale(dtype)) &&
          !near(scale, 0x7f80) && !near(scale, 0x8000) && !near(scale, 0xffff)) {
        continue;
      }
      std::vector<uint8_t> coded = good;
      StoreLe(static_cast<uint16_t>(scale), coded.data() + 2 * 12);
      const bool valid = scale == 0 || (scale >= kInt8MinScale && scale <= Int8MaxScale(dtype));
      ASSERT_EQ(DecodeEverywhere(geometry, coded).ok(), valid) << scale;
    }
  }
}

TEST(Int8HostileTest, RefusesBytesBetweenScalesAndCodes) {
  std::vector<uint8_t> coded = EncodeTile(kSmallV);
  for (size_t at = 26; at < 32; ++at) {
    coded[at] = 1;
    EXPECT_EQ(DecodeEverywhere(kSmallV, coded).code(), absl::StatusCode::kDataLoss);
    coded[at] = 0;
  }
}

TEST(Int8HostileTest, RefusesDtypesTheProfileDoesNotCode) {
  for (const DType dtype : {DType::kFp8E4M3, DType::kFp8E5M2, DType::kFp32}) {
    const TileGeometry geometry = {dtype, 8, 16, 0, 0, KvKind::kK};
    std::vector<uint8_t> rows(geometry.raw_bytes());
    const std::vector<uint8_t> coded(Int8TileLayout(geometry).tile_bytes);
    EXPECT_EQ(TileDecoder().Decode(geometry, ProfileId::kInt8, coded, rows).code(), absl::StatusCode::kDataLoss);
  }
}

TEST(Int8HostileTest, DecodesAnyCodesTheSameEverywhere) {
  std::mt19937_64 random(4);
  for (int round = 0; round < 500; ++round) {
    const TileGeometry geometry = {random() % 2 == 0 ? DType::kBf16 : DType::kFp16,
                                   static_cast<uint32_t>(1 + random() % 40),
                                   static_cast<uint32_t>(16 * (1 + random() % 9)),
                                   0,
                                   0,
                                   random() % 2 == 0 ? KvKind::kK : KvKind::kV};
    const Int8TileLayout layout(geometry);
    std::vector<uint8_t> coded(layout.tile_bytes);
    for (uint32_t i = 0; i < layout.scales; ++i) {
      const uint32_t range = Int8MaxScale(geometry.dtype) - kInt8MinScale + 1;
      const uint32_t scale = random() % 5 == 0 ? 0 : kInt8MinScale + random() % range;
      StoreLe(static_cast<uint16_t>(scale), coded.data() + 2 * i);
    }
    for (uint32_t i = layout.codes_offset; i < layout.tile_bytes; ++i) coded[i] = static_cast<uint8_t>(random());
    ASSERT_EQ(DecodeEverywhere(geometry, coded), absl::OkStatus());
  }
}

}  // namespace
}  // namespace kdn
