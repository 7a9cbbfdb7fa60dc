#include "kernels/codec/tile_geometry.h"

#include "kernels/base/status.h"

namespace kdn {

absl::Status ValidateTileGeometry(const TileGeometry& geometry) {
  if (!IsKnownDType(static_cast<uint8_t>(geometry.dtype))) {
    return InvalidArgument("tile: dtype ", static_cast<uint32_t>(geometry.dtype));
  }
  if (geometry.tokens < 1 || geometry.tokens > kMaxTileTokens) {
    return InvalidArgument("tile: ", geometry.tokens, " tokens, not 1..", kMaxTileTokens);
  }
  if (geometry.dim < 16 || geometry.dim > kMaxTileDim || geometry.dim % 16 != 0) {
    return InvalidArgument("tile: head dim ", geometry.dim, ", not a multiple of 16 up to ", kMaxTileDim);
  }
  return absl::OkStatus();
}

}  // namespace kdn
