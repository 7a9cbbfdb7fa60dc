#include "kernels/codec/lossless_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <array>

#include "kernels/base/bytes.h"
#include "kernels/codec/lossless_simd.h"

#define KDN_AVX2 __attribute__((target("avx2,popcnt")))

namespace kdn::codec_internal {
namespace {

constexpr uint32_t kGroups = 4;  // vectors of 8 lanes
constexpr uint32_t kGroupLanes = 8;

KDN_AVX2 inline __m256i LoadIndices(const std::array<uint8_t, 8>& indices) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(indices.data())));
}
KDN_AVX2 inline __m256i Load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
KDN_AVX2 inline __m128i Load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
KDN_AVX2 inline void Store256(__m256i value, void* p) { _mm256_storeu_si256(static_cast<__m256i*>(p), value); }
KDN_AVX2 inline void Store128(__m128i value, void* p) { _mm_storeu_si128(static_cast<__m128i*>(p), value); }

// Byte i of the result has all bits set where bit i of `plane` is.
KDN_AVX2 inline __m256i SpreadBits(uint32_t plane) {
  const __m256i byte_of = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i bit_of = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(plane)), byte_of);
  return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit_of), bit_of);
}

KDN_AVX2 inline __m256i LoadPlanes(const uint8_t* planes, int count) {
  __m256i bits = _mm256_setzero_si256();
  for (int i = 0; i < count; ++i) {
    const __m256i value = _mm256_set1_epi8(static_cast<char>(1 << i));
    bits = _mm256_or_si256(bits, _mm256_and_si256(SpreadBits(LoadLe<uint32_t>(planes + 4 * i)), value));
  }
  return bits;
}

// 16-bit vectors to bytes: elements 0..15 and 16..31, each below 256, in order.
KDN_AVX2 inline __m256i Narrow16(__m256i low, __m256i high) {
  return _mm256_permute4x64_epi64(_mm256_packus_epi16(low, high), 0xd8);
}
KDN_AVX2 inline __m256i Narrow32(__m256i low, __m256i high) {
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
}

KDN_AVX2 inline __m256i Half(__m256i bytes, int half) {
  return _mm256_cvtepu8_epi16(half == 0 ? _mm256_castsi256_si128(bytes) : _mm256_extracti128_si256(bytes, 1));
}

KDN_AVX2 inline __m256i Join16(__m256i exponents, __m256i raw, int exponent_bits, int mantissa_bits) {
  const __m256i exponent_mask = _mm256_set1_epi16(static_cast<short>((1 << exponent_bits) - 1));
  const __m256i mantissa_mask = _mm256_set1_epi16(static_cast<short>((1 << mantissa_bits) - 1));
  const __m256i exponent = _mm256_slli_epi16(_mm256_and_si256(exponents, exponent_mask), mantissa_bits);
  const __m256i sign = _mm256_slli_epi16(_mm256_andnot_si256(mantissa_mask, raw), exponent_bits);
  return _mm256_or_si256(_mm256_or_si256(exponent, sign), _mm256_and_si256(raw, mantissa_mask));
}

KDN_AVX2 inline void JoinFp32(const uint8_t* exponents, const uint8_t* record, uint8_t* out) {
  const __m256i mantissa_mask = _mm256_set1_epi32((1 << 23) - 1);
  for (uint32_t group = 0; group < kGroups; ++group) {
    __m256i raw = _mm256_setzero_si256();
    for (int plane = 0; plane < 3; ++plane) {
      const void* bytes = record + plane * 32 + group * kGroupLanes;
      const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(bytes)));
      raw = _mm256_or_si256(raw, _mm256_slli_epi32(wide, 8 * plane));
    }
    const void* exponent_bytes = exponents + group * kGroupLanes;
    const __m256i exponent = _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(exponent_bytes)));
    const __m256i sign = _mm256_slli_epi32(_mm256_andnot_si256(mantissa_mask, raw), 8);
    const __m256i joined =
        _mm256_or_si256(_mm256_or_si256(_mm256_slli_epi32(exponent, 23), sign), _mm256_and_si256(raw, mantissa_mask));
    Store256(joined, out + group * 32);
  }
}

// `exponents` are 32 bytes, in order.
template <DType kDType>
KDN_AVX2 inline void JoinAndStore(__m256i exponents, const uint8_t* record, uint8_t* out) {
  constexpr ElementFields kFields = FieldsOf(kDType);
  constexpr int kExponentBits = kFields.exponent_bits;
  constexpr int kMantissaBits = kFields.mantissa_bits;
  if constexpr (kFields.bytes == 4) {
    alignas(32) uint8_t bytes[kRansLanes];
    Store256(exponents, bytes);
    JoinFp32(bytes, record, out);
  } else {
    constexpr bool kHasBytes = kFields.byte_planes() == 1;
    const __m256i low = kHasBytes ? Load256(record) : LoadPlanes(record, kFields.bit_planes());
    __m256i high = _mm256_setzero_si256();
    if constexpr (kHasBytes && kFields.bit_planes() != 0) high = LoadPlanes(record + 32, kFields.bit_planes());
    __m256i joined[2];
    for (int half = 0; half < 2; ++half) {
      const __m256i raw = _mm256_or_si256(Half(low, half), _mm256_slli_epi16(Half(high, half), 8));
      joined[half] = Join16(Half(exponents, half), raw, kExponentBits, kMantissaBits);
    }
    if constexpr (kFields.bytes == 2) {
      Store256(joined[0], out);
      Store256(joined[1], out + 32);
    } else {
      Store256(Narrow16(joined[0], joined[1]), out);
    }
  }
}

KDN_AVX2 inline __m256i AdvanceStates(__m256i states, __m256i entries, __m128i prob_bits) {
  const __m256i mask12 = _mm256_set1_epi32(0xfff);
  const __m256i product = _mm256_mullo_epi32(_mm256_and_si256(entries, mask12), _mm256_srl_epi32(states, prob_bits));
  return _mm256_add_epi32(product, _mm256_and_si256(_mm256_srli_epi32(entries, 12), mask12));
}

KDN_AVX2 inline __m256i RefillStates(__m256i states, const uint8_t*& words) {
  const __m256i need = _mm256_cmpeq_epi32(_mm256_srli_epi32(states, 16), _mm256_setzero_si256());
  const auto mask = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(need)));
  const __m256i next = _mm256_cvtepu16_epi32(Load128(words));
  const __m256i spread = _mm256_permutevar8x32_epi32(next, LoadIndices(kLanePermutations.expand[mask]));
  words += 2 * _mm_popcnt_u32(mask);
  return _mm256_blendv_epi8(states, _mm256_or_si256(_mm256_slli_epi32(states, 16), spread), need);
}

// Replaces the exponents of the lanes in `escaped` by escape bytes. False when there are too few of them.
KDN_AVX2 __attribute__((noinline)) bool TakeEscapes(DecodeJob& job, uint32_t escaped, __m256i& exponents) {
  if (job.escapes_end - job.escapes < _mm_popcnt_u32(escaped)) return false;
  alignas(32) uint8_t lanes[kRansLanes];
  Store256(exponents, lanes);
  for (uint32_t left = escaped; left != 0; left &= left - 1) lanes[__builtin_ctz(left)] = *job.escapes++;
  exponents = Load256(lanes);
  return true;
}

// A DecodeRunFunction.
template <DType kDType>
KDN_AVX2 uint32_t DecodeRun(DecodeJob& job, uint32_t step, uint32_t last, const uint8_t* readable_end) {
  constexpr ElementFields kFields = FieldsOf(kDType);
  const __m128i prob_bits = _mm_cvtsi32_si128(static_cast<int>(job.prob_bits));
  const __m256i slot_mask = _mm256_set1_epi32((1 << job.prob_bits) - 1);
  const __m256i mask16 = _mm256_set1_epi32(0xffff);
  const auto* table = reinterpret_cast<const int*>(job.table);
  __m256i states[kGroups];
  for (uint32_t group = 0; group < kGroups; ++group) states[group] = Load256(job.states + group * kGroupLanes);
  const uint8_t* words = job.words;
  const uint32_t* const pattern_end = job.pattern + job.pattern_steps * kRansLanes;
  const uint32_t* pattern = job.pattern + (step % job.pattern_steps) * kRansLanes;
  for (; step < last && static_cast<size_t>(readable_end - words) >= kStepReadBytes; ++step) {
    __m256i symbols[kGroups];
    __m256i offsets[kGroups];
    __m256i entries[kGroups];
    for (uint32_t group = 0; group < kGroups; ++group) {
      const __m256i channels = Load256(pattern + group * kGroupLanes);
      const __m256i slots =
          _mm256_add_epi32(_mm256_and_si256(states[group], slot_mask), _mm256_and_si256(channels, mask16));
      entries[group] = _mm256_i32gather_epi32(table, slots, 4);
      offsets[group] = _mm256_srli_epi32(channels, 16);
    }
    pattern += kRansLanes;
    if (pattern == pattern_end) pattern = job.pattern;
    for (uint32_t group = 0; group < kGroups; ++group) {
      states[group] = RefillStates(AdvanceStates(states[group], entries[group], prob_bits), words);
      symbols[group] = _mm256_srli_epi32(entries[group], 24);
    }
    const __m256i symbol_bytes = Narrow16(Narrow32(symbols[0], symbols[1]), Narrow32(symbols[2], symbols[3]));
    const __m256i offset_bytes = Narrow16(Narrow32(offsets[0], offsets[1]), Narrow32(offsets[2], offsets[3]));
    __m256i exponents = _mm256_sub_epi8(offset_bytes, symbol_bytes);
    const auto escaped =
        static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(symbol_bytes, _mm256_set1_epi8(kRansEscape))));
    if (__builtin_expect(escaped != 0, 0) && !TakeEscapes(job, escaped, exponents)) return UINT32_MAX;
    JoinAndStore<kDType>(exponents, job.raw + static_cast<size_t>(step) * kFields.record_bytes(),
                         job.out + static_cast<size_t>(step) * kRansLanes * kFields.bytes);
  }
  for (uint32_t group = 0; group < kGroups; ++group) Store256(states[group], job.states + group * kGroupLanes);
  job.words = words;
  return step;
}

bool DecodeSteps(DecodeJob& job, uint32_t first, uint32_t last) {
  return ForDType(job.dtype,
                  [&]<DType kDType>() { return DecodeByRuns<kStepReadBytes>(DecodeRun<kDType>, job, first, last); });
}

// States as single precision: the high and the low half are exact, their sum rounds once.
KDN_AVX2 inline __m256 ToFloat(__m256i states) {
  const __m256 high = _mm256_cvtepi32_ps(_mm256_srli_epi32(states, 16));
  const __m256 low = _mm256_cvtepi32_ps(_mm256_and_si256(states, _mm256_set1_epi32(0xffff)));
  return _mm256_add_ps(_mm256_mul_ps(high, _mm256_set1_ps(65536.0f)), low);
}

// Codes 8 lanes; spilled words go below `words`, in lane order.
KDN_AVX2 inline __m256i PushSymbols(__m256i states, __m256i entries, __m128i prob_bits, uint16_t*& words) {
  const __m256i frequencies = _mm256_and_si256(entries, _mm256_set1_epi32(0xffff));
  const __m128i bound_shift = _mm_sub_epi32(_mm_cvtsi32_si128(32), prob_bits);
  const __m256i bound = _mm256_sll_epi32(frequencies, bound_shift);
  const __m256i spill = _mm256_cmpeq_epi32(_mm256_max_epu32(states, bound), states);
  const auto mask = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(spill)));
  const __m256i low16 = _mm256_and_si256(states, _mm256_set1_epi32(0xffff));
  const __m256i top = _mm256_permutevar8x32_epi32(low16, LoadIndices(kLanePermutations.compress_top[mask]));
  Store128(_mm256_castsi256_si128(Narrow32(top, top)), words - 8);
  words -= _mm_popcnt_u32(mask);
  states = _mm256_blendv_epi8(states, _mm256_srli_epi32(states, 16), spill);

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
  return _mm256_add_epi32(_mm256_add_epi32(_mm256_sll_epi32(quotient, prob_bits), remainder),
                          _mm256_srli_epi32(entries, 16));
}

KDN_AVX2 void EncodeSteps(EncodeJob& job, uint32_t first, uint32_t last) {
  const __m128i prob_bits = _mm_cvtsi32_si128(static_cast<int>(job.prob_bits));
  const auto* table = reinterpret_cast<const int*>(job.table);
  __m256i states[kGroups];
  for (uint32_t group = 0; group < kGroups; ++group) states[group] = Load256(job.states + group * kGroupLanes);
  uint16_t* words = job.words;
  for (uint32_t step = last; step-- > first;) {
    const uint32_t* pattern = job.pattern + (step % job.pattern_steps) * kRansLanes;
    const uint8_t* symbols = job.symbols + static_cast<size_t>(step) * kRansLanes;
    for (uint32_t group = kGroups; group-- > 0;) {
      const __m256i shape = _mm256_and_si256(Load256(pattern + group * kGroupLanes), _mm256_set1_epi32(0xffff));
      const void* bytes = symbols + group * kGroupLanes;
      const __m256i symbol = _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(bytes)));
      const __m256i entries = _mm256_i32gather_epi32(table, _mm256_add_epi32(shape, symbol), 4);
      states[group] = PushSymbols(states[group], entries, prob_bits, words);
    }
  }
  job.words = words;
  for (uint32_t group = 0; group < kGroups; ++group) Store256(states[group], job.states + group * kGroupLanes);
}

KDN_AVX2 inline void StorePlanes(__m256i bits, int count, uint8_t* planes) {
  for (int i = 0; i < count; ++i) {
    const __m256i value = _mm256_set1_epi8(static_cast<char>(1 << i));
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bits, value), value);
    StoreLe(static_cast<uint32_t>(_mm256_movemask_epi8(set)), planes + 4 * i);
  }
}

KDN_AVX2 inline void SplitFp32(const uint8_t* elements, uint8_t* exponents, uint8_t* record) {
  __m256i parts[4][kGroups];  // three raw planes, then exponents; 32-bit lanes below 256
  const __m256i mask8 = _mm256_set1_epi32(0xff);
  for (uint32_t group = 0; group < kGroups; ++group) {
    const __m256i element = Load256(elements + group * 32);
    const __m256i sign = _mm256_slli_epi32(_mm256_srli_epi32(element, 31), 23);
    const __m256i raw = _mm256_or_si256(sign, _mm256_and_si256(element, _mm256_set1_epi32((1 << 23) - 1)));
    for (int plane = 0; plane < 3; ++plane) {
      parts[plane][group] = _mm256_and_si256(_mm256_srli_epi32(raw, 8 * plane), mask8);
    }
    parts[3][group] = _mm256_and_si256(_mm256_srli_epi32(element, 23), mask8);
  }
  for (int part = 0; part < 4; ++part) {
    const __m256i bytes = Narrow16(Narrow32(parts[part][0], parts[part][1]), Narrow32(parts[part][2], parts[part][3]));
    Store256(bytes, part == 3 ? exponents : record + part * 32);
  }
}

template <DType kDType>
KDN_AVX2 inline void SplitNarrow(const uint8_t* elements, uint8_t* exponents, uint8_t* record) {
  constexpr ElementFields kFields = FieldsOf(kDType);
  constexpr int kMantissaBits = kFields.mantissa_bits;
  const __m256i low_byte = _mm256_set1_epi16(0xff);
  __m256i fields[2];
  __m256i raws[2];
  for (int half = 0; half < 2; ++half) {
    const __m256i element = kFields.bytes == 2 ? Load256(elements + half * 32) : Half(Load256(elements), half);
    fields[half] = _mm256_and_si256(_mm256_srli_epi16(element, kMantissaBits),
                                    _mm256_set1_epi16(static_cast<short>(kFields.exponent_mask())));
    const __m256i sign = _mm256_slli_epi16(_mm256_srli_epi16(element, kFields.bytes * 8 - 1), kMantissaBits);
    const __m256i mantissa = _mm256_and_si256(element, _mm256_set1_epi16(static_cast<short>(kFields.mantissa_mask())));
    raws[half] = _mm256_or_si256(sign, mantissa);
  }
  Store256(Narrow16(fields[0], fields[1]), exponents);
  const __m256i low = Narrow16(_mm256_and_si256(raws[0], low_byte), _mm256_and_si256(raws[1], low_byte));
  if constexpr (kFields.byte_planes() == 1) {
    Store256(low, record);
    const __m256i high = Narrow16(_mm256_srli_epi16(raws[0], 8), _mm256_srli_epi16(raws[1], 8));
    StorePlanes(high, kFields.bit_planes(), record + 32);
  } else {
    StorePlanes(low, kFields.bit_planes(), record);
  }
}

template <DType kDType>
KDN_AVX2 void SplitSteps(const uint8_t* elements, uint32_t steps, uint8_t* exponents, uint8_t* records) {
  constexpr ElementFields kFields = FieldsOf(kDType);
  for (uint32_t step = 0; step < steps; ++step) {
    const uint8_t* in = elements + static_cast<size_t>(step) * kRansLanes * kFields.bytes;
    uint8_t* record = records + static_cast<size_t>(step) * kFields.record_bytes();
    uint8_t* exponent = exponents + static_cast<size_t>(step) * kRansLanes;
    if constexpr (kFields.bytes == 4) {
      SplitFp32(in, exponent, record);
    } else {
      SplitNarrow<kDType>(in, exponent, record);
    }
  }
}

void Split(DType dtype, const uint8_t* elements, uint32_t steps, uint8_t* exponents, uint8_t* records) {
  ForDType(dtype, [=]<DType kDType>() { SplitSteps<kDType>(elements, steps, exponents, records); });
}

KDN_AVX2 void Symbolise(SymbolJob& job, uint32_t steps) {
  const __m256i escape = _mm256_set1_epi8(kRansEscape);
  uint32_t phase = 0;
  for (uint32_t step = 0; step < steps; ++step) {
    uint8_t* lanes = job.symbols + static_cast<size_t>(step) * kRansLanes;
    const __m256i exponents = Load256(lanes);
    const __m256i distance = _mm256_sub_epi8(Load256(job.offsets + phase * kRansLanes), exponents);
    const __m256i symbols = _mm256_min_epu8(distance, escape);
    auto escaped = static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(symbols, escape)));
    for (; escaped != 0; escaped &= escaped - 1) *job.escapes++ = lanes[__builtin_ctz(escaped)];
    Store256(symbols, lanes);
    phase = phase + 1 == job.pattern_steps ? 0 : phase + 1;
  }
}

KDN_AVX2 void Price(const uint32_t* counts, const uint32_t* costs, uint32_t* totals) {
  __m256i sum = _mm256_setzero_si256();
  for (uint32_t symbol = 0; symbol < kRansSymbols; ++symbol) {
    const __m256i count = _mm256_set1_epi32(static_cast<int>(counts[symbol]));
    sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(count, Load256(costs + symbol * kCostShapes)));
  }
  Store256(sum, totals);
}

constexpr LosslessKernels kKernels = {DecodeSteps, EncodeSteps, Split, Symbolise, Price};

}  // namespace

const LosslessKernels* Avx2Kernels() { return &kKernels; }

}  // namespace kdn::codec_internal

#else

namespace kdn::codec_internal {
const LosslessKernels* Avx2Kernels() { return nullptr; }
}  // namespace kdn::codec_internal

#endif
