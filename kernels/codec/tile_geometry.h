#ifndef KDN_KERNELS_CODEC_TILE_GEOMETRY_H_
#define KDN_KERNELS_CODEC_TILE_GEOMETRY_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "kernels/layout/dtype.h"

namespace kdn {

inline constexpr uint32_t kMaxTileTokens = 4096;
inline constexpr uint32_t kMaxTileDim = 1024;  // channels; a multiple of 16

// What a tile holds: `tokens` rows of one KV head's K or V at one layer, [token][channel], contiguous little-endian
// elements.
struct TileGeometry {
  DType dtype = DType::kBf16;
  uint32_t tokens = 0;  // 1..kMaxTileTokens
  uint32_t dim = 0;     // 16..kMaxTileDim
  uint16_t layer = 0;
  uint16_t head = 0;  // global KV head
  KvKind kind = KvKind::kK;

  uint32_t elements() const { return tokens * dim; }
  size_t raw_bytes() const { return static_cast<size_t>(elements()) * DTypeBytes(dtype); }
};

// OK when the bounds above hold; else InvalidArgument naming field and value.
absl::Status ValidateTileGeometry(const TileGeometry& geometry);

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_TILE_GEOMETRY_H_
