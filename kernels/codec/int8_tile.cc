#include "kernels/codec/int8_tile.h"

#include <algorithm>

#include "kernels/base/status.h"
#include "kernels/codec/int8_core.h"
#include "kernels/codec/int8_kernels.h"

namespace kdn {

Int8TileLayout::Int8TileLayout(const TileGeometry& geometry)
    : scales(geometry.kind == KvKind::kK ? geometry.dim : geometry.tokens),
      codes_offset(static_cast<uint32_t>(AlignUp(2 * scales, kAlignment))),
      tile_bytes(codes_offset + geometry.elements()) {}

bool Int8TileEncoder::Encode(const TileGeometry& geometry, ByteSpan rows, std::vector<uint8_t>& out) {
  const codec_internal::Int8Kernels& kernels = codec_internal::Int8KernelsFor(isa_);
  const Int8TileLayout layout(geometry);
  const bool is_k = geometry.kind == KvKind::kK;
  (is_k ? kernels.channel_magnitudes : kernels.token_magnitudes)(geometry, rows.data(), magnitudes_.data());
  const uint16_t largest = *std::max_element(magnitudes_.begin(), magnitudes_.begin() + layout.scales);
  if (largest > Int8MaxMagnitude(geometry.dtype)) return false;

  const size_t at = out.size();
  out.resize(at + layout.tile_bytes);
  uint8_t* tile = out.data() + at;
  for (uint32_t i = 0; i < layout.scales; ++i) {
    const uint16_t scale = geometry.dtype == DType::kBf16 ? Int8ScaleOf<DType::kBf16>(magnitudes_[i])
                                                          : Int8ScaleOf<DType::kFp16>(magnitudes_[i]);
    StoreLe(scale, tile + 2 * i);
    inverses_[i] = Int8InverseOf(scale);
  }
  kernels.quantise(geometry, rows.data(), inverses_.data(), tile + layout.codes_offset);
  return true;
}

absl::Status CheckInt8Tile(const TileGeometry& geometry, ByteSpan coded) {
  if (!Int8Codes(geometry.dtype)) return DataLoss("int8 tile of ", DTypeName(geometry.dtype));
  const Int8TileLayout layout(geometry);
  if (coded.size() != layout.tile_bytes) {
    return DataLoss("int8 tile: ", coded.size(), " bytes, not ", layout.tile_bytes);
  }
  for (uint32_t i = 0; i < layout.scales; ++i) {
    const auto scale = LoadLe<uint16_t>(coded.data() + 2 * i);
    if (!Int8ScaleValid(geometry.dtype, scale)) {
      return DataLoss("int8 tile: scale ", i, " has the bits ", scale, ", which no encoder writes");
    }
  }
  for (uint32_t i = 2 * layout.scales; i < layout.codes_offset; ++i) {
    if (coded[i] != 0) return DataLoss("int8 tile: byte ", i, " between scales and codes is ", coded[i]);
  }
  return absl::OkStatus();
}

absl::Status Int8TileDecoder::Decode(const TileGeometry& geometry, ByteSpan coded, MutableByteSpan rows) {
  KDN_RETURN_IF_ERROR(CheckInt8Tile(geometry, coded));
  const Int8TileLayout layout(geometry);
  for (uint32_t i = 0; i < layout.scales; ++i) scales_[i] = WidenBf16(LoadLe<uint16_t>(coded.data() + 2 * i));
  codec_internal::Int8KernelsFor(isa_).dequantise(geometry, coded.data() + layout.codes_offset, scales_.data(),
                                                  rows.data());
  return absl::OkStatus();
}

}  // namespace kdn
