#include "kernels/codec/lossless_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/base/bytes.h"
#include "kernels/codec/lossless_simd.h"

#define KDN_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi,bmi2,popcnt")))

// gcc 12's own headers trip this in masked intrinsics (its undefined-value idiom).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace kdn::codec_internal {
namespace {

// Splits and joins keep 32 elements as 16-bit lanes, in order.

KDN_AVX512 inline __m256i LoadPlanes(const uint8_t* planes, int count) {
  __m256i bits = _mm256_setzero_si256();
  for (int i = 0; i < count; ++i) {
    const __mmask32 plane = LoadLe<uint32_t>(planes + 4 * i);
    bits = _mm256_or_si256(bits, _mm256_maskz_set1_epi8(plane, static_cast<char>(1 << i)));
  }
  return bits;
}

KDN_AVX512 inline __m256i LoadBytes(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

KDN_AVX512 inline __m512i Join16(__m512i exponents, __m512i raw, int exponent_bits, int mantissa_bits) {
  const __m512i exponent_mask = _mm512_set1_epi16(static_cast<short>((1 << exponent_bits) - 1));
  const __m512i mantissa_mask = _mm512_set1_epi16(static_cast<short>((1 << mantissa_bits) - 1));
  const __m512i exponent = _mm512_slli_epi16(_mm512_and_si512(exponents, exponent_mask), mantissa_bits);
  const __m512i sign = _mm512_slli_epi16(_mm512_andnot_si512(mantissa_mask, raw), exponent_bits);
  return _mm512_or_si512(_mm512_or_si512(exponent, sign), _mm512_and_si512(raw, mantissa_mask));
}

template <DType kDType>
KDN_AVX512 inline void JoinAndStore(__m512i exponents, const uint8_t* record, uint8_t* out) {
  constexpr ElementFields kFields = FieldsOf(kDType);
  constexpr int kExponentBits = kFields.exponent_bits;
  constexpr int kMantissaBits = kFields.mantissa_bits;
  if constexpr (kFields.bytes == 4) {
    for (int half = 0; half < 2; ++half) {
      __m512i raw = _mm512_setzero_si512();
      for (int plane = 0; plane < 3; ++plane) {
        const auto* bytes = reinterpret_cast<const __m128i*>(record + plane * 32 + half * 16);
        raw = _mm512_or_si512(raw, _mm512_slli_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128(bytes)), 8 * plane));
      }
      const __m256i narrow = half == 0 ? _mm512_castsi512_si256(exponents) : _mm512_extracti64x4_epi64(exponents, 1);
      const __m512i exponent = _mm512_and_si512(_mm512_cvtepu16_epi32(narrow), _mm512_set1_epi32(0xff));
      const __m512i mantissa_mask = _mm512_set1_epi32((1 << kMantissaBits) - 1);
      const __m512i sign = _mm512_slli_epi32(_mm512_andnot_si512(mantissa_mask, raw), kExponentBits);
      const __m512i joined = _mm512_or_si512(_mm512_or_si512(_mm512_slli_epi32(exponent, kMantissaBits), sign),
                                             _mm512_and_si512(raw, mantissa_mask));
      _mm512_storeu_si512(out + half * 64, joined);
    }
  } else {
    __m512i raw;
    if constexpr (kFields.byte_planes() == 0) {
      raw = _mm512_cvtepu8_epi16(LoadPlanes(record, kFields.bit_planes()));
    } else {
      raw = _mm512_cvtepu8_epi16(LoadBytes(record));
    }
    if constexpr (kFields.byte_planes() == 1 && kFields.bit_planes() != 0) {
      const __m512i high = _mm512_cvtepu8_epi16(LoadPlanes(record + 32, kFields.bit_planes()));
      raw = _mm512_or_si512(raw, _mm512_slli_epi16(high, 8));
    }
    const __m512i joined = Join16(exponents, raw, kExponentBits, kMantissaBits);
    if constexpr (kFields.bytes == 2) {
      _mm512_storeu_si512(out, joined);
    } else {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi16_epi8(joined));
    }
  }
}

// Replaces the exponents of the lanes in `escaped` by escape bytes. False when there are too few of them.
KDN_AVX512 __attribute__((noinline)) bool TakeEscapes(DecodeJob& job, __mmask32 escaped, __m512i& exponents) {
  if (job.escapes_end - job.escapes < _mm_popcnt_u32(escaped)) return false;
  alignas(64) uint16_t lanes[kRansLanes];
  _mm512_store_si512(lanes, exponents);
  for (uint32_t left = escaped; left != 0; left &= left - 1) lanes[__builtin_ctz(left)] = *job.escapes++;
  exponents = _mm512_load_si512(lanes);
  return true;
}

struct Lanes {
  __m512i low;   // lanes 0..15
  __m512i high;  // lanes 16..31
};

KDN_AVX512 inline __m512i AdvanceStates(__m512i states, __m512i entries, __m128i prob_bits) {
  const __m512i mask12 = _mm512_set1_epi32(0xfff);
  const __m512i product = _mm512_mullo_epi32(_mm512_and_si512(entries, mask12), _mm512_srl_epi32(states, prob_bits));
  return _mm512_add_epi32(product, _mm512_and_si512(_mm512_srli_epi32(entries, 12), mask12));
}

KDN_AVX512 inline __m512i RefillStates(__m512i states, const uint8_t*& words) {
  const __mmask16 need = _mm512_cmplt_epu32_mask(states, _mm512_set1_epi32(kRansLowerBound));
  const __m512i next = _mm512_maskz_expand_epi32(need, _mm512_cvtepu16_epi32(LoadBytes(words)));
  words += 2 * _mm_popcnt_u32(need);
  return _mm512_mask_or_epi32(states, need, _mm512_slli_epi32(states, 16), next);
}

// A DecodeRunFunction.
template <DType kDType>
KDN_AVX512 uint32_t DecodeRun(DecodeJob& job, uint32_t step, uint32_t last, const uint8_t* readable_end) {
  constexpr ElementFields kFields = FieldsOf(kDType);
  Lanes states = {_mm512_loadu_si512(job.states), _mm512_loadu_si512(job.states + 16)};
  const __m128i prob_bits = _mm_cvtsi32_si128(static_cast<int>(job.prob_bits));
  const __m512i slot_mask = _mm512_set1_epi32((1 << job.prob_bits) - 1);
  const __m512i mask16 = _mm512_set1_epi32(0xffff);
  const __m512i escape = _mm512_set1_epi16(kRansEscape);
  const uint8_t* words = job.words;
  const uint32_t* const pattern_end = job.pattern + job.pattern_steps * kRansLanes;
  const uint32_t* pattern = job.pattern + (step % job.pattern_steps) * kRansLanes;
  for (; step < last && static_cast<size_t>(readable_end - words) >= kStepReadBytes; ++step) {
    const Lanes channels = {_mm512_loadu_si512(pattern), _mm512_loadu_si512(pattern + 16)};
    pattern += kRansLanes;
    if (pattern == pattern_end) pattern = job.pattern;
    const __m512i slot_low =
        _mm512_add_epi32(_mm512_and_si512(states.low, slot_mask), _mm512_and_si512(channels.low, mask16));
    const __m512i slot_high =
        _mm512_add_epi32(_mm512_and_si512(states.high, slot_mask), _mm512_and_si512(channels.high, mask16));
    const Lanes entries = {_mm512_i32gather_epi32(slot_low, job.table, 4),
                           _mm512_i32gather_epi32(slot_high, job.table, 4)};
    states.low = RefillStates(AdvanceStates(states.low, entries.low, prob_bits), words);
    states.high = RefillStates(AdvanceStates(states.high, entries.high, prob_bits), words);

    const __m512i symbols =
        _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(_mm512_srli_epi32(entries.low, 24))),
                           _mm512_cvtepi32_epi16(_mm512_srli_epi32(entries.high, 24)), 1);
    const __m512i offsets =
        _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(_mm512_srli_epi32(channels.low, 16))),
                           _mm512_cvtepi32_epi16(_mm512_srli_epi32(channels.high, 16)), 1);
    __m512i exponents = _mm512_sub_epi16(offsets, symbols);
    const __mmask32 escaped = _mm512_cmpeq_epi16_mask(symbols, escape);
    if (__builtin_expect(escaped != 0, 0) && !TakeEscapes(job, escaped, exponents)) return UINT32_MAX;
    JoinAndStore<kDType>(exponents, job.raw + static_cast<size_t>(step) * kFields.record_bytes(),
                         job.out + static_cast<size_t>(step) * kRansLanes * kFields.bytes);
  }
  _mm512_storeu_si512(job.states, states.low);
  _mm512_storeu_si512(job.states + 16, states.high);
  job.words = words;
  return step;
}

bool DecodeSteps(DecodeJob& job, uint32_t first, uint32_t last) {
  return ForDType(job.dtype,
                  [&]<DType kDType>() { return DecodeByRuns<kStepReadBytes>(DecodeRun<kDType>, job, first, last); });
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

// Codes 16 lanes; spilled words go below `words`, in lane order.
KDN_AVX512 inline __m512i PushSymbols(__m512i states, __m512i entries, __m128i prob_bits, uint16_t*& words) {
  const __m512i frequencies = _mm512_and_si512(entries, _mm512_set1_epi32(0xffff));
  const __m128i bound_shift = _mm_sub_epi32(_mm_cvtsi32_si128(32), prob_bits);
  const __mmask16 spill = _mm512_cmpge_epu32_mask(states, _mm512_sll_epi32(frequencies, bound_shift));
  const int count = _mm_popcnt_u32(spill);
  // The words end at `words`: pushed to the top of the vector, of which the rest is overwritten later.
  const __m512i packed = _mm512_maskz_compress_epi32(spill, states);
  const auto top = static_cast<__mmask16>(0xffff0000u >> count);
  const __m512i aligned = _mm512_maskz_expand_epi32(top, packed);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words - 16), _mm512_cvtepi32_epi16(aligned));
  words -= count;
  states = _mm512_mask_srli_epi32(states, spill, states, 16);
  __m512i remainder;
  const __m512i quotient = Divide(states, frequencies, remainder);
  return _mm512_add_epi32(_mm512_add_epi32(_mm512_sll_epi32(quotient, prob_bits), remainder),
                          _mm512_srli_epi32(entries, 16));
}

KDN_AVX512 inline __m512i GatherEntries(const EncodeJob& job, const uint32_t* pattern, const uint8_t* symbols) {
  const __m512i shape = _mm512_and_si512(_mm512_loadu_si512(pattern), _mm512_set1_epi32(0xffff));
  const __m512i symbol = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(symbols)));
  return _mm512_i32gather_epi32(_mm512_add_epi32(shape, symbol), job.table, 4);
}

KDN_AVX512 void EncodeSteps(EncodeJob& job, uint32_t first, uint32_t last) {
  Lanes states = {_mm512_loadu_si512(job.states), _mm512_loadu_si512(job.states + 16)};
  const __m128i prob_bits = _mm_cvtsi32_si128(static_cast<int>(job.prob_bits));
  uint16_t* words = job.words;
  for (uint32_t step = last; step-- > first;) {
    const uint32_t* pattern = job.pattern + (step % job.pattern_steps) * kRansLanes;
    const uint8_t* symbols = job.symbols + static_cast<size_t>(step) * kRansLanes;
    states.high = PushSymbols(states.high, GatherEntries(job, pattern + 16, symbols + 16), prob_bits, words);
    states.low = PushSymbols(states.low, GatherEntries(job, pattern, symbols), prob_bits, words);
  }
  job.words = words;
  _mm512_storeu_si512(job.states, states.low);
  _mm512_storeu_si512(job.states + 16, states.high);
}

KDN_AVX512 inline void StorePlanes(__m256i bits, int count, uint8_t* planes) {
  for (int i = 0; i < count; ++i) {
    StoreLe<uint32_t>(_mm256_test_epi8_mask(bits, _mm256_set1_epi8(static_cast<char>(1 << i))), planes + 4 * i);
  }
}

KDN_AVX512 inline void StoreBytes(__m256i bytes, uint8_t* p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bytes);
}

template <DType kDType>
KDN_AVX512 void SplitSteps(const uint8_t* elements, uint32_t steps, uint8_t* exponents, uint8_t* records) {
  constexpr ElementFields kFields = FieldsOf(kDType);
  constexpr int kMantissaBits = kFields.mantissa_bits;
  for (uint32_t step = 0; step < steps; ++step) {
    const uint8_t* in = elements + static_cast<size_t>(step) * kRansLanes * kFields.bytes;
    uint8_t* record = records + static_cast<size_t>(step) * kFields.record_bytes();
    uint8_t* exponent = exponents + static_cast<size_t>(step) * kRansLanes;
    if constexpr (kFields.bytes == 4) {
      for (int half = 0; half < 2; ++half) {
        const __m512i element = _mm512_loadu_si512(in + half * 64);
        const __m512i field = _mm512_and_si512(_mm512_srli_epi32(element, kMantissaBits), _mm512_set1_epi32(0xff));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(exponent + half * 16), _mm512_cvtepi32_epi8(field));
        const __m512i mantissa_mask = _mm512_set1_epi32((1 << kMantissaBits) - 1);
        const __m512i sign = _mm512_slli_epi32(_mm512_srli_epi32(element, 31), kMantissaBits);
        const __m512i raw = _mm512_or_si512(sign, _mm512_and_si512(element, mantissa_mask));
        for (int plane = 0; plane < 3; ++plane) {
          _mm_storeu_si128(reinterpret_cast<__m128i*>(record + plane * 32 + half * 16),
                           _mm512_cvtepi32_epi8(_mm512_srli_epi32(raw, 8 * plane)));
        }
      }
    } else {
      const __m512i element = kFields.bytes == 2 ? _mm512_loadu_si512(in) : _mm512_cvtepu8_epi16(LoadBytes(in));
      const __m512i field = _mm512_and_si512(_mm512_srli_epi16(element, kMantissaBits),
                                             _mm512_set1_epi16(static_cast<short>(kFields.exponent_mask())));
      StoreBytes(_mm512_cvtepi16_epi8(field), exponent);
      const __m512i mantissa_mask = _mm512_set1_epi16(static_cast<short>(kFields.mantissa_mask()));
      const __m512i sign = _mm512_slli_epi16(_mm512_srli_epi16(element, kFields.bytes * 8 - 1), kMantissaBits);
      const __m512i raw = _mm512_or_si512(sign, _mm512_and_si512(element, mantissa_mask));
      if constexpr (kFields.byte_planes() == 1) {
        StoreBytes(_mm512_cvtepi16_epi8(raw), record);
        StorePlanes(_mm512_cvtepi16_epi8(_mm512_srli_epi16(raw, 8)), kFields.bit_planes(), record + 32);
      } else {
        StorePlanes(_mm512_cvtepi16_epi8(raw), kFields.bit_planes(), record);
      }
    }
  }
}

void Split(DType dtype, const uint8_t* elements, uint32_t steps, uint8_t* exponents, uint8_t* records) {
  ForDType(dtype, [=]<DType kDType>() { SplitSteps<kDType>(elements, steps, exponents, records); });
}

}  // namespace

// Bytes and eight shapes fill no wider vector: those two kernels are AVX2's.
const LosslessKernels* Avx512Kernels() {
  static const LosslessKernels kernels = {DecodeSteps, EncodeSteps, Split, Avx2Kernels()->symbolise,
                                          Avx2Kernels()->price};
  return &kernels;
}

}  // namespace kdn::codec_internal

#else

namespace kdn::codec_internal {
const LosslessKernels* Avx512Kernels() { return nullptr; }
}  // namespace kdn::codec_internal

#endif
