#ifndef KDN_TESTS_KERNELS_CUDA_CODED_TILE_H_
#define KDN_TESTS_KERNELS_CUDA_CODED_TILE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "kernels/codec/rope.h"
#include "kernels/codec/tile_codec.h"
#include "kernels/cuda/tile_job.h"
#include "tests/kernels/codec/test_tiles.h"

// Tiles for the tests of the device decoders: coded by TileEncoder, and what TileDecoder makes of them.

namespace kdn {

struct TileCase {
  TileGeometry geometry;
  ProfileId wanted = ProfileId::kLossless;
  TilePattern pattern = TilePattern::kKvLike;
  std::optional<RopeStyle> rope;  // K stored before this rotary embedding
  uint32_t sink_rows = 0;
};

struct CodedTile {
  TileGeometry geometry;
  ProfileId profile = ProfileId::kRaw;
  std::vector<uint8_t> coded;
  std::vector<uint8_t> rows;  // what TileDecoder makes of it
  std::optional<RopeTable> rope;
};

inline RopeSpec RopeOf(RopeStyle style, uint32_t dim) {
  RopeSpec spec;
  spec.style = style;
  spec.rotary_offset = dim >= 64 ? 16 : 0;  // some channels that do not rotate, where there is room
  spec.rotary_dim = dim - spec.rotary_offset;
  for (uint32_t i = 0; i < spec.rotary_dim / 2; ++i) spec.inv_freq.push_back(1.0f / static_cast<float>(i + 1));
  spec.amplitude = 1.25f;
  return spec;
}

inline constexpr uint64_t kSourcePosition = 100;
inline constexpr uint64_t kDestinationPosition = 7000;

inline CodedTile MakeCodedTile(const TileCase& from, uint64_t seed) {
  const TileGeometry& geometry = from.geometry;
  CodedTile tile;
  tile.geometry = geometry;
  const std::vector<uint8_t> rows = MakeRows(geometry, from.pattern, seed);
  TileContext encoding;
  TileContext decoding;
  std::optional<RopeTable> unrotate;
  encoding.sink_rows = from.sink_rows;
  if (from.rope.has_value()) {
    const RopeSpec spec = RopeOf(*from.rope, geometry.dim);
    unrotate.emplace(spec, RopeDirection::kUnrotate, kSourcePosition, geometry.tokens);
    tile.rope.emplace(spec, RopeDirection::kRotate, kDestinationPosition, geometry.tokens);
    encoding.rope = &*unrotate;
    decoding.rope = &*tile.rope;
  }
  const absl::StatusOr<ProfileId> used = TileEncoder().Encode(geometry, rows, from.wanted, tile.coded, encoding);
  EXPECT_TRUE(used.ok()) << used.status();
  tile.profile = used.value_or(ProfileId::kRaw);
  tile.rows.resize(geometry.raw_bytes());
  EXPECT_EQ(TileDecoder().Decode(geometry, tile.profile, tile.coded, tile.rows, decoding), absl::OkStatus());
  return tile;
}

// Tiles of every profile and dtype, widths of every shape of Hadamard block, short and long, with rotations.
inline std::vector<TileCase> AllTileCases() {
  struct Shape {
    uint32_t tokens;
    uint32_t dim;
  };
  std::vector<TileCase> cases;
  for (const Shape shape : {Shape{1, 16}, {33, 16}, {7, 48}, {256, 64}, {64, 128}, {40, 256}, {19, 576}, {5, 1008}}) {
    for (const DType dtype : kAllDTypes) {
      for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
        for (const ProfileId profile : {ProfileId::kRaw, ProfileId::kLossless, ProfileId::kInt8, ProfileId::kQ4}) {
          if (!CheckEncodable(profile, dtype).ok()) continue;
          TileCase added = {{dtype, shape.tokens, shape.dim, 1, 0, kind}, profile};
          added.sink_rows = std::min(3u, shape.tokens);
          cases.push_back(added);
          if (kind == KvKind::kV || dtype == DType::kFp32) continue;
          added.rope = shape.dim % 32 == 0 ? RopeStyle::kHalfSplit : RopeStyle::kInterleaved;
          cases.push_back(added);
        }
      }
    }
  }
  return cases;
}

// The job for all rows of the tile, without its pointers.
inline TileJob JobOf(const CodedTile& tile) {
  TileJob job;
  job.coded_bytes = static_cast<uint32_t>(tile.coded.size());
  job.tokens = tile.geometry.tokens;
  job.dim = tile.geometry.dim;
  job.dtype = tile.geometry.dtype;
  job.profile = tile.profile;
  job.kind = tile.geometry.kind;
  job.row_count = tile.geometry.tokens;
  job.lossless_prob_bits = LosslessTables::BuiltIn().prob_bits();
  if (tile.rope.has_value()) {
    job.rope.offset = tile.rope->offset();
    job.rope.pairs = tile.rope->pairs();
    job.rope.interleaved = tile.rope->style() == RopeStyle::kInterleaved;
  }
  const auto element_bytes = static_cast<int64_t>(DTypeBytes(job.dtype));
  job.destination.channel_stride_bytes = element_bytes;
  job.destination.token_stride_bytes = element_bytes * job.dim;
  return job;
}

inline std::string DescribeTile(const CodedTile& tile) {
  return std::string(ProfileName(tile.profile)) + " " + std::string(DTypeName(tile.geometry.dtype)) + " " +
         std::to_string(tile.geometry.tokens) + "x" + std::to_string(tile.geometry.dim) +
         (tile.geometry.kind == KvKind::kK ? " K" : " V") + (tile.rope.has_value() ? " unrotated" : "");
}

}  // namespace kdn

#endif  // KDN_TESTS_KERNELS_CUDA_CODED_TILE_H_
