#include "kernels/cuda/tile_decode_core.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "kernels/cuda/tile_check.h"
#include "tests/kernels/codec/golden_files.h"
#include "tests/kernels/cuda/coded_tile.h"

namespace kdn {
namespace {

// Host memory for one tile: its bytes at a multiple of 16, its stage, everything a device would hold.
class HostTile {
 public:
  explicit HostTile(const CodedTile& tile)
      : tile_(tile), blocks_(CeilDiv(tile.coded.size(), sizeof(cuda_internal::StoreBlock))) {
    std::memcpy(blocks_.data(), tile.coded.data(), tile.coded.size());
    job_ = JobOf(tile);
    job_.coded = reinterpret_cast<const uint8_t*>(blocks_.data());
    job_.lossless_table = LosslessTables::BuiltIn().DecodeTable(0);
    if (tile.rope.has_value()) job_.rope.cos_sin = tile.rope->cos_sin();
  }

  TileJob& job() { return job_; }

  TileOutcome Decode() {
    EXPECT_EQ(CheckTileJob(tile_.geometry, job_, tile_.coded, LosslessTables::BuiltIn()), absl::OkStatus());
    std::vector<uint32_t> stage(StageWords(job_.dim));
    return cuda_internal::DecodeTile<HostLanes>(job_, stage.data());
  }

 private:
  const CodedTile& tile_;
  std::vector<cuda_internal::StoreBlock> blocks_;
  TileJob job_;
};

TEST(TileDecodeCoreTest, DecodesEveryProfileAsTileDecoderDoes) {
  uint64_t seed = 0;
  for (const TileCase& from : AllTileCases()) {
    const CodedTile tile = MakeCodedTile(from, ++seed);
    SCOPED_TRACE(DescribeTile(tile));
    HostTile host(tile);
    std::vector<uint8_t> rows(tile.rows.size(), 0xa5);
    host.job().destination.data = rows.data();
    EXPECT_EQ(host.Decode(), TileOutcome::kDecoded);
    EXPECT_EQ(rows, tile.rows);
  }
}

TEST(TileDecodeCoreTest, SpecialValuesAndEscapesSurvive) {
  for (const TilePattern pattern : kAllPatterns) {
    for (const DType dtype : kAllDTypes) {
      const CodedTile tile = MakeCodedTile({{dtype, 45, 48, 1, 0, KvKind::kK}, ProfileId::kLossless, pattern}, 5);
      SCOPED_TRACE(DescribeTile(tile) + " " + PatternName(pattern));
      HostTile host(tile);
      std::vector<uint8_t> rows(tile.rows.size(), 0xa5);
      host.job().destination.data = rows.data();
      EXPECT_EQ(host.Decode(), TileOutcome::kDecoded);
      EXPECT_EQ(rows, tile.rows);
    }
  }
}

// Rows of a tile scattered into 16-token blocks in a shuffled order, one element between channels, some rows left out.
TEST(TileDecodeCoreTest, WritesWantedRowsIntoBlocksAndNothingElse) {
  for (const ProfileId profile : {ProfileId::kRaw, ProfileId::kLossless, ProfileId::kInt8, ProfileId::kQ4}) {
    for (const int64_t spread : {1, 2}) {
      const CodedTile tile = MakeCodedTile({{DType::kBf16, 100, 64, 1, 0, KvKind::kK}, profile}, 9);
      SCOPED_TRACE(DescribeTile(tile) + " spread " + std::to_string(spread));
      constexpr uint32_t kBlockTokens = 16;
      const std::vector<int32_t> blocks = {5, 0, 3, 6, 1, 2, 4};
      HostTile host(tile);
      TileJob& job = host.job();
      job.row_begin = 11;
      job.row_count = 77;
      TileDestination& to = job.destination;
      to.channel_stride_bytes = 2 * spread;
      to.token_stride_bytes = 64 * to.channel_stride_bytes;
      to.block_stride_bytes = kBlockTokens * to.token_stride_bytes;
      to.blocks = blocks.data();
      to.block_tokens = kBlockTokens;
      to.token = 20;
      std::vector<uint8_t> cache(blocks.size() * static_cast<size_t>(to.block_stride_bytes), 0xa5);
      std::vector<uint8_t> expected = cache;
      to.data = cache.data();
      for (uint32_t row = 0; row < job.row_count; ++row) {
        const uint32_t token = to.token + row;
        const int64_t at =
            blocks[token / kBlockTokens] * to.block_stride_bytes + token % kBlockTokens * to.token_stride_bytes;
        for (uint32_t channel = 0; channel < 64; ++channel) {
          std::memcpy(expected.data() + at + channel * to.channel_stride_bytes,
                      tile.rows.data() + (size_t{job.row_begin + row} * 64 + channel) * 2, 2);
        }
      }
      EXPECT_EQ(host.Decode(), TileOutcome::kDecoded);
      EXPECT_EQ(cache, expected);
    }
  }
}

TEST(TileDecodeCoreTest, DamagedEntropyCodesAreToldAndLeaveNoBounds) {
  const CodedTile tile = MakeCodedTile({{DType::kBf16, 40, 64, 1, 0, KvKind::kV}, ProfileId::kLossless}, 3);
  ASSERT_EQ(tile.profile, ProfileId::kLossless);
  uint32_t told = 0;
  for (size_t at = 4 + 128 + 64 + 40 * 64; at < tile.coded.size(); ++at) {  // the words
    CodedTile damaged = tile;
    damaged.coded[at] ^= 0x55;
    HostTile host(damaged);
    std::vector<uint8_t> rows(tile.rows.size());
    host.job().destination.data = rows.data();
    const bool decoded = host.Decode() == TileOutcome::kDecoded;
    told += decoded ? 0 : 1;
    std::vector<uint8_t> reference(tile.rows.size());
    EXPECT_EQ(decoded, TileDecoder().Decode(tile.geometry, tile.profile, damaged.coded, reference).ok()) << at;
  }
  EXPECT_GT(told, 0u);
}

const std::string kGolden = std::string(KDN_SOURCE_DIR) + "/tests/kernels/codec/golden/";

void ExpectGolden(const TileGeometry& geometry, ProfileId profile, const std::string& coded_name,
                  const std::string& rows_name) {
  CodedTile tile;
  tile.geometry = geometry;
  tile.profile = profile;
  tile.coded = ReadBytes(kGolden + coded_name);
  ASSERT_FALSE(tile.coded.empty()) << coded_name;
  HostTile host(tile);
  std::vector<uint8_t> rows(geometry.raw_bytes());
  host.job().destination.data = rows.data();
  EXPECT_EQ(host.Decode(), TileOutcome::kDecoded) << coded_name;
  EXPECT_EQ(rows, ReadBytes(kGolden + rows_name)) << coded_name;
}

TEST(TileDecodeCoreTest, GoldenVectorsDecode) {
  for (const DType dtype : kAllDTypes) {
    const std::string name(DTypeName(dtype));
    ExpectGolden(GoldenGeometry(dtype), ProfileId::kLossless, name + ".lossless", name + ".rows");
    ExpectGolden(GoldenGeometry(dtype), ProfileId::kRaw, name + ".rows", name + ".rows");
  }
  for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
    for (const DType dtype : kGoldenInt8DTypes) {
      const TileGeometry geometry = GoldenInt8Geometry(dtype, kind);
      ExpectGolden(geometry, ProfileId::kInt8, GoldenInt8Name(geometry), GoldenInt8Name(geometry) + ".rows");
    }
    for (const DType dtype : kGoldenQ4DTypes) {
      const TileGeometry geometry = GoldenQ4Geometry(dtype, kind);
      ExpectGolden(geometry, ProfileId::kQ4, GoldenQ4Name(geometry), GoldenQ4Name(geometry) + ".rows");
    }
  }
}

}  // namespace
}  // namespace kdn
