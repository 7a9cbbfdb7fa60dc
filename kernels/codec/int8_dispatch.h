#ifndef KDN_KERNELS_CODEC_INT8_DISPATCH_H_
#define KDN_KERNELS_CODEC_INT8_DISPATCH_H_

#include "kernels/codec/tile_geometry.h"

namespace kdn::codec_internal {

// body.operator()<dtype, kind>(), for a function compiled for each dtype that Int8Codes and each kind.
template <typename Body>
void ForInt8Tile(const TileGeometry& geometry, Body body) {
  if (geometry.dtype == DType::kBf16) {
    geometry.kind == KvKind::kK ? body.template operator()<DType::kBf16, KvKind::kK>()
                                : body.template operator()<DType::kBf16, KvKind::kV>();
  } else {
    geometry.kind == KvKind::kK ? body.template operator()<DType::kFp16, KvKind::kK>()
                                : body.template operator()<DType::kFp16, KvKind::kV>();
  }
}

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_INT8_DISPATCH_H_
