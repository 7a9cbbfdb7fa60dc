#ifndef KDN_KERNELS_CODEC_LOSSLESS_CHANNELS_H_
#define KDN_KERNELS_CODEC_LOSSLESS_CHANNELS_H_

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "kernels/base/status.h"
#include "kernels/codec/lossless_channels_core.h"
#include "kernels/codec/lossless_tables.h"
#include "kernels/codec/rans_core.h"
#include "kernels/codec/tile_geometry.h"

// Channel classes on their way into and out of a lossless tile. Internal to kernels/codec.

namespace kdn::codec_internal {

// Steps after which the channels repeat: one row, or two when a row is no whole number of steps.
constexpr uint32_t PatternSteps(uint32_t dim) { return dim % kRansLanes == 0 ? dim / kRansLanes : dim / 16; }

// pattern[i] = offset << 16 | shape * shape_stride for element i of one period. `pattern` holds PatternSteps * 32.
inline void FillPattern(std::span<const ChannelClass> channels, uint32_t shape_stride, std::span<uint32_t> pattern) {
  const size_t dim = channels.size();
  for (size_t i = 0; i < dim; ++i) {
    pattern[i] = (static_cast<uint32_t>(channels[i].offset) << 16) | (channels[i].shape * shape_stride);
  }
  if (dim % kRansLanes == 0) return;
  for (size_t i = 0; i < dim; ++i) pattern[dim + i] = pattern[i];
}

// The object's channels for a tile. InvalidArgument when it is for another dtype or does not cover the tile.
inline absl::StatusOr<std::span<const ChannelClass>> ObjectChannels(const LosslessTables& tables,
                                                                    const TileGeometry& geometry) {
  if (tables.dtype() != geometry.dtype) {
    return InvalidArgument("lossless object ", tables.digest().ToShortHex(), " is for ", DTypeName(tables.dtype()),
                           ", the tile holds ", DTypeName(geometry.dtype));
  }
  return tables.ChannelsOf(geometry.layer, geometry.kind, geometry.head, geometry.dim);
}

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_LOSSLESS_CHANNELS_H_
