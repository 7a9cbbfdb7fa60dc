#ifndef KDN_KERNELS_CODEC_INT8_KERNELS_H_
#define KDN_KERNELS_CODEC_INT8_KERNELS_H_

#include <cstdint>

#include "kernels/codec/isa.h"
#include "kernels/codec/tile_geometry.h"

// The inner loops of the int8 profile, one set per instruction set, behind one table of functions. Internal to
// kernels/codec: tile_codec.h is the interface. Geometries are valid, of a dtype that Int8Codes; `rows` are
// [token][channel] elements, `codes` [token][channel] bytes. A factor (scale or inverse) belongs to a channel of K, to
// a token of V: factors are [dim] or [tokens].

namespace kdn::codec_internal {

struct Int8Kernels {
  // magnitudes[channel] = largest element & kInt8MagnitudeMask over the tokens.
  void (*channel_magnitudes)(const TileGeometry& geometry, const uint8_t* rows, uint16_t* magnitudes);
  // magnitudes[token] = the same over the channels.
  void (*token_magnitudes)(const TileGeometry& geometry, const uint8_t* rows, uint16_t* magnitudes);
  // codes = Int8Quantise(element, inverse of its channel or token).
  void (*quantise)(const TileGeometry& geometry, const uint8_t* rows, const float* inverses, uint8_t* codes);
  // rows = Int8Dequantise(code, scale of its channel or token), narrowed to the dtype.
  void (*dequantise)(const TileGeometry& geometry, const uint8_t* codes, const float* scales, uint8_t* rows);
};

// Kernels of a supported instruction set.
const Int8Kernels& Int8KernelsFor(Isa isa);

// Null when the build has none.
const Int8Kernels* Int8Avx2Kernels();
const Int8Kernels* Int8Avx512Kernels();

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_INT8_KERNELS_H_
