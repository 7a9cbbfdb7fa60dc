#ifndef KDN_KERNELS_CODEC_INT8_TILE_H_
#define KDN_KERNELS_CODEC_INT8_TILE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "kernels/base/bytes.h"
#include "kernels/codec/isa.h"
#include "kernels/codec/tile_geometry.h"

// The int8 tile (profile P2). TILE_FORMATS.md specifies its bytes, int8_core.h its arithmetic. Geometries are valid
// throughout.

namespace kdn {

// Most scales of a tile: a channel of K or a token of V has one.
inline constexpr uint32_t kMaxInt8Scales = kMaxTileTokens;
static_assert(kMaxInt8Scales >= kMaxTileDim);

// The parts of an int8 tile, in order of their place.
struct Int8TileLayout {
  static constexpr uint32_t kAlignment = 16;

  uint32_t scales = 0;
  uint32_t codes_offset = 0;  // behind the scales, zeros up to a multiple of kAlignment
  uint32_t tile_bytes = 0;

  explicit Int8TileLayout(const TileGeometry& geometry);
};

// OK when the hostile bytes `coded` are an int8 tile of this geometry: every code is valid under a header that is.
// DataLoss, saying what is wrong, else.
absl::Status CheckInt8Tile(const TileGeometry& geometry, ByteSpan coded);

// Encodes tiles. Keeps its scratch between calls; not thread-safe.
class Int8TileEncoder {
 public:
  explicit Int8TileEncoder(Isa isa) : isa_(isa) {}

  // Codes `rows` (geometry.raw_bytes() of them, of a dtype that Int8Codes) and appends the tile to `out`. False when
  // the tile holds NaN, an infinity or a magnitude above Int8MaxMagnitude; `out` is then unchanged.
  bool Encode(const TileGeometry& geometry, ByteSpan rows, std::vector<uint8_t>& out);

 private:
  Isa isa_;
  std::array<uint16_t, kMaxInt8Scales> magnitudes_;
  std::array<float, kMaxInt8Scales> inverses_;
};

// Decodes tiles. Keeps its scratch between calls; not thread-safe.
class Int8TileDecoder {
 public:
  explicit Int8TileDecoder(Isa isa) : isa_(isa) {}

  // Decodes the hostile bytes `coded` into `rows` (geometry.raw_bytes() bytes), none of which becomes NaN or infinite.
  // Every code is valid, and so is every tile of the right size with valid scales; DataLoss for others and for dtypes
  // the profile does not code, and `rows` are then unspecified.
  absl::Status Decode(const TileGeometry& geometry, ByteSpan coded, MutableByteSpan rows);

 private:
  Isa isa_;
  std::array<float, kMaxInt8Scales> scales_;
};

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_INT8_TILE_H_
