#include <algorithm>
#include <cassert>
#include <cmath>

#include "kernels/codec/q4_tile.h"
#include "kernels/codec/row_kernels.h"

namespace kdn {
namespace {

// Means cost 16 bits a channel; they pay for K, whose channels have large ones, and not measurably for V.
bool HasMeans(const TileGeometry& geometry, uint32_t coded_rows) {
  return geometry.kind == KvKind::kK && coded_rows >= 2;
}

constexpr float kLargestMean = 65504.0f;  // fp16's largest number

bool AllFinite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

}  // namespace

bool Q4Codes(DType dtype) { return dtype != DType::kFp32; }

size_t Q4TileBytes(const TileGeometry& geometry, uint32_t raw_rows) {
  const bool has_means = HasMeans(geometry, geometry.tokens - raw_rows);
  return Q4LayoutOf(geometry.tokens, geometry.dim, raw_rows, has_means).total_bytes;
}

bool Q4TileEncoder::MakeMeans(const TileGeometry& geometry, const float* values, uint32_t rows, uint8_t* out) {
  means_.resize(geometry.dim);
  codec_internal::Q4KernelsFor(isa_).sum_rows(values, rows, geometry.dim, means_.data());
  for (float& mean : means_) {
    mean /= static_cast<float>(rows);
    if (!(std::fabs(mean) <= kLargestMean)) return false;
  }
  // What is subtracted is what the decoder will add.
  const codec_internal::RowKernels& kernels = codec_internal::RowKernelsFor(isa_);
  kernels.narrow(DType::kFp16, means_.data(), means_.size(), out);
  kernels.widen(DType::kFp16, out, means_.size(), means_.data());
  return true;
}

bool Q4TileEncoder::EncodeInto(const TileGeometry& geometry, std::span<const float> values, const Q4Layout& layout,
                               uint8_t* out) {
  const uint32_t raw_rows = geometry.tokens - layout.coded_rows;
  const bool has_means = layout.raw_rows != layout.means;
  const std::span<const float> raw = values.first(size_t{raw_rows} * geometry.dim);
  const float* const coded = values.data() + raw.size();
  if (!AllFinite(raw)) return false;
  if (has_means && !MakeMeans(geometry, coded, layout.coded_rows, out + layout.means)) return false;
  codec_internal::RowKernelsFor(isa_).narrow(Q4RawRowDType(geometry.dtype), raw.data(), raw.size(),
                                             out + layout.raw_rows);
  scales_.resize(size_t{layout.coded_rows} * layout.blocks);
  codec_internal::Q4EncodeJob job;
  job.dim = geometry.dim;
  job.blocks = layout.blocks;
  job.rows = layout.coded_rows;
  job.values = coded;
  job.means = has_means ? means_.data() : nullptr;
  job.signs = codec_internal::kQ4SignMasks.data();
  job.codes = out + kQ4HeaderBytes;
  job.scales = scales_.data();
  if (!codec_internal::Q4KernelsFor(isa_).encode(job)) return false;

  // The largest scale gets one of the sixteen highest bytes; those more than 15 octaves below it become zero.
  int32_t largest = codec_internal::kQ4ZeroScale;
  for (const int32_t scale : scales_) largest = std::max(largest, scale);
  const int32_t base = largest == codec_internal::kQ4ZeroScale ? 0 : (largest >> 4) - 15;
  assert(base >= kQ4MinBase && base <= kQ4MaxBase);
  for (size_t i = 0; i < scales_.size(); ++i) {
    const int64_t byte = int64_t{scales_[i]} - 16 * int64_t{base};
    out[layout.scales + i] = byte < 1 ? 0 : static_cast<uint8_t>(byte);
  }
  std::fill_n(out, kQ4HeaderBytes, uint8_t{0});
  out[0] = has_means ? kQ4HasMeans : 0;
  out[1] = static_cast<uint8_t>(static_cast<int8_t>(base));
  StoreLe<uint16_t>(static_cast<uint16_t>(raw_rows), out + 2);
  return true;
}

bool Q4TileEncoder::Encode(const TileGeometry& geometry, std::span<const float> values, uint32_t raw_rows,
                           std::vector<uint8_t>& out) {
  const uint32_t coded_rows = geometry.tokens - raw_rows;
  const Q4Layout layout = Q4LayoutOf(geometry.tokens, geometry.dim, raw_rows, HasMeans(geometry, coded_rows));
  const size_t begin = out.size();
  out.resize(begin + layout.total_bytes);
  if (EncodeInto(geometry, values, layout, out.data() + begin)) return true;
  out.resize(begin);
  return false;
}

}  // namespace kdn
