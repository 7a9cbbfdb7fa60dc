#include "kernels/codec/int8_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>

#include "kernels/codec/int8_core.h"
#include "kernels/codec/int8_dispatch.h"

#define KDN_AVX2 __attribute__((target("avx2,f16c")))

namespace kdn::codec_internal {
namespace {

// A row goes in steps of 16 channels.
constexpr uint32_t kStep = 16;

KDN_AVX2 inline __m256i Load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
KDN_AVX2 inline __m128i Load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
KDN_AVX2 inline void Store256(__m256i value, void* p) { _mm256_storeu_si256(static_cast<__m256i*>(p), value); }

KDN_AVX2 inline __m256i MagnitudesAt(const uint8_t* elements) {
  return _mm256_and_si256(Load256(elements), _mm256_set1_epi16(kInt8MagnitudeMask));
}

KDN_AVX2 void ChannelMagnitudes(const TileGeometry& geometry, const uint8_t* rows, uint16_t* magnitudes) {
  std::fill_n(magnitudes, geometry.dim, uint16_t{0});
  for (uint32_t token = 0; token < geometry.tokens; ++token) {
    for (uint32_t channel = 0; channel < geometry.dim; channel += kStep, rows += 2 * kStep) {
      Store256(_mm256_max_epu16(Load256(magnitudes + channel), MagnitudesAt(rows)), magnitudes + channel);
    }
  }
}

// The largest of 16 unsigned words.
KDN_AVX2 inline uint16_t Largest(__m256i words) {
  const __m128i eight = _mm_max_epu16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  const __m128i all_ones = _mm_set1_epi32(-1);
  return static_cast<uint16_t>(~_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(eight, all_ones))));
}

KDN_AVX2 void TokenMagnitudes(const TileGeometry& geometry, const uint8_t* rows, uint16_t* magnitudes) {
  for (uint32_t token = 0; token < geometry.tokens; ++token) {
    __m256i largest = _mm256_setzero_si256();
    for (uint32_t channel = 0; channel < geometry.dim; channel += kStep, rows += 2 * kStep) {
      largest = _mm256_max_epu16(largest, MagnitudesAt(rows));
    }
    magnitudes[token] = Largest(largest);
  }
}

struct Sixteen {
  __m256 low;   // channels 0..7
  __m256 high;  // channels 8..15
};

// Factors of 16 channels from `channel` on, at `token`.
template <KvKind kKind>
KDN_AVX2 inline Sixteen FactorsAt(const float* factors, uint32_t token, uint32_t channel) {
  if constexpr (kKind == KvKind::kK) {
    return {_mm256_loadu_ps(factors + channel), _mm256_loadu_ps(factors + channel + 8)};
  } else {
    const __m256 factor = _mm256_set1_ps(factors[token]);
    return {factor, factor};
  }
}

template <DType kDType>
KDN_AVX2 inline __m256 WidenEight(const uint8_t* elements) {
  if constexpr (kDType == DType::kBf16) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(Load128(elements)), 16));
  } else {
    return _mm256_cvtph_ps(Load128(elements));
  }
}

template <DType kDType, KvKind kKind>
KDN_AVX2 void QuantiseTile(const TileGeometry& geometry, const uint8_t* rows, const float* inverses, uint8_t* codes) {
  for (uint32_t token = 0; token < geometry.tokens; ++token) {
    for (uint32_t channel = 0; channel < geometry.dim; channel += kStep, rows += 2 * kStep, codes += kStep) {
      const Sixteen factors = FactorsAt<kKind>(inverses, token, channel);
      const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(WidenEight<kDType>(rows), factors.low));
      const __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(WidenEight<kDType>(rows + 16), factors.high));
      const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(codes),
                       _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    }
  }
}

KDN_AVX2 inline __m256 Product(__m128i codes, __m256 scales) {
  return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)), scales);
}

// bf16 in the low halves.
KDN_AVX2 inline __m256i RoundLow(__m256 values) {
  const __m256i bits = _mm256_castps_si256(values);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  return _mm256_srli_epi32(rounded, 16);
}

template <DType kDType>
KDN_AVX2 inline __m256i NarrowSixteen(Sixteen values) {
  if constexpr (kDType == DType::kBf16) {
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(RoundLow(values.low), RoundLow(values.high)), 0xd8);
  } else {
    constexpr int kRounding = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return _mm256_set_m128i(_mm256_cvtps_ph(values.high, kRounding), _mm256_cvtps_ph(values.low, kRounding));
  }
}

template <DType kDType, KvKind kKind>
KDN_AVX2 void DequantiseTile(const TileGeometry& geometry, const uint8_t* codes, const float* scales, uint8_t* rows) {
  for (uint32_t token = 0; token < geometry.tokens; ++token) {
    for (uint32_t channel = 0; channel < geometry.dim; channel += kStep, codes += kStep, rows += 2 * kStep) {
      const Sixteen factors = FactorsAt<kKind>(scales, token, channel);
      const __m128i bytes = Load128(codes);
      const Sixteen values = {Product(bytes, factors.low), Product(_mm_srli_si128(bytes, 8), factors.high)};
      Store256(NarrowSixteen<kDType>(values), rows);
    }
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

constexpr Int8Kernels kKernels = {ChannelMagnitudes, TokenMagnitudes, Quantise, Dequantise};

}  // namespace

const Int8Kernels* Int8Avx2Kernels() { return &kKernels; }

}  // namespace kdn::codec_internal

#else

namespace kdn::codec_internal {

const Int8Kernels* Int8Avx2Kernels() { return nullptr; }

}  // namespace kdn::codec_internal

#endif
