#include "kernels/codec/int8_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>

#include "kernels/codec/int8_core.h"
#include "kernels/codec/int8_dispatch.h"

#define KDN_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,f16c")))

// gcc 12's own headers trip this in masked intrinsics (its undefined-value idiom).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace kdn::codec_internal {
namespace {

// A row goes in steps of 32 channels, and one of 16 where the dim is 16 modulo 32.
constexpr uint32_t kStep = 32;

KDN_AVX512 inline __m256i Load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

KDN_AVX512 inline __m512i Magnitude(__m512i elements) {
  return _mm512_and_si512(elements, _mm512_set1_epi16(kInt8MagnitudeMask));
}
KDN_AVX512 inline __m256i Magnitude(__m256i elements) {
  return _mm256_and_si256(elements, _mm256_set1_epi16(kInt8MagnitudeMask));
}

KDN_AVX512 void ChannelMagnitudes(const TileGeometry& geometry, const uint8_t* rows, uint16_t* magnitudes) {
  std::fill_n(magnitudes, geometry.dim, uint16_t{0});
  const uint32_t whole = geometry.dim / kStep * kStep;
  for (uint32_t token = 0; token < geometry.tokens; ++token, rows += size_t{2} * geometry.dim) {
    uint32_t channel = 0;
    for (; channel < whole; channel += kStep) {
      const __m512i largest = _mm512_loadu_si512(magnitudes + channel);
      const __m512i elements = Magnitude(_mm512_loadu_si512(rows + 2 * channel));
      _mm512_storeu_si512(magnitudes + channel, _mm512_max_epu16(largest, elements));
    }
    if (channel == geometry.dim) continue;
    const __m256i elements = Magnitude(Load256(rows + 2 * channel));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(magnitudes + channel),
                        _mm256_max_epu16(Load256(magnitudes + channel), elements));
  }
}

// The largest of 16 unsigned words.
KDN_AVX512 inline uint16_t Largest(__m256i words) {
  const __m128i eight = _mm_max_epu16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  const __m128i all_ones = _mm_set1_epi32(-1);
  return static_cast<uint16_t>(~_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(eight, all_ones))));
}

KDN_AVX512 void TokenMagnitudes(const TileGeometry& geometry, const uint8_t* rows, uint16_t* magnitudes) {
  const uint32_t whole = geometry.dim / kStep * kStep;
  for (uint32_t token = 0; token < geometry.tokens; ++token, rows += size_t{2} * geometry.dim) {
    __m512i largest = _mm512_setzero_si512();
    uint32_t channel = 0;
    for (; channel < whole; channel += kStep) {
      largest = _mm512_max_epu16(largest, Magnitude(_mm512_loadu_si512(rows + 2 * channel)));
    }
    __m256i half = _mm256_max_epu16(_mm512_castsi512_si256(largest), _mm512_extracti64x4_epi64(largest, 1));
    if (channel < geometry.dim) half = _mm256_max_epu16(half, Magnitude(Load256(rows + 2 * channel)));
    magnitudes[token] = Largest(half);
  }
}

template <DType kDType>
KDN_AVX512 inline __m512 WidenSixteen(const uint8_t* elements) {
  if constexpr (kDType == DType::kBf16) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(Load256(elements)), 16));
  } else {
    return _mm512_cvtph_ps(Load256(elements));
  }
}

KDN_AVX512 inline void StoreCodes(__m512 elements, __m512 inverses, uint8_t* codes) {
  const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(elements, inverses));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm512_cvtepi32_epi8(rounded));
}

// Factors of 16 channels from `channel` on, at `token`.
template <KvKind kKind>
KDN_AVX512 inline __m512 FactorsAt(const float* factors, uint32_t token, uint32_t channel) {
  return kKind == KvKind::kK ? _mm512_loadu_ps(factors + channel) : _mm512_set1_ps(factors[token]);
}

template <DType kDType, KvKind kKind>
KDN_AVX512 void QuantiseTile(const TileGeometry& geometry, const uint8_t* rows, const float* inverses, uint8_t* codes) {
  for (uint32_t token = 0; token < geometry.tokens; ++token) {
    for (uint32_t channel = 0; channel < geometry.dim; channel += 16, rows += 32, codes += 16) {
      StoreCodes(WidenSixteen<kDType>(rows), FactorsAt<kKind>(inverses, token, channel), codes);
    }
  }
}

KDN_AVX512 inline __m512 Product(const uint8_t* codes, __m512 scales) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
  return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)), scales);
}

// bf16 in the high halves.
KDN_AVX512 inline __m512i RoundHigh(__m512 values) {
  const __m512i bits = _mm512_castps_si512(values);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
}

template <DType kDType>
KDN_AVX512 inline __m256i NarrowSixteen(__m512 values) {
  if constexpr (kDType == DType::kBf16) {
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(RoundHigh(values), 16));
  } else {
    return _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
}

template <DType kDType>
KDN_AVX512 inline void StoreThirtyTwo(__m512 low, __m512 high, __m512i odd_words, uint8_t* rows) {
  if constexpr (kDType == DType::kBf16) {
    _mm512_storeu_si512(rows, _mm512_permutex2var_epi16(RoundHigh(low), odd_words, RoundHigh(high)));
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(rows), NarrowSixteen<kDType>(low));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(rows + 32), NarrowSixteen<kDType>(high));
  }
}

template <DType kDType, KvKind kKind>
KDN_AVX512 void DequantiseTile(const TileGeometry& geometry, const uint8_t* codes, const float* scales, uint8_t* rows) {
  alignas(64) uint16_t indexes[kStep];
  for (uint32_t i = 0; i < kStep; ++i) indexes[i] = static_cast<uint16_t>(2 * i + 1);
  const __m512i odd_words = _mm512_load_si512(indexes);
  const uint32_t whole = geometry.dim / kStep * kStep;
  for (uint32_t token = 0; token < geometry.tokens; ++token) {
    uint32_t channel = 0;
    for (; channel < whole; channel += kStep, codes += kStep, rows += 2 * kStep) {
      const __m512 low = Product(codes, FactorsAt<kKind>(scales, token, channel));
      const __m512 high = Product(codes + 16, FactorsAt<kKind>(scales, token, channel + 16));
      StoreThirtyTwo<kDType>(low, high, odd_words, rows);
    }
    if (channel == geometry.dim) continue;
    const __m512 last = Product(codes, FactorsAt<kKind>(scales, token, channel));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(rows), NarrowSixteen<kDType>(last));
    codes += 16;
    rows += 32;
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

const Int8Kernels* Int8Avx512Kernels() { return &kKernels; }

}  // namespace kdn::codec_internal

#else

namespace kdn::codec_internal {

const Int8Kernels* Int8Avx512Kernels() { return nullptr; }

}  // namespace kdn::codec_internal

#endif
