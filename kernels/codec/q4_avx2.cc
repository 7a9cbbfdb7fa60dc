#include "kernels/codec/q4_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/codec/q4_encode_core.h"

#define KDN_AVX2 __attribute__((target("avx2,popcnt")))

namespace kdn::codec_internal {
namespace {

KDN_AVX2 inline __m256i Levels(__m128i codes) {
  const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kQ4Levels));
  return _mm256_cvtepi8_epi16(_mm_shuffle_epi8(table, codes));
}

// sums[lane] = partner + value, or partner - value in the lanes where `signs` is -1.
KDN_AVX2 inline __m256i Butterfly(__m256i value, __m256i partner, __m256i signs) {
  return _mm256_add_epi16(partner, _mm256_sign_epi16(value, signs));
}

// The stages within a vector of 16 values.
KDN_AVX2 inline __m256i TransformVector(__m256i v) {
  v = Butterfly(v, _mm256_permute4x64_epi64(v, 0x4e),
                _mm256_setr_epi16(1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1));
  v = Butterfly(v, _mm256_shuffle_epi32(v, 0x4e),
                _mm256_setr_epi16(1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1));
  v = Butterfly(v, _mm256_shuffle_epi32(v, 0xb1),
                _mm256_setr_epi16(1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1));
  const __m256i swapped = _mm256_or_si256(_mm256_slli_epi32(v, 16), _mm256_srli_epi32(v, 16));
  return Butterfly(v, swapped, _mm256_setr_epi16(1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1));
}

// One half of a vector's values, scaled, signed and with their means.
KDN_AVX2 inline void StoreHalf(__m128i values, __m256 factor, const uint32_t* signs, const float* means, float* out) {
  const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(values)), factor);
  __m256 value = _mm256_xor_ps(product, _mm256_loadu_ps(reinterpret_cast<const float*>(signs)));
  if (means != nullptr) value = _mm256_add_ps(value, _mm256_loadu_ps(means));
  _mm256_storeu_ps(out, value);
}

template <uint32_t kBlock>
KDN_AVX2 inline void DecodeBlock(const uint8_t* codes, float factor, const uint32_t* signs, const float* means,
                                 float* out) {
  constexpr uint32_t kVectors = kBlock / 16;
  const __m128i mask = _mm_set1_epi8(15);
  __m256i v[kVectors];
  if constexpr (kVectors == 1) {
    const __m128i pairs = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes));
    v[0] = Levels(_mm_unpacklo_epi64(_mm_and_si128(pairs, mask), _mm_and_si128(_mm_srli_epi16(pairs, 4), mask)));
  } else {
    for (uint32_t i = 0; i < kVectors / 2; ++i) {
      const __m128i pairs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 16 * i));
      v[i] = Levels(_mm_and_si128(pairs, mask));
      v[i + kVectors / 2] = Levels(_mm_and_si128(_mm_srli_epi16(pairs, 4), mask));
    }
  }
  for (uint32_t stride = kVectors / 2; stride > 0; stride /= 2) {
    for (uint32_t i = 0; i < kVectors; ++i) {
      if ((i & stride) != 0) continue;
      const __m256i a = v[i];
      const __m256i b = v[i + stride];
      v[i] = _mm256_add_epi16(a, b);
      v[i + stride] = _mm256_sub_epi16(a, b);
    }
  }
  const __m256 factors = _mm256_set1_ps(factor);
  for (uint32_t i = 0; i < kVectors; ++i) {
    const __m256i values = TransformVector(v[i]);
    const float* mean = means == nullptr ? nullptr : means + 16 * i;
    StoreHalf(_mm256_castsi256_si128(values), factors, signs + 16 * i, mean, out + 16 * i);
    StoreHalf(_mm256_extracti128_si256(values, 1), factors, signs + 16 * i + 8, mean == nullptr ? nullptr : mean + 8,
              out + 16 * i + 8);
  }
}

KDN_AVX2 void DecodeRows(const Q4DecodeJob& job, uint32_t first, uint32_t count, float* out) {
  for (uint32_t row = first; row < first + count; ++row, out += job.dim) {
    const uint8_t* codes = job.codes + size_t{row} * (job.dim / 2);
    const uint8_t* scale = job.scales + size_t{row} * job.blocks;
    for (uint32_t channel = 0; channel < job.dim; ++scale) {
      const uint32_t block = Q4BlockAt(job.dim, channel);
      const float factor = Q4Factor(*scale, job.base);
      const uint8_t* at = codes + channel / 2;
      const uint32_t* signs = job.signs + channel;
      const float* means = job.means == nullptr ? nullptr : job.means + channel;
      switch (block) {
        case 16:
          DecodeBlock<16>(at, factor, signs, means, out + channel);
          break;
        case 32:
          DecodeBlock<32>(at, factor, signs, means, out + channel);
          break;
        case 64:
          DecodeBlock<64>(at, factor, signs, means, out + channel);
          break;
        case 128:
          DecodeBlock<128>(at, factor, signs, means, out + channel);
          break;
        default:
          DecodeBlock<256>(at, factor, signs, means, out + channel);
      }
      channel += block;
    }
  }
}

KDN_AVX2 bool EncodeRows(const Q4EncodeJob& job) { return EncodeQ4Rows<PlainBlocks>(job); }

KDN_AVX2 void SumRows(const float* values, uint32_t rows, uint32_t dim, float* sums) {
  SumRowsCore(values, rows, dim, sums);
}

constexpr Q4Kernels kKernels = {DecodeRows, EncodeRows, SumRows};

}  // namespace

const Q4Kernels* Avx2Q4Kernels() { return &kKernels; }

}  // namespace kdn::codec_internal

#else

namespace kdn::codec_internal {
const Q4Kernels* Avx2Q4Kernels() { return nullptr; }
}  // namespace kdn::codec_internal

#endif
