#include <algorithm>

#include "kernels/base/status.h"
#include "kernels/codec/q4_tile.h"
#include "kernels/codec/row_kernels.h"

namespace kdn {

absl::Status CheckQ4Tile(const TileGeometry& geometry, ByteSpan coded) {
  if (!Q4Codes(geometry.dtype)) return DataLoss("q4 tile of ", DTypeName(geometry.dtype));
  if (coded.size() < kQ4HeaderBytes) return DataLoss("q4 tile: ", coded.size(), " bytes, the header has 16");
  const uint8_t flags = coded[0];
  const auto base = static_cast<int8_t>(coded[1]);
  const uint32_t raw_rows = LoadLe<uint16_t>(coded.data() + 2);
  if ((flags & ~kQ4HasMeans) != 0) return DataLoss("q4 tile: flags ", static_cast<uint32_t>(flags));
  if (base < kQ4MinBase || base > kQ4MaxBase) return DataLoss("q4 tile: base exponent ", static_cast<int>(base));
  if (raw_rows > geometry.tokens) return DataLoss("q4 tile: ", raw_rows, " raw rows of ", geometry.tokens);
  if (std::any_of(coded.begin() + 4, coded.begin() + kQ4HeaderBytes, [](uint8_t byte) { return byte != 0; })) {
    return DataLoss("q4 tile: reserved header bytes are not 0");
  }
  const Q4Layout layout = Q4LayoutOf(geometry.tokens, geometry.dim, raw_rows, (flags & kQ4HasMeans) != 0);
  if (coded.size() != layout.total_bytes) {
    return DataLoss("q4 tile: ", coded.size(), " bytes, not ", layout.total_bytes);
  }
  for (size_t at = layout.means; at < layout.raw_rows; at += 2) {
    if ((LoadLe<uint16_t>(coded.data() + at) & 0x7c00) == 0x7c00) {
      return DataLoss("q4 tile: the mean of channel ", (at - layout.means) / 2, " is not finite");
    }
  }
  return absl::OkStatus();
}

absl::Status Q4TileDecoder::Open(const TileGeometry& geometry, ByteSpan coded) {
  KDN_RETURN_IF_ERROR(CheckQ4Tile(geometry, coded));
  const bool has_means = (coded[0] & kQ4HasMeans) != 0;
  raw_rows_ = LoadLe<uint16_t>(coded.data() + 2);
  const Q4Layout layout = Q4LayoutOf(geometry.tokens, geometry.dim, raw_rows_, has_means);
  codec_internal::RowKernelsFor(isa_).widen(DType::kFp16, coded.data() + layout.means, has_means ? geometry.dim : 0,
                                            means_);
  raw_dtype_ = Q4RawRowDType(geometry.dtype);
  raw_bytes_ = coded.data() + layout.raw_rows;
  job_.dim = geometry.dim;
  job_.blocks = layout.blocks;
  job_.base = static_cast<int8_t>(coded[1]);
  job_.codes = coded.data() + kQ4HeaderBytes;
  job_.scales = coded.data() + layout.scales;
  job_.signs = codec_internal::kQ4SignMasks.data();
  job_.means = has_means ? means_ : nullptr;
  return absl::OkStatus();
}

void Q4TileDecoder::Rows(uint32_t first, uint32_t count, float* out) const {
  const uint32_t raw_end = std::clamp(raw_rows_, first, first + count);
  const size_t raw_elements = size_t{raw_end - first} * job_.dim;
  if (raw_elements > 0) {
    codec_internal::RowKernelsFor(isa_).widen(raw_dtype_, raw_bytes_ + size_t{2} * first * job_.dim, raw_elements, out);
  }
  if (raw_end < first + count) {
    codec_internal::Q4KernelsFor(isa_).decode(job_, raw_end - raw_rows_, first + count - raw_end, out + raw_elements);
  }
}

}  // namespace kdn
