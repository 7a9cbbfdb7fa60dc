#include "kernels/codec/q4_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/codec/q4_encode_core.h"

#define KDN_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi,bmi2,popcnt")))

// gcc 12's own headers trip this in masked intrinsics (its undefined-value idiom).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace kdn::codec_internal {
namespace {

KDN_AVX512 inline __m256i LevelBytes(__m256i codes) {
  const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kQ4Levels));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), codes);
}

// partner + value, or partner - value in the lanes of `minus`.
KDN_AVX512 inline __m512i Butterfly(__m512i value, __m512i partner, __mmask32 minus) {
  return _mm512_mask_sub_epi16(_mm512_add_epi16(partner, value), minus, partner, value);
}

// The stages within a vector of 32 values; without the first one, two transforms of 16.
template <uint32_t kBlock>
KDN_AVX512 inline __m512i TransformVector(__m512i v) {
  if constexpr (kBlock >= 32) v = Butterfly(v, _mm512_shuffle_i64x2(v, v, 0x4e), 0xffff0000);
  v = Butterfly(v, _mm512_shuffle_i64x2(v, v, 0xb1), 0xff00ff00);
  v = Butterfly(v, _mm512_shuffle_epi32(v, static_cast<_MM_PERM_ENUM>(0x4e)), 0xf0f0f0f0);
  v = Butterfly(v, _mm512_shuffle_epi32(v, static_cast<_MM_PERM_ENUM>(0xb1)), 0xcccccccc);
  return Butterfly(v, _mm512_rol_epi32(v, 16), 0xaaaaaaaa);
}

// 16 values, scaled, signed and with their means.
KDN_AVX512 inline void Store16(__m256i values, __m512 factor, const uint32_t* signs, const float* means, float* out) {
  const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(values)), factor);
  __m512 value = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(product), _mm512_loadu_si512(signs)));
  if (means != nullptr) value = _mm512_add_ps(value, _mm512_loadu_ps(means));
  _mm512_storeu_ps(out, value);
}

template <uint32_t kBlock>
KDN_AVX512 inline void DecodeBlock(const uint8_t* codes, float factor, const uint32_t* signs, const float* means,
                                   float* out) {
  constexpr uint32_t kVectors = kBlock < 32 ? 1 : kBlock / 32;
  const __m256i mask = _mm256_set1_epi8(15);
  __m512i v[kVectors];
  if constexpr (kBlock <= 32) {
    const auto* at = reinterpret_cast<const __m128i*>(codes);
    const __m128i pairs = kBlock == 32 ? _mm_loadu_si128(at) : _mm_loadl_epi64(at);
    const __m128i high = _mm_srli_epi16(pairs, 4);
    const __m256i both =
        kBlock == 32 ? _mm256_set_m128i(high, pairs) : _mm256_castsi128_si256(_mm_unpacklo_epi64(pairs, high));
    v[0] = _mm512_cvtepi8_epi16(LevelBytes(_mm256_and_si256(both, mask)));
  } else {
    for (uint32_t i = 0; i < kVectors / 2; ++i) {
      const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * i));
      v[i] = _mm512_cvtepi8_epi16(LevelBytes(_mm256_and_si256(pairs, mask)));
      v[i + kVectors / 2] = _mm512_cvtepi8_epi16(LevelBytes(_mm256_and_si256(_mm256_srli_epi16(pairs, 4), mask)));
    }
  }
  for (uint32_t stride = kVectors / 2; stride > 0; stride /= 2) {
    for (uint32_t i = 0; i < kVectors; ++i) {
      if ((i & stride) != 0) continue;
      const __m512i a = v[i];
      const __m512i b = v[i + stride];
      v[i] = _mm512_add_epi16(a, b);
      v[i + stride] = _mm512_sub_epi16(a, b);
    }
  }
  const __m512 factors = _mm512_set1_ps(factor);
  for (uint32_t i = 0; i < kVectors; ++i) {
    const __m512i values = TransformVector<kBlock>(v[i]);
    const float* mean = means == nullptr ? nullptr : means + 32 * i;
    Store16(_mm512_castsi512_si256(values), factors, signs + 32 * i, mean, out + 32 * i);
    if constexpr (kBlock >= 32) {
      Store16(_mm512_extracti64x4_epi64(values, 1), factors, signs + 32 * i + 16, mean == nullptr ? nullptr : mean + 16,
              out + 32 * i + 16);
    }
  }
}

KDN_AVX512 void DecodeRows(const Q4DecodeJob& job, uint32_t first, uint32_t count, float* out) {
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

// ---- Encoding: PlainBlocks with a block in registers ----

KDN_AVX512 inline __m512 FloatButterfly(__m512 value, __m512 partner, __mmask16 minus) {
  return _mm512_mask_sub_ps(_mm512_add_ps(value, partner), minus, partner, value);
}

// The stages within a vector of 16 values.
KDN_AVX512 inline __m512 TransformFloats(__m512 v) {
  v = FloatButterfly(v, _mm512_shuffle_f32x4(v, v, 0x4e), 0xff00);
  v = FloatButterfly(v, _mm512_shuffle_f32x4(v, v, 0xb1), 0xf0f0);
  v = FloatButterfly(v, _mm512_permute_ps(v, 0x4e), 0xcccc);
  return FloatButterfly(v, _mm512_permute_ps(v, 0xb1), 0xaaaa);
}

// The sum of 16 partial sums in EnergyOf's order.
KDN_AVX512 inline float SumLanes(__m512 sums) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// Magnitudes of a block in sixteenths of a unit, the cells they lie in, and their signs.
template <uint32_t kVectors>
struct Magnitudes {
  __m512i steps[kVectors];
  __m512i cells[kVectors];
  __mmask32 negative[kVectors];
};

template <uint32_t kVectors>
KDN_AVX512 inline void MeasureMagnitudes(const float* values, float to_steps, Magnitudes<kVectors>& out) {
  const __m512 factor = _mm512_set1_ps(to_steps);
  const __m512 half = _mm512_set1_ps(0.5f);
  for (uint32_t i = 0; i < kVectors; ++i) {
    const __m512 low = _mm512_mul_ps(_mm512_load_ps(values + 32 * i), factor);
    const __m512 high = _mm512_mul_ps(_mm512_load_ps(values + 32 * i + 16), factor);
    const __m512i low_steps = _mm512_cvttps_epi32(_mm512_add_ps(_mm512_abs_ps(low), half));
    const __m512i high_steps = _mm512_cvttps_epi32(_mm512_add_ps(_mm512_abs_ps(high), half));
    out.steps[i] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(low_steps)),
                                      _mm512_cvtepi32_epi16(high_steps), 1);
    out.cells[i] = _mm512_min_epi16(_mm512_srli_epi16(out.steps[i], kQ4CellShift), _mm512_set1_epi16(kQ4Cells - 1));
    out.negative[i] = static_cast<__mmask32>(_mm512_movepi32_mask(_mm512_castps_si512(low))) |
                      static_cast<__mmask32>(_mm512_movepi32_mask(_mm512_castps_si512(high))) << 16;
  }
}

// Squared errors under a candidate, summed into 16 lanes.
template <uint32_t kVectors>
KDN_AVX512 inline __m512i ErrorLanes(const Q4Candidate& candidate, const Magnitudes<kVectors>& block) {
  const __m512i thresholds = _mm512_load_si512(candidate.cell_threshold);
  const __m512i low = _mm512_load_si512(candidate.low);
  const __m512i high = _mm512_load_si512(candidate.high);
  __m512i sums = _mm512_setzero_si512();
  for (uint32_t i = 0; i < kVectors; ++i) {
    const __m512i cell = block.cells[i];
    const __mmask32 above = _mm512_cmpge_epi16_mask(block.steps[i], _mm512_permutexvar_epi16(cell, thresholds));
    const __m512i level = _mm512_mask_permutexvar_epi16(_mm512_permutexvar_epi16(cell, low), above, cell, high);
    const __m512i off = _mm512_sub_epi16(block.steps[i], level);
    sums = _mm512_add_epi32(sums, _mm512_madd_epi16(off, off));
  }
  return sums;
}

// The first of the candidates with the least error.
template <uint32_t kVectors>
KDN_AVX512 inline uint32_t BestCandidate(const Magnitudes<kVectors>& block) {
  static_assert(kQ4ScaleOffsets == 4);
  const __m512i a = ErrorLanes(kQ4Candidates[0], block);
  const __m512i b = ErrorLanes(kQ4Candidates[1], block);
  const __m512i c = ErrorLanes(kQ4Candidates[2], block);
  const __m512i d = ErrorLanes(kQ4Candidates[3], block);
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const __m512i abcd = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64(abcd, 1));
  const __m128i errors = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  __m128i least = _mm_min_epi32(errors, _mm_shuffle_epi32(errors, 0x4e));
  least = _mm_min_epi32(least, _mm_shuffle_epi32(least, 0xb1));
  return _tzcnt_u32(_mm_cmpeq_epi32_mask(errors, least));
}

template <uint32_t kVectors>
KDN_AVX512 inline void StoreCodes(const Q4Candidate& candidate, const Magnitudes<kVectors>& block, uint8_t* codes) {
  const __m512i thresholds = _mm512_load_si512(candidate.cell_threshold);
  const __m512i below = _mm512_load_si512(candidate.below);
  __m512i symbols[kVectors];
  for (uint32_t i = 0; i < kVectors; ++i) {
    const __m512i cell = block.cells[i];
    const __mmask32 above = _mm512_cmpge_epi16_mask(block.steps[i], _mm512_permutexvar_epi16(cell, thresholds));
    const __m512i code = _mm512_add_epi16(_mm512_permutexvar_epi16(cell, below), _mm512_set1_epi16(8));
    const __m512i raised = _mm512_mask_add_epi16(code, above, code, _mm512_set1_epi16(1));
    symbols[i] = _mm512_mask_sub_epi16(raised, block.negative[i], _mm512_set1_epi16(15), raised);
  }
  if constexpr (kVectors == 1) {
    const __m256i low = _mm512_castsi512_si256(symbols[0]);
    const __m256i high = _mm512_extracti64x4_epi64(symbols[0], 1);
    const __m256i pairs = _mm256_or_si256(low, _mm256_slli_epi16(high, 4));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm256_cvtepi16_epi8(pairs));
  } else {
    for (uint32_t i = 0; i < kVectors / 2; ++i) {
      const __m512i pairs = _mm512_or_si512(symbols[i], _mm512_slli_epi16(symbols[i + kVectors / 2], 4));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + 32 * i), _mm512_cvtepi16_epi8(pairs));
    }
  }
}

// kQ4ScaleMidpoints by the top five bits of a mantissa, of which no two lie in one cell: how many lie below the cell,
// and the one within or above it.
struct CellMidpoints {
  uint32_t below[32] = {};
  uint32_t midpoint[32] = {};
};

constexpr CellMidpoints MakeCellMidpoints() {
  CellMidpoints cells;
  for (uint32_t cell = 0; cell < 32; ++cell) {
    uint32_t below = 0;
    while (below < 16 && kQ4ScaleMidpoints[below] <= cell << 18) ++below;
    cells.below[cell] = below;
    cells.midpoint[cell] = below < 16 ? kQ4ScaleMidpoints[below] : UINT32_MAX;
  }
  return cells;
}

constexpr CellMidpoints kCellMidpoints = MakeCellMidpoints();

KDN_AVX512 inline __m256i LookUp32(const uint32_t* table, __m512i cells) {
  return _mm512_castsi512_si256(
      _mm512_permutex2var_epi32(_mm512_loadu_si512(table), cells, _mm512_loadu_si512(table + 16)));
}

struct RegisterBlocks {
  template <uint32_t kBlock>
  KDN_AVX512 static float Transform(const float* values, const float* means, const uint32_t* signs, float* out) {
    constexpr uint32_t kVectors = kBlock / 16;
    __m512 v[kVectors];
    for (uint32_t i = 0; i < kVectors; ++i) {
      __m512 centred = _mm512_loadu_ps(values + 16 * i);
      if (means != nullptr) centred = _mm512_sub_ps(centred, _mm512_loadu_ps(means + 16 * i));
      v[i] = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(centred), _mm512_loadu_si512(signs + 16 * i)));
    }
    for (uint32_t stride = kVectors / 2; stride > 0; stride /= 2) {
      for (uint32_t i = 0; i < kVectors; ++i) {
        if ((i & stride) != 0) continue;
        const __m512 a = v[i];
        const __m512 b = v[i + stride];
        v[i] = _mm512_add_ps(a, b);
        v[i + stride] = _mm512_sub_ps(a, b);
      }
    }
    __m512 sums = _mm512_setzero_ps();
    for (uint32_t i = 0; i < kVectors; ++i) {
      v[i] = TransformFloats(v[i]);
      sums = _mm512_add_ps(sums, _mm512_mul_ps(v[i], v[i]));
      _mm512_store_ps(out + 16 * i, v[i]);
    }
    return SumLanes(sums);
  }

  // Q4ScalesOf for a group at once.
  template <uint32_t kBlock>
  KDN_AVX512 static void Scales(const float* energies, int32_t* scales, float* to_steps) {
    static_assert(kQ4GroupRows == 8);
    const __m256 roots = _mm256_sqrt_ps(_mm256_mul_ps(_mm256_loadu_ps(energies), _mm256_set1_ps(1.0f / kBlock)));
    const __m256i bits = _mm256_castps_si256(_mm256_mul_ps(roots, _mm256_set1_ps(1.0f / (kQ4UnitsPerSigma * kBlock))));
    const __m256i mantissas = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffff));
    const __m512i cells = _mm512_castsi256_si512(_mm256_srli_epi32(mantissas, 18));
    const __m256i midpoints = LookUp32(kCellMidpoints.midpoint, cells);
    const __m256i below = LookUp32(kCellMidpoints.below, cells);
    const __mmask8 passed = _mm256_cmpge_epu32_mask(mantissas, midpoints);
    const __m256i index = _mm256_mask_add_epi32(below, passed, below, _mm256_set1_epi32(1));
    const __m256i exponents = _mm256_sub_epi32(_mm256_srli_epi32(bits, 23), _mm256_set1_epi32(127));
    const __m256i found = _mm256_add_epi32(_mm256_slli_epi32(exponents, 4), index);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(scales), found);
    const __m512i table = _mm512_loadu_si512(kQ4ScaleMantissas);
    const __m512i sixteenth = _mm512_castsi256_si512(_mm256_and_si256(found, _mm256_set1_epi32(15)));
    const __m256i octave = _mm256_add_epi32(_mm256_srai_epi32(found, 4), _mm256_set1_epi32(127));
    const __m256i factors = _mm256_or_si256(_mm256_slli_epi32(octave, 23),
                                            _mm512_castsi512_si256(_mm512_permutexvar_epi32(sixteenth, table)));
    const __m256 units = _mm256_mul_ps(_mm256_castsi256_ps(factors), _mm256_set1_ps(static_cast<float>(kBlock)));
    _mm256_storeu_ps(to_steps, _mm256_div_ps(_mm256_set1_ps(static_cast<float>(kQ4UnitSteps)), units));
  }

  template <uint32_t kBlock>
  KDN_AVX512 static void Quantise(const float* values, float to_steps, uint8_t* codes, int32_t& scale) {
    if constexpr (kBlock < 32) {
      PlainBlocks::Quantise<kBlock>(values, to_steps, codes, scale);
    } else {
      Magnitudes<kBlock / 32> block;
      MeasureMagnitudes(values, to_steps, block);
      const uint32_t best = BestCandidate(block);
      scale += static_cast<int32_t>(best) * kQ4ScaleOffsetStep + kQ4FirstScaleOffset;
      StoreCodes(kQ4Candidates[best], block, codes);
    }
  }
};

KDN_AVX512 bool EncodeRows(const Q4EncodeJob& job) { return EncodeQ4Rows<RegisterBlocks>(job); }

KDN_AVX512 void SumRows(const float* values, uint32_t rows, uint32_t dim, float* sums) {
  SumRowsCore(values, rows, dim, sums);
}

constexpr Q4Kernels kKernels = {DecodeRows, EncodeRows, SumRows};

}  // namespace

const Q4Kernels* Avx512Q4Kernels() { return &kKernels; }

}  // namespace kdn::codec_internal

#else

namespace kdn::codec_internal {
const Q4Kernels* Avx512Q4Kernels() { return nullptr; }
}  // namespace kdn::codec_internal

#endif
