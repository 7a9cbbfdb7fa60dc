#include "kernels/codec/transform_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/base/bytes.h"
#include "kernels/codec/lossless_simd.h"
#include "kernels/codec/transform_row_core.h"

#define KDN_AVX2 __attribute__((target("avx2,popcnt")))

namespace kdn::codec_internal {
namespace {

constexpr uint32_t kGroups = 4;  // vectors of 8 lanes
constexpr uint32_t kGroupLanes = 8;
constexpr size_t kReadBytes = 128;  // in a step: a word for each lane's symbol and one for its bypass bits

KDN_AVX2 inline __m256i LoadIndices(const std::array<uint8_t, 8>& indices) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(indices.data())));
}
KDN_AVX2 inline __m256i Load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
KDN_AVX2 inline void Store256(__m256i value, void* p) { _mm256_storeu_si256(static_cast<__m256i*>(p), value); }
KDN_AVX2 inline __m256i LoadBytes(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}

KDN_AVX2 inline __m256i RefillStates(__m256i states, const uint8_t*& words) {
  const __m256i need = _mm256_cmpeq_epi32(_mm256_srli_epi32(states, 16), _mm256_setzero_si256());
  const auto mask = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(need)));
  const __m256i next = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(words)));
  const __m256i spread = _mm256_permutevar8x32_epi32(next, LoadIndices(kLanePermutations.expand[mask]));
  words += 2 * _mm_popcnt_u32(mask);
  return _mm256_blendv_epi8(states, _mm256_or_si256(_mm256_slli_epi32(states, 16), spread), need);
}

// All bits where a context takes bypass bits.
KDN_AVX2 inline __m256i Bypassing(__m256i contexts) {
  return _mm256_cmpgt_epi32(contexts, _mm256_set1_epi32(kTransformTables - 1));
}
KDN_AVX2 inline __m256i Tables(__m256i contexts, __m256i bypassing) {
  const __m256i low = _mm256_and_si256(contexts, _mm256_set1_epi32(3));
  return _mm256_blendv_epi8(contexts, _mm256_or_si256(low, _mm256_set1_epi32(12)), bypassing);
}
KDN_AVX2 inline __m256i BypassBits(__m256i contexts, __m256i bypassing) {
  return _mm256_and_si256(bypassing, _mm256_srli_epi32(_mm256_sub_epi32(contexts, _mm256_set1_epi32(12)), 2));
}

// Eight lanes of a step.
struct Group {
  __m256i contexts;
  __m256i bypassing;
  __m256i numbers;
};

// Decodes symbols; lanes with escapes get their numbers later.
KDN_AVX2 inline __m256i DecodeSymbols(const TransformDecodeJob& job, const uint8_t* contexts, Group& group,
                                      uint32_t& escaped, __m256i states) {
  group.contexts = LoadBytes(contexts);
  group.bypassing = Bypassing(group.contexts);
  const __m256i tables = Tables(group.contexts, group.bypassing);
  const __m256i mask12 = _mm256_set1_epi32(0xfff);
  const __m256i slots = _mm256_or_si256(_mm256_and_si256(states, mask12), _mm256_slli_epi32(tables, 12));
  const __m256i entries = _mm256_i32gather_epi32(reinterpret_cast<const int*>(job.table), slots, 4);
  const __m256i product = _mm256_mullo_epi32(_mm256_and_si256(entries, mask12), _mm256_srli_epi32(states, 12));
  const __m256i symbols = _mm256_srli_epi32(entries, 24);
  const __m256i zero = _mm256_cmpeq_epi32(symbols, _mm256_setzero_si256());
  escaped = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(zero)));
  const __m256i one = _mm256_set1_epi32(1);
  const __m256i zigzag = _mm256_sub_epi32(symbols, one);
  const __m256i negative = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_and_si256(zigzag, one));
  group.numbers = _mm256_xor_si256(_mm256_srli_epi32(zigzag, 1), negative);
  return _mm256_add_epi32(product, _mm256_and_si256(_mm256_srli_epi32(entries, 12), mask12));
}

KDN_AVX2 __attribute__((noinline)) bool TakeEscapes(TransformDecodeJob& job, uint32_t escaped, Group* groups) {
  if (job.escapes_end - job.escapes < 2 * _mm_popcnt_u32(escaped)) return false;
  alignas(32) int32_t numbers[kRansLanes];
  for (uint32_t g = 0; g < kGroups; ++g) Store256(groups[g].numbers, numbers + g * kGroupLanes);
  for (uint32_t left = escaped; left != 0; left &= left - 1) {
    numbers[__builtin_ctz(left)] = static_cast<int16_t>(LoadLe<uint16_t>(job.escapes));
    job.escapes += 2;
  }
  for (uint32_t g = 0; g < kGroups; ++g) groups[g].numbers = Load256(numbers + g * kGroupLanes);
  return true;
}

// TransformValue of lanes without bypass bits.
KDN_AVX2 inline __m256i ShiftedValues(const Group& group) {
  const __m256i magnitude = _mm256_min_epi32(_mm256_abs_epi32(group.numbers), _mm256_set1_epi32(kTransformMaxLevel));
  const __m256i byte = _mm256_slli_epi32(_mm256_min_epi32(magnitude, _mm256_set1_epi32(3)), 3);
  const __m256i low = _mm256_permutevar8x32_epi32(Load256(kTransformShifts), group.contexts);
  const __m256i high = _mm256_permutevar8x32_epi32(Load256(kTransformShifts + 8), group.contexts);
  const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(group.contexts, 28));  // the sign bit: contexts 8..15
  const __m256i of_context =
      _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high), upper));
  const __m256i shift = _mm256_and_si256(_mm256_srlv_epi32(of_context, byte), _mm256_set1_epi32(0xff));
  const __m256i value = _mm256_sub_epi32(_mm256_slli_epi32(magnitude, 5), shift);
  return _mm256_sign_epi32(value, group.numbers);
}

// Takes the bypass bits of a group's lanes and replaces their values.
KDN_AVX2 inline __m256i TakeBypass(const Group& group, __m256i& values, __m256i states, const uint8_t*& words) {
  const __m256i bits = BypassBits(group.contexts, group.bypassing);
  const __m256i one = _mm256_set1_epi32(1);
  const __m256i low = _mm256_and_si256(states, _mm256_sub_epi32(_mm256_sllv_epi32(one, bits), one));
  __m256i level = _mm256_add_epi32(_mm256_sllv_epi32(group.numbers, bits), low);
  level = _mm256_max_epi32(level, _mm256_set1_epi32(-kTransformMaxLevel));
  level = _mm256_min_epi32(level, _mm256_set1_epi32(kTransformMaxLevel));
  values = _mm256_blendv_epi8(values, _mm256_slli_epi32(level, 5), group.bypassing);
  return RefillStates(_mm256_srlv_epi32(states, bits), words);
}

KDN_AVX2 uint32_t DecodeRun(TransformDecodeJob& job, uint32_t step, uint32_t last, const uint8_t* readable_end) {
  __m256i states[kGroups];
  for (uint32_t g = 0; g < kGroups; ++g) states[g] = Load256(job.states + g * kGroupLanes);
  const uint8_t* words = job.words;
  for (; step < last && static_cast<size_t>(readable_end - words) >= kReadBytes; ++step) {
    const uint8_t* contexts = job.contexts + size_t{step} * kRansLanes;
    Group groups[kGroups];
    uint32_t all_escaped = 0;
    __m256i any_bypass = _mm256_setzero_si256();
    for (uint32_t g = 0; g < kGroups; ++g) {
      uint32_t escaped;
      states[g] = DecodeSymbols(job, contexts + g * kGroupLanes, groups[g], escaped, states[g]);
      all_escaped |= escaped << (g * kGroupLanes);
      any_bypass = _mm256_or_si256(any_bypass, groups[g].bypassing);
    }
    for (__m256i& state : states) state = RefillStates(state, words);
    if (__builtin_expect(all_escaped != 0, 0) && !TakeEscapes(job, all_escaped, groups)) return UINT32_MAX;
    __m256i values[kGroups];
    for (uint32_t g = 0; g < kGroups; ++g) values[g] = ShiftedValues(groups[g]);
    if (_mm256_testz_si256(any_bypass, any_bypass) == 0) {
      for (uint32_t g = 0; g < kGroups; ++g) states[g] = TakeBypass(groups[g], values[g], states[g], words);
    }
    int16_t* out = job.values + size_t{step} * kRansLanes;
    Store256(_mm256_permute4x64_epi64(_mm256_packs_epi32(values[0], values[1]), 0xd8), out);
    Store256(_mm256_permute4x64_epi64(_mm256_packs_epi32(values[2], values[3]), 0xd8), out + 16);
  }
  for (uint32_t g = 0; g < kGroups; ++g) Store256(states[g], job.states + g * kGroupLanes);
  job.words = words;
  return step;
}

bool DecodeSteps(TransformDecodeJob& job, uint32_t first, uint32_t last) {
  return DecodeByRuns<kReadBytes, TransformDecodeJob>(DecodeRun, job, first, last);
}

// Writes the low halves of the states in `spill` below `words`, in lane order, and takes them off.
KDN_AVX2 inline __m256i SpillStates(__m256i states, __m256i spill, uint16_t*& words) {
  const auto mask = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(spill)));
  const __m256i low16 = _mm256_and_si256(states, _mm256_set1_epi32(0xffff));
  const __m256i top = _mm256_permutevar8x32_epi32(low16, LoadIndices(kLanePermutations.compress_top[mask]));
  const __m256i narrow = _mm256_permute4x64_epi64(_mm256_packus_epi32(top, top), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(words - 8), _mm256_castsi256_si128(narrow));
  words -= _mm_popcnt_u32(mask);
  return _mm256_blendv_epi8(states, _mm256_srli_epi32(states, 16), spill);
}

// States as single precision: the high and the low half are exact, their sum rounds once.
KDN_AVX2 inline __m256 ToFloat(__m256i states) {
  const __m256 high = _mm256_cvtepi32_ps(_mm256_srli_epi32(states, 16));
  const __m256 low = _mm256_cvtepi32_ps(_mm256_and_si256(states, _mm256_set1_epi32(0xffff)));
  return _mm256_add_ps(_mm256_mul_ps(high, _mm256_set1_ps(65536.0f)), low);
}

KDN_AVX2 inline __m256i PushBypass(const TransformEncodeJob& job, size_t at, __m256i states, uint16_t*& words) {
  const __m256i contexts = LoadBytes(job.contexts + at);
  const __m256i bypassing = Bypassing(contexts);
  if (_mm256_testz_si256(bypassing, bypassing) != 0) return states;
  const __m256i bits = BypassBits(contexts, bypassing);
  const __m256i above = _mm256_srlv_epi32(states, _mm256_sub_epi32(_mm256_set1_epi32(32), bits));
  const __m256i fits = _mm256_cmpeq_epi32(above, _mm256_setzero_si256());
  states = SpillStates(states, _mm256_xor_si256(fits, _mm256_set1_epi32(-1)), words);
  return _mm256_or_si256(_mm256_sllv_epi32(states, bits), LoadBytes(job.lows + at));
}

KDN_AVX2 inline __m256i PushSymbols(const TransformEncodeJob& job, size_t at, __m256i states, uint16_t*& words) {
  const __m256i contexts = LoadBytes(job.contexts + at);
  const __m256i tables = Tables(contexts, Bypassing(contexts));
  const __m256i index = _mm256_add_epi32(_mm256_slli_epi32(tables, 6), LoadBytes(job.codes + at));
  const __m256i entries = _mm256_i32gather_epi32(reinterpret_cast<const int*>(job.table), index, 4);
  const __m256i frequencies = _mm256_and_si256(entries, _mm256_set1_epi32(0xffff));
  const __m256i bound = _mm256_slli_epi32(frequencies, 32 - kTransformProbBits);
  states = SpillStates(states, _mm256_cmpeq_epi32(_mm256_max_epu32(states, bound), states), words);

  // The quotient is below 2^23: a single-precision estimate is off by one at most.
  const __m256 estimate = _mm256_div_ps(ToFloat(states), _mm256_cvtepi32_ps(frequencies));
  __m256i quotient = _mm256_cvttps_epi32(estimate);
  __m256i remainder = _mm256_sub_epi32(states, _mm256_mullo_epi32(quotient, frequencies));
  const __m256i above = _mm256_srai_epi32(remainder, 31);
  quotient = _mm256_add_epi32(quotient, above);
  remainder = _mm256_add_epi32(remainder, _mm256_and_si256(above, frequencies));
  const __m256i below = _mm256_cmpeq_epi32(_mm256_max_epu32(remainder, frequencies), remainder);
  quotient = _mm256_sub_epi32(quotient, below);
  remainder = _mm256_sub_epi32(remainder, _mm256_and_si256(below, frequencies));
  return _mm256_add_epi32(_mm256_add_epi32(_mm256_slli_epi32(quotient, kTransformProbBits), remainder),
                          _mm256_srli_epi32(entries, 16));
}

KDN_AVX2 void EncodeSteps(TransformEncodeJob& job, uint32_t first, uint32_t last) {
  static_assert(kTransformSymbols == 1 << 6);
  __m256i states[kGroups];
  for (uint32_t g = 0; g < kGroups; ++g) states[g] = Load256(job.states + g * kGroupLanes);
  uint16_t* words = job.words;
  for (uint32_t step = last; step-- > first;) {
    const size_t at = size_t{step} * kRansLanes;
    for (uint32_t g = kGroups; g-- > 0;) states[g] = PushBypass(job, at + g * kGroupLanes, states[g], words);
    for (uint32_t g = kGroups; g-- > 0;) states[g] = PushSymbols(job, at + g * kGroupLanes, states[g], words);
  }
  job.words = words;
  for (uint32_t g = 0; g < kGroups; ++g) Store256(states[g], job.states + g * kGroupLanes);
}

// kRows rows of 16 channels from `at` on.
template <uint32_t kRows>
KDN_AVX2 inline void SynthesiseBlock(const TransformSynthesisJob& job, uint32_t at) {
  const uint32_t channel = job.channel + at;
  __m256i sums[kRows][2];
  for (auto& row : sums) row[0] = row[1] = _mm256_setzero_si256();
  const int16_t* pairs = job.pairs + size_t{2} * channel;
  for (uint32_t pair = 0; pair < job.pair_count; ++pair, pairs += size_t{2} * job.width) {
    const __m256i low = Load256(pairs);
    const __m256i high = Load256(pairs + 16);
    for (uint32_t row = 0; row < kRows; ++row) {
      int32_t two;
      std::memcpy(&two, job.values + size_t{row} * job.value_stride + size_t{2} * pair, sizeof(two));
      const __m256i values = _mm256_set1_epi32(two);
      sums[row][0] = _mm256_add_epi32(sums[row][0], _mm256_madd_epi16(low, values));
      sums[row][1] = _mm256_add_epi32(sums[row][1], _mm256_madd_epi16(high, values));
    }
  }
  for (uint32_t v = 0; v < 2; ++v) {
    const __m256 scales = _mm256_loadu_ps(job.scales + channel + 8 * v);
    const __m256 means = _mm256_loadu_ps(job.means + channel + 8 * v);
    for (uint32_t row = 0; row < kRows; ++row) {
      const __m256 factors = _mm256_mul_ps(_mm256_set1_ps(job.steps[row]), scales);
      const __m256 products = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[row][v]), factors);
      _mm256_storeu_ps(job.out[row] + at + 8 * v, _mm256_add_ps(products, means));
    }
  }
}

template <uint32_t kRows>
KDN_AVX2 void SynthesiseRows(const TransformSynthesisJob& job) {
  for (uint32_t at = 0; at < job.channels; at += 16) SynthesiseBlock<kRows>(job, at);
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

template <uint32_t kRows>
KDN_AVX2 inline void AnalyseBlock(const TransformAnalysisJob& job, uint32_t coefficient) {
  __m256 sums[kRows][2];
  for (auto& row : sums) row[0] = row[1] = _mm256_setzero_ps();
  const float* entries = job.matrix + coefficient;
  for (uint32_t i = 0; i < job.width; ++i, entries += job.matrix_stride) {
    const __m256 low = _mm256_loadu_ps(entries);
    const __m256 high = _mm256_loadu_ps(entries + 8);
    for (uint32_t row = 0; row < kRows; ++row) {
      const __m256 value = _mm256_set1_ps(job.values[size_t{row} * job.width + i]);
      sums[row][0] = _mm256_add_ps(sums[row][0], _mm256_mul_ps(low, value));
      sums[row][1] = _mm256_add_ps(sums[row][1], _mm256_mul_ps(high, value));
    }
  }
  for (uint32_t row = 0; row < kRows; ++row) {
    float* out = job.out + size_t{row} * job.matrix_stride + coefficient;
    _mm256_storeu_ps(out, sums[row][0]);
    _mm256_storeu_ps(out + 8, sums[row][1]);
  }
}

template <uint32_t kRows>
KDN_AVX2 void AnalyseRows(const TransformAnalysisJob& job) {
  for (uint32_t at = 0; at < job.coefficients; at += 16) AnalyseBlock<kRows>(job, at);
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

KDN_AVX2 bool Centre(const float* values, const float* means, uint32_t count, float* out) {
  return CentreCore(values, means, count, out);
}
KDN_AVX2 TransformLevels Quantise(const float* coefficients, float inverse_step, uint32_t count, int16_t* levels) {
  return QuantiseCore(coefficients, inverse_step, count, levels);
}
KDN_AVX2 bool Symbolise(const TransformSymbolJob& job) { return SymboliseCore(job); }
KDN_AVX2 void Attend(const TransformAttentionJob& job) { AttendCore(job); }

constexpr TransformKernels kKernels = {DecodeSteps, EncodeSteps, Synthesise, Analyse,
                                       Centre,      Quantise,    Symbolise,  Attend};

}  // namespace

const TransformKernels* Avx2TransformKernels() { return &kKernels; }

}  // namespace kdn::codec_internal

#else

namespace kdn::codec_internal {
const TransformKernels* Avx2TransformKernels() { return nullptr; }
}  // namespace kdn::codec_internal

#endif
