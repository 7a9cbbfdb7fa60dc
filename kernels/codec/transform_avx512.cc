#include "kernels/codec/transform_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/base/bytes.h"
#include "kernels/codec/lossless_simd.h"
#include "kernels/codec/transform_row_core.h"

#define KDN_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi,bmi2,popcnt")))

// gcc 12's own headers trip this in masked intrinsics (its undefined-value idiom).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace kdn::codec_internal {
namespace {

constexpr size_t kReadBytes = 128;  // in a step: a word for each lane's symbol and one for its bypass bits

KDN_AVX512 inline __m512i RefillStates(__m512i states, const uint8_t*& words) {
  const __mmask16 need = _mm512_cmplt_epu32_mask(states, _mm512_set1_epi32(kRansLowerBound));
  const __m256i next_words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words));
  const __m512i next = _mm512_maskz_expand_epi32(need, _mm512_cvtepu16_epi32(next_words));
  words += 2 * _mm_popcnt_u32(need);
  return _mm512_mask_or_epi32(states, need, _mm512_slli_epi32(states, 16), next);
}

// Sixteen lanes of a step.
struct Half {
  __m512i contexts;
  __mmask16 bypassing;
  __mmask16 escaped;
  __m512i numbers;
};

KDN_AVX512 inline __m512i LoadContexts(const uint8_t* contexts, __mmask16& bypassing, __m512i& tables) {
  const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(contexts)));
  bypassing = _mm512_cmpge_epu32_mask(wide, _mm512_set1_epi32(kTransformTables));
  const __m512i low = _mm512_and_si512(wide, _mm512_set1_epi32(3));
  tables = _mm512_mask_or_epi32(wide, bypassing, low, _mm512_set1_epi32(12));
  return wide;
}

KDN_AVX512 inline __m512i BypassBits(__m512i contexts, __mmask16 bypassing) {
  return _mm512_maskz_srli_epi32(bypassing, _mm512_sub_epi32(contexts, _mm512_set1_epi32(12)), 2);
}

// Decodes symbols; lanes with escapes get their numbers later.
KDN_AVX512 inline __m512i DecodeSymbols(const TransformDecodeJob& job, const uint8_t* contexts, Half& half,
                                        __m512i states, const uint8_t*& words) {
  __m512i tables;
  half.contexts = LoadContexts(contexts, half.bypassing, tables);
  const __m512i mask12 = _mm512_set1_epi32(0xfff);
  const __m512i slots = _mm512_or_si512(_mm512_and_si512(states, mask12), _mm512_slli_epi32(tables, 12));
  const __m512i entries = _mm512_i32gather_epi32(slots, job.table, 4);
  const __m512i product = _mm512_mullo_epi32(_mm512_and_si512(entries, mask12), _mm512_srli_epi32(states, 12));
  states = _mm512_add_epi32(product, _mm512_and_si512(_mm512_srli_epi32(entries, 12), mask12));
  const __m512i symbols = _mm512_srli_epi32(entries, 24);
  half.escaped = _mm512_testn_epi32_mask(symbols, symbols);
  const __m512i one = _mm512_set1_epi32(1);
  const __m512i zigzag = _mm512_sub_epi32(symbols, one);
  const __m512i negative = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_and_si512(zigzag, one));
  half.numbers = _mm512_xor_si512(_mm512_srli_epi32(zigzag, 1), negative);
  return RefillStates(states, words);
}

KDN_AVX512 __attribute__((noinline)) bool TakeEscapes(TransformDecodeJob& job, uint32_t escaped, Half* halves) {
  if (job.escapes_end - job.escapes < 2 * _mm_popcnt_u32(escaped)) return false;
  alignas(64) int32_t numbers[kRansLanes];
  _mm512_store_si512(numbers, halves[0].numbers);
  _mm512_store_si512(numbers + 16, halves[1].numbers);
  for (uint32_t left = escaped; left != 0; left &= left - 1) {
    numbers[__builtin_ctz(left)] = static_cast<int16_t>(LoadLe<uint16_t>(job.escapes));
    job.escapes += 2;
  }
  halves[0].numbers = _mm512_load_si512(numbers);
  halves[1].numbers = _mm512_load_si512(numbers + 16);
  return true;
}

// TransformValue of lanes without bypass bits.
KDN_AVX512 inline __m512i ShiftedValues(const Half& half, __m512i shifts) {
  const __m512i magnitude = _mm512_min_epi32(_mm512_abs_epi32(half.numbers), _mm512_set1_epi32(kTransformMaxLevel));
  const __m512i byte = _mm512_slli_epi32(_mm512_min_epi32(magnitude, _mm512_set1_epi32(3)), 3);
  const __m512i of_context = _mm512_permutexvar_epi32(half.contexts, shifts);
  const __m512i shift = _mm512_and_si512(_mm512_srlv_epi32(of_context, byte), _mm512_set1_epi32(0xff));
  const __m512i value = _mm512_sub_epi32(_mm512_slli_epi32(magnitude, 5), shift);
  return _mm512_mask_sub_epi32(value, _mm512_movepi32_mask(half.numbers), _mm512_setzero_si512(), value);
}

// Takes the bypass bits of a half's lanes and replaces their values.
KDN_AVX512 inline __m512i TakeBypass(const Half& half, __m512i& values, __m512i states, const uint8_t*& words) {
  const __m512i bits = BypassBits(half.contexts, half.bypassing);
  const __m512i mask = _mm512_sub_epi32(_mm512_sllv_epi32(_mm512_set1_epi32(1), bits), _mm512_set1_epi32(1));
  const __m512i low = _mm512_and_si512(states, mask);
  __m512i level = _mm512_add_epi32(_mm512_sllv_epi32(half.numbers, bits), low);
  level = _mm512_max_epi32(level, _mm512_set1_epi32(-kTransformMaxLevel));
  level = _mm512_min_epi32(level, _mm512_set1_epi32(kTransformMaxLevel));
  values = _mm512_mask_slli_epi32(values, half.bypassing, level, 5);
  return RefillStates(_mm512_srlv_epi32(states, bits), words);
}

KDN_AVX512 uint32_t DecodeRun(TransformDecodeJob& job, uint32_t step, uint32_t last, const uint8_t* readable_end) {
  __m512i low = _mm512_loadu_si512(job.states);
  __m512i high = _mm512_loadu_si512(job.states + 16);
  const __m512i shifts = _mm512_loadu_si512(kTransformShifts);
  const uint8_t* words = job.words;
  for (; step < last && static_cast<size_t>(readable_end - words) >= kReadBytes; ++step) {
    const uint8_t* contexts = job.contexts + size_t{step} * kRansLanes;
    Half halves[2];
    low = DecodeSymbols(job, contexts, halves[0], low, words);
    high = DecodeSymbols(job, contexts + 16, halves[1], high, words);
    const uint32_t all_escaped = _cvtmask16_u32(halves[0].escaped) | _cvtmask16_u32(halves[1].escaped) << 16;
    if (__builtin_expect(all_escaped != 0, 0) && !TakeEscapes(job, all_escaped, halves)) return UINT32_MAX;
    __m512i values_low = ShiftedValues(halves[0], shifts);
    __m512i values_high = ShiftedValues(halves[1], shifts);
    if (_kortestz_mask16_u8(halves[0].bypassing, halves[1].bypassing) == 0) {
      low = TakeBypass(halves[0], values_low, low, words);
      high = TakeBypass(halves[1], values_high, high, words);
    }
    auto* out = reinterpret_cast<__m256i*>(job.values + size_t{step} * kRansLanes);
    _mm256_storeu_si256(out, _mm512_cvtepi32_epi16(values_low));
    _mm256_storeu_si256(out + 1, _mm512_cvtepi32_epi16(values_high));
  }
  _mm512_storeu_si512(job.states, low);
  _mm512_storeu_si512(job.states + 16, high);
  job.words = words;
  return step;
}

bool DecodeSteps(TransformDecodeJob& job, uint32_t first, uint32_t last) {
  return DecodeByRuns<kReadBytes, TransformDecodeJob>(DecodeRun, job, first, last);
}

// Writes the low halves of the states in `spill` below `words`, in lane order, and takes them off.
KDN_AVX512 inline __m512i SpillStates(__m512i states, __mmask16 spill, uint16_t*& words) {
  const int count = _mm_popcnt_u32(spill);
  // The words end at `words`: pushed to the top of the vector, of which the rest is overwritten later.
  const __m512i packed = _mm512_maskz_compress_epi32(spill, states);
  const auto top = static_cast<__mmask16>(0xffff0000u >> count);
  const __m512i aligned = _mm512_maskz_expand_epi32(top, packed);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words - 16), _mm512_cvtepi32_epi16(aligned));
  words -= count;
  return _mm512_mask_srli_epi32(states, spill, states, 16);
}

// Floor of states / frequencies, where the quotient is below 2^23: a single-precision estimate is off by one at most.
KDN_AVX512 inline __m512i Divide(__m512i states, __m512i frequencies, __m512i& remainder) {
  const __m512 estimate = _mm512_div_ps(_mm512_cvtepu32_ps(states), _mm512_cvtepu32_ps(frequencies));
  __m512i quotient = _mm512_cvttps_epu32(estimate);
  remainder = _mm512_sub_epi32(states, _mm512_mullo_epi32(quotient, frequencies));
  const __m512i one = _mm512_set1_epi32(1);
  const __mmask16 above = _mm512_movepi32_mask(remainder);
  quotient = _mm512_mask_sub_epi32(quotient, above, quotient, one);
  remainder = _mm512_mask_add_epi32(remainder, above, remainder, frequencies);
  const __mmask16 below = _mm512_cmpge_epu32_mask(remainder, frequencies);
  quotient = _mm512_mask_add_epi32(quotient, below, quotient, one);
  remainder = _mm512_mask_sub_epi32(remainder, below, remainder, frequencies);
  return quotient;
}

KDN_AVX512 inline __m512i PushBypass(const TransformEncodeJob& job, size_t at, __m512i states, uint16_t*& words) {
  __mmask16 bypassing;
  __m512i tables;
  const __m512i contexts = LoadContexts(job.contexts + at, bypassing, tables);
  if (bypassing == 0) return states;
  const __m512i bits = BypassBits(contexts, bypassing);
  const __m512i above = _mm512_srlv_epi32(states, _mm512_sub_epi32(_mm512_set1_epi32(32), bits));
  states = SpillStates(states, _mm512_test_epi32_mask(above, above), words);
  const __m512i lows = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(job.lows + at)));
  return _mm512_or_si512(_mm512_sllv_epi32(states, bits), lows);
}

KDN_AVX512 inline __m512i PushSymbols(const TransformEncodeJob& job, size_t at, __m512i states, uint16_t*& words) {
  __mmask16 bypassing;
  __m512i tables;
  LoadContexts(job.contexts + at, bypassing, tables);
  const __m512i codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(job.codes + at)));
  const __m512i entries = _mm512_i32gather_epi32(_mm512_add_epi32(_mm512_slli_epi32(tables, 6), codes), job.table, 4);
  const __m512i frequencies = _mm512_and_si512(entries, _mm512_set1_epi32(0xffff));
  const __mmask16 spill = _mm512_cmpge_epu32_mask(states, _mm512_slli_epi32(frequencies, 32 - kTransformProbBits));
  states = SpillStates(states, spill, words);
  __m512i remainder;
  const __m512i quotient = Divide(states, frequencies, remainder);
  return _mm512_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(quotient, kTransformProbBits), remainder),
                          _mm512_srli_epi32(entries, 16));
}

KDN_AVX512 void EncodeSteps(TransformEncodeJob& job, uint32_t first, uint32_t last) {
  static_assert(kTransformSymbols == 1 << 6);
  __m512i low = _mm512_loadu_si512(job.states);
  __m512i high = _mm512_loadu_si512(job.states + 16);
  uint16_t* words = job.words;
  for (uint32_t step = last; step-- > first;) {
    const size_t at = size_t{step} * kRansLanes;
    high = PushBypass(job, at + 16, high, words);
    low = PushBypass(job, at, low, words);
    high = PushSymbols(job, at + 16, high, words);
    low = PushSymbols(job, at, low, words);
  }
  job.words = words;
  _mm512_storeu_si512(job.states, low);
  _mm512_storeu_si512(job.states + 16, high);
}

// kRows rows of kVectors x 16 channels from `channel` on, to `at` of each row's output.
template <uint32_t kRows, uint32_t kVectors>
KDN_AVX512 inline void SynthesiseBlock(const TransformSynthesisJob& job, uint32_t at) {
  const uint32_t channel = job.channel + at;
  __m512i sums[kRows][kVectors];
  for (auto& row : sums) {
    for (__m512i& sum : row) sum = _mm512_setzero_si512();
  }
  const int16_t* pairs = job.pairs + size_t{2} * channel;
  for (uint32_t pair = 0; pair < job.pair_count; ++pair, pairs += size_t{2} * job.width) {
    __m512i entries[kVectors];
    for (uint32_t v = 0; v < kVectors; ++v) entries[v] = _mm512_loadu_si512(pairs + 32 * v);
    for (uint32_t row = 0; row < kRows; ++row) {
      int32_t two;
      std::memcpy(&two, job.values + size_t{row} * job.value_stride + size_t{2} * pair, sizeof(two));
      const __m512i values = _mm512_set1_epi32(two);
      for (uint32_t v = 0; v < kVectors; ++v) {
        sums[row][v] = _mm512_add_epi32(sums[row][v], _mm512_madd_epi16(entries[v], values));
      }
    }
  }
  for (uint32_t v = 0; v < kVectors; ++v) {
    const __m512 scales = _mm512_loadu_ps(job.scales + channel + 16 * v);
    const __m512 means = _mm512_loadu_ps(job.means + channel + 16 * v);
    for (uint32_t row = 0; row < kRows; ++row) {
      const __m512 factors = _mm512_mul_ps(_mm512_set1_ps(job.steps[row]), scales);
      const __m512 products = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[row][v]), factors);
      _mm512_storeu_ps(job.out[row] + at + 16 * v, _mm512_add_ps(products, means));
    }
  }
}

template <uint32_t kRows>
KDN_AVX512 void SynthesiseRows(const TransformSynthesisJob& job) {
  uint32_t at = 0;
  for (; at + 64 <= job.channels; at += 64) SynthesiseBlock<kRows, 4>(job, at);
  for (; at < job.channels; at += 16) SynthesiseBlock<kRows, 1>(job, at);
}

void Synthesise(const TransformSynthesisJob& job) {
  switch (job.rows) {
    case 4:
      return SynthesiseRows<4>(job);
    case 3:
      return SynthesiseRows<3>(job);
    case 2:
      return SynthesiseRows<2>(job);
    default:
      return SynthesiseRows<1>(job);
  }
}

template <uint32_t kRows, uint32_t kVectors>
KDN_AVX512 inline void AnalyseBlock(const TransformAnalysisJob& job, uint32_t coefficient) {
  __m512 sums[kRows][kVectors];
  for (auto& row : sums) {
    for (__m512& sum : row) sum = _mm512_setzero_ps();
  }
  const float* entries = job.matrix + coefficient;
  for (uint32_t i = 0; i < job.width; ++i, entries += job.matrix_stride) {
    for (uint32_t row = 0; row < kRows; ++row) {
      const __m512 value = _mm512_set1_ps(job.values[size_t{row} * job.width + i]);
      for (uint32_t v = 0; v < kVectors; ++v) {
        const __m512 product = _mm512_mul_ps(_mm512_loadu_ps(entries + 16 * v), value);
        sums[row][v] = _mm512_add_ps(sums[row][v], product);
      }
    }
  }
  for (uint32_t row = 0; row < kRows; ++row) {
    float* out = job.out + size_t{row} * job.matrix_stride + coefficient;
    for (uint32_t v = 0; v < kVectors; ++v) _mm512_storeu_ps(out + 16 * v, sums[row][v]);
  }
}

template <uint32_t kRows>
KDN_AVX512 void AnalyseRows(const TransformAnalysisJob& job) {
  uint32_t at = 0;
  for (; at + 64 <= job.coefficients; at += 64) AnalyseBlock<kRows, 4>(job, at);
  for (; at < job.coefficients; at += 16) AnalyseBlock<kRows, 1>(job, at);
}

void Analyse(const TransformAnalysisJob& job) {
  switch (job.rows) {
    case 4:
      return AnalyseRows<4>(job);
    case 3:
      return AnalyseRows<3>(job);
    case 2:
      return AnalyseRows<2>(job);
    default:
      return AnalyseRows<1>(job);
  }
}

KDN_AVX512 bool Centre(const float* values, const float* means, uint32_t count, float* out) {
  return CentreCore(values, means, count, out);
}
KDN_AVX512 TransformLevels Quantise(const float* coefficients, float inverse_step, uint32_t count, int16_t* levels) {
  return QuantiseCore(coefficients, inverse_step, count, levels);
}
KDN_AVX512 bool Symbolise(const TransformSymbolJob& job) { return SymboliseCore(job); }
KDN_AVX512 void Attend(const TransformAttentionJob& job) { AttendCore(job); }

constexpr TransformKernels kKernels = {DecodeSteps, EncodeSteps, Synthesise, Analyse,
                                       Centre,      Quantise,    Symbolise,  Attend};

}  // namespace

const TransformKernels* Avx512TransformKernels() { return &kKernels; }

}  // namespace kdn::codec_internal

#else

namespace kdn::codec_internal {
const TransformKernels* Avx512TransformKernels() { return nullptr; }
}  // namespace kdn::codec_internal

#endif
