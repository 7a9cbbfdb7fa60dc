#ifndef KDN_KERNELS_CODEC_INT8_CHOICE_H_
#define KDN_KERNELS_CODEC_INT8_CHOICE_H_

#include <cstddef>

#include "kernels/base/bytes.h"
#include "kernels/codec/tile_geometry.h"

namespace kdn::codec_internal {

// Whether the rows' lossless tile, whose header and raw bits have `lossless_fixed_bytes`, is certainly larger than
// `int8_bytes`: by counting, as far as needed, exponents that cannot cost less than a bit. False means: encode and
// compare. The dtype Int8Codes.
bool LosslessIsLarger(const TileGeometry& geometry, ByteSpan rows, size_t lossless_fixed_bytes, size_t int8_bytes);

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_INT8_CHOICE_H_
