#ifndef KDN_KERNELS_CODEC_Q4_TILE_H_
#define KDN_KERNELS_CODEC_Q4_TILE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "kernels/base/bytes.h"
#include "kernels/codec/isa.h"
#include "kernels/codec/q4_kernels.h"
#include "kernels/codec/tile_geometry.h"

// Profile q4: signs and Hadamard transform over the head dim, a scale per token and block, 4-bit Lloyd-Max codes;
// TILE_FORMATS.md has the bytes. Works on fp32 rows: TileEncoder and TileDecoder convert and rotate.

namespace kdn {

// Whether tiles of this dtype can be coded: all but fp32.
bool Q4Codes(DType dtype);

// The dtype of a tile's raw rows: fp16 for fp16, bf16 for every other dtype, since fp8 would round unrotated K twice.
inline DType Q4RawRowDType(DType dtype) { return dtype == DType::kFp16 ? DType::kFp16 : DType::kBf16; }

// Bytes of the tile that Q4TileEncoder makes.
size_t Q4TileBytes(const TileGeometry& geometry, uint32_t raw_rows);

// Keeps its scratch. One per thread.
class Q4TileEncoder {
 public:
  explicit Q4TileEncoder(Isa isa) : isa_(isa) {}

  // Codes the rows `values` ([token][channel]) and appends the tile to `out`. The first `raw_rows` rows, at most
  // geometry.tokens, are kept as 16-bit elements. K loses its channels' means first. False, with `out` unchanged, when
  // a value is not finite or too large for what a tile can say. Requires a valid geometry and Q4Codes(dtype).
  bool Encode(const TileGeometry& geometry, std::span<const float> values, uint32_t raw_rows,
              std::vector<uint8_t>& out);

 private:
  bool MakeMeans(const TileGeometry& geometry, const float* values, uint32_t rows, uint8_t* out);
  bool EncodeInto(const TileGeometry& geometry, std::span<const float> values, const Q4Layout& layout, uint8_t* out);

  Isa isa_;
  std::vector<float> means_;
  std::vector<int32_t> scales_;
};

// OK when the hostile bytes `coded` are a q4 tile of this geometry: every code and scale is valid under a header that
// is. DataLoss, saying what is wrong, else.
absl::Status CheckQ4Tile(const TileGeometry& geometry, ByteSpan coded);

// One tile at a time: Open, then Rows as often as wanted. One per thread.
class Q4TileDecoder {
 public:
  explicit Q4TileDecoder(Isa isa) : isa_(isa) {}

  // Takes the hostile bytes of a tile, which are borrowed until the next Open. Errors of CheckQ4Tile.
  absl::Status Open(const TileGeometry& geometry, ByteSpan coded);

  // Writes rows [first, first + count) as fp32 [token][channel]. Requires an OK Open that covers them.
  void Rows(uint32_t first, uint32_t count, float* out) const;

 private:
  Isa isa_;
  codec_internal::Q4DecodeJob job_;
  uint32_t raw_rows_ = 0;
  DType raw_dtype_ = DType::kBf16;
  const uint8_t* raw_bytes_ = nullptr;
  float means_[kMaxTileDim];
};

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_Q4_TILE_H_
