#include <algorithm>
#include <cassert>

#include "kernels/base/bytes.h"
#include "kernels/codec/int8_core.h"
#include "kernels/codec/int8_dispatch.h"
#include "kernels/codec/int8_kernels.h"

namespace kdn::codec_internal {
namespace {

uint16_t MagnitudeAt(const uint8_t* rows, size_t element) {
  return LoadLe<uint16_t>(rows + 2 * element) & kInt8MagnitudeMask;
}

void ChannelMagnitudes(const TileGeometry& geometry, const uint8_t* rows, uint16_t* magnitudes) {
  std::fill_n(magnitudes, geometry.dim, uint16_t{0});
  for (uint32_t token = 0; token < geometry.tokens; ++token) {
    for (uint32_t channel = 0; channel < geometry.dim; ++channel) {
      magnitudes[channel] =
          std::max(magnitudes[channel], MagnitudeAt(rows, static_cast<size_t>(token) * geometry.dim + channel));
    }
  }
}

void TokenMagnitudes(const TileGeometry& geometry, const uint8_t* rows, uint16_t* magnitudes) {
  for (uint32_t token = 0; token < geometry.tokens; ++token) {
    magnitudes[token] = 0;
    for (uint32_t channel = 0; channel < geometry.dim; ++channel) {
      magnitudes[token] =
          std::max(magnitudes[token], MagnitudeAt(rows, static_cast<size_t>(token) * geometry.dim + channel));
    }
  }
}

template <DType kDType, KvKind kKind>
void QuantiseTile(const TileGeometry& geometry, const uint8_t* rows, const float* inverses, uint8_t* codes) {
  for (uint32_t i = 0; i < geometry.elements(); ++i) {
    const uint32_t factor = kKind == KvKind::kK ? i % geometry.dim : i / geometry.dim;
    const float element = Widen<kDType>(LoadLe<uint16_t>(rows + size_t{2} * i));
    codes[i] = static_cast<uint8_t>(Int8Quantise(element, inverses[factor]));
  }
}

template <DType kDType, KvKind kKind>
void DequantiseTile(const TileGeometry& geometry, const uint8_t* codes, const float* scales, uint8_t* rows) {
  for (uint32_t i = 0; i < geometry.elements(); ++i) {
    const uint32_t factor = kKind == KvKind::kK ? i % geometry.dim : i / geometry.dim;
    const float value = Int8Dequantise(static_cast<int8_t>(codes[i]), scales[factor]);
    StoreLe(Narrow<kDType>(value), rows + size_t{2} * i);
  }
}

void Quantise(const TileGeometry& geometry, const uint8_t* rows, const float* inverses, uint8_t* codes) {
  ForInt8Tile(geometry,
              [&]<DType kDType, KvKind kKind>() { QuantiseTile<kDType, kKind>(geometry, rows, inverses, codes); });
}

void Dequantise(const TileGeometry& geometry, const uint8_t* codes, const float* scales, uint8_t* rows) {
  ForInt8Tile(geometry,
              [&]<DType kDType, KvKind kKind>() { DequantiseTile<kDType, kKind>(geometry, codes, scales, rows); });
}

constexpr Int8Kernels kScalarKernels = {ChannelMagnitudes, TokenMagnitudes, Quantise, Dequantise};

}  // namespace

const Int8Kernels& Int8KernelsFor(Isa isa) {
  const Int8Kernels* kernels = &kScalarKernels;
  if (isa == Isa::kAvx2) kernels = Int8Avx2Kernels();
  if (isa == Isa::kAvx512) kernels = Int8Avx512Kernels();
  assert(kernels != nullptr);
  return *kernels;
}

}  // namespace kdn::codec_internal
