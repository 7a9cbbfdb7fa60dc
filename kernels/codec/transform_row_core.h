#ifndef KDN_KERNELS_CODEC_TRANSFORM_ROW_CORE_H_
#define KDN_KERNELS_CODEC_TRANSFORM_ROW_CORE_H_

#include <cstdint>

#include "kernels/codec/row_core.h"
#include "kernels/codec/transform_kernels.h"

// Loops behind transform_kernels.h that compilers turn into vectors, to be inlined into functions that carry a target
// attribute. No result depends on how they do that.

namespace kdn::codec_internal {

KDN_INLINE bool CentreCore(const float* __restrict values, const float* __restrict means, uint32_t count,
                           float* __restrict out) {
  uint32_t largest = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const float centred = values[i] - means[i];
    const uint32_t magnitude = FloatBits(centred) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
    out[i] = centred;
  }
  return largest < 0x7f800000;
}

KDN_INLINE TransformLevels QuantiseCore(const float* __restrict coefficients, float inverse_step, uint32_t count,
                                        int16_t* __restrict levels) {
  constexpr float kFirstBeyond = static_cast<float>(kTransformMaxLevel) + 0.5f;
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to nearest even
  uint32_t beyond = 0;
  uint32_t magnitude = 0;
  for (uint32_t j = 0; j < count; ++j) {
    const float level = coefficients[j] * inverse_step;
    const bool fits = (FloatBits(level) & 0x7fffffff) < __builtin_bit_cast(uint32_t, kFirstBeyond);
    const float kept = fits ? level : 0.0f;
    const auto rounded = static_cast<int32_t>((kept + kRounder) - kRounder);
    beyond |= fits ? 0 : 1;
    magnitude += static_cast<uint32_t>(rounded < 0 ? -rounded : rounded);
    levels[j] = static_cast<int16_t>(rounded);
  }
  return {beyond == 0, magnitude};
}

KDN_INLINE bool SymboliseCore(const TransformSymbolJob& job) {
  const int16_t* __restrict levels = job.levels;
  const uint8_t* __restrict bypass_bits = job.bypass_bits;
  const uint8_t* __restrict max_magnitudes = job.max_magnitudes;
  uint8_t* __restrict codes = job.codes;
  uint8_t* __restrict lows = job.lows;
  uint32_t escaped = 0;
  for (uint32_t j = 0; j < job.count; ++j) {
    const int32_t level = levels[j];
    const int32_t bits = bypass_bits[j];
    const int32_t number = level >> bits;
    const int32_t magnitude = number < 0 ? -number : number;
    const bool coded = magnitude <= max_magnitudes[j];
    const auto code = static_cast<uint32_t>((number << 1) ^ (number >> 31)) + 1;
    escaped |= coded ? 0 : 1;
    codes[j] = static_cast<uint8_t>(coded ? code : 0);
    lows[j] = static_cast<uint8_t>(level - number * (1 << bits));
  }
  return escaped != 0;
}

// e^x for x <= 0, to 2e-7 of it; 2^-126 where that is more.
KDN_INLINE float ExpCore(float x) {
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23
  constexpr float kLeastLog2 = -126.0f;
  float y = x * 1.44269504f;
  y = y > kLeastLog2 ? y : kLeastLog2;
  const float whole = (y + kRounder) - kRounder;
  const float f = (y - whole) * 0.69314718f;
  float power = 1.0f / 720;
  power = power * f + 1.0f / 120;
  power = power * f + 1.0f / 24;
  power = power * f + 1.0f / 6;
  power = power * f + 0.5f;
  power = power * f + 1.0f;
  power = power * f + 1.0f;
  const auto exponent = static_cast<uint32_t>(static_cast<int32_t>(whole) + 127);
  return power * BitsFloat(exponent << 23);
}

KDN_INLINE void AttendCore(const TransformAttentionJob& job) {
  constexpr float kLargest = 1e38f;
  constexpr uint32_t kLanes = 16;
  float largest[kMaxAttentionStride];
  float sums[kMaxAttentionStride];
  const uint32_t stride = job.stride;
  for (uint32_t q = 0; q < stride; ++q) {
    largest[q] = -kLargest;
    sums[q] = 0.0f;
  }
  for (uint32_t token = 0; token < job.tokens; ++token) {
    float* __restrict scores = job.scores + size_t{token} * stride;
    for (uint32_t q = 0; q < stride; ++q) {
      float score = scores[q] > -kLargest ? scores[q] : -kLargest;
      score = score < kLargest ? score : -kLargest;
      largest[q] = score > largest[q] ? score : largest[q];
      scores[q] = score;
    }
  }
  for (uint32_t token = 0; token < job.tokens; ++token) {
    float* __restrict scores = job.scores + size_t{token} * stride;
    for (uint32_t q = 0; q < stride; ++q) {
      scores[q] = ExpCore(scores[q] - largest[q]);
      sums[q] += scores[q];
    }
  }
  for (uint32_t q = 0; q < stride; ++q) sums[q] = q < job.queries ? 1.0f / sums[q] : 0.0f;
  for (uint32_t token = 0; token < job.tokens; ++token) {
    const float* __restrict scores = job.scores + size_t{token} * stride;
    float lanes[kLanes] = {};
    for (uint32_t q = 0; q < stride; q += kLanes) {
      for (uint32_t lane = 0; lane < kLanes; ++lane) lanes[lane] += scores[q + lane] * sums[q + lane];
    }
    for (uint32_t half = kLanes / 2; half > 0; half /= 2) {
      for (uint32_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    }
    job.importance[token] += lanes[0];
  }
}

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_TRANSFORM_ROW_CORE_H_
