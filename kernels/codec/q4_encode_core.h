#ifndef KDN_KERNELS_CODEC_Q4_ENCODE_CORE_H_
#define KDN_KERNELS_CODEC_Q4_ENCODE_CORE_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/codec/q4_kernels.h"
#include "kernels/codec/q4_search.h"
#include "kernels/codec/row_core.h"

// Encoding of q4 rows, to be inlined into functions that carry a target attribute. Everything is one fp32 operation an
// element in a fixed order, so that vectors of any width give the same bytes.

namespace kdn::codec_internal {

// Smallest mantissa whose nearest power of 2^(1/16), on a logarithmic scale, is the next one up.
inline constexpr uint32_t kQ4ScaleMidpoints[16] = {0x02cd87, 0x08980f, 0x0ea43a, 0x14f4f0, 0x1b8d3a, 0x227044,
                                                   0x29a15b, 0x3123f6, 0x38fbb0, 0x412c4d, 0x49b9be, 0x52a81e,
                                                   0x5bfbb8, 0x65b907, 0x6fe4ba, 0x7a83b3};

inline constexpr float kQ4ZeroEnergy = 0x1p-100f;  // a block with less is coded as zeros

// One stage of a Walsh-Hadamard transform in constant geometry: after log2(n) of them the values are in natural order.
template <uint32_t kBlock>
KDN_INLINE void HadamardStage(const float* __restrict in, float* __restrict out) {
  for (uint32_t i = 0; i < kBlock / 2; ++i) {
    const float a = in[i];
    const float b = in[i + kBlock / 2];
    out[2 * i] = a + b;
    out[2 * i + 1] = a - b;
  }
}

// The sum of squares: 16 partial sums, then pairs of them.
template <uint32_t kBlock>
KDN_INLINE float EnergyOf(const float* values) {
  float sums[16] = {};
  for (uint32_t i = 0; i < kBlock; i += 16) {
    for (uint32_t lane = 0; lane < 16; ++lane) sums[lane] += values[i + lane] * values[i + lane];
  }
  for (uint32_t half = 8; half > 0; half /= 2) {
    for (uint32_t lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  }
  return sums[0];
}

// 16 * exponent + mantissa index of the scale nearest to `factor`, which is normal and positive.
KDN_INLINE int32_t NearestQ4Scale(float factor) {
  const uint32_t bits = FloatBits(factor);
  const uint32_t mantissa = bits & 0x7fffff;
  int32_t index = 0;
  for (uint32_t j = 0; j < 16; ++j) index += mantissa >= kQ4ScaleMidpoints[j];
  return (static_cast<int32_t>(bits >> 23) - 127) * 16 + index;
}

KDN_INLINE float FactorOfQ4Scale(int32_t scale) {
  return BitsFloat(static_cast<uint32_t>((scale >> 4) + 127) << 23 | kQ4ScaleMantissas[scale & 15]);
}

template <uint32_t kBlock>
KDN_INLINE void StoreZeroBlock(uint8_t* codes, int32_t& scale) {
  scale = kQ4ZeroScale;
  for (uint32_t i = 0; i < kBlock / 2; ++i) codes[i] = 0x88;
}

// Squared error of magnitudes, in sixteenths of a unit, under a candidate.
template <uint32_t kBlock>
KDN_INLINE int32_t Q4ErrorOf(const Q4Candidate& candidate, const int16_t* __restrict magnitudes) {
  int32_t error = 0;
  for (uint32_t i = 0; i < kBlock; ++i) {
    int16_t level = candidate.levels[0];
    for (uint32_t t = 0; t < 7; ++t) {
      const auto step = static_cast<int16_t>(candidate.levels[t + 1] - candidate.levels[t]);
      level = static_cast<int16_t>(level + (magnitudes[i] >= candidate.thresholds[t] ? step : 0));
    }
    const auto off = static_cast<int16_t>(magnitudes[i] - level);
    error += off * off;
  }
  return error;
}

// Rows whose blocks are transformed before the first of them is quantised: each step waits for the one before it, so
// that a processor needs several blocks at once.
inline constexpr uint32_t kQ4GroupRows = 8;

// Transform and quantisation of one block, for compilers to vectorise. The AVX-512 set has its own.
struct PlainBlocks {
  // Takes off the means, applies signs and the Hadamard transform. Returns the energy.
  template <uint32_t kBlock>
  KDN_INLINE static float Transform(const float* __restrict values, const float* __restrict means,
                                    const uint32_t* __restrict signs, float* __restrict out) {
    alignas(64) float front[kBlock];
    alignas(64) float back[kBlock];
    for (uint32_t i = 0; i < kBlock; ++i) {
      const float centred = means == nullptr ? values[i] : values[i] - means[i];
      front[i] = BitsFloat(FloatBits(centred) ^ signs[i]);
    }
    float* now = front;
    float* next = back;
    for (uint32_t n = kBlock; n > 1; n /= 2) {
      HadamardStage<kBlock>(now, next);
      std::swap(now, next);
    }
    for (uint32_t i = 0; i < kBlock; ++i) out[i] = now[i];
    return EnergyOf<kBlock>(out);
  }

  // The scales that the energies of a group's blocks suggest, and what turns values into sixteenths of a level's unit.
  // Entries of blocks that are not coded may be anything.
  template <uint32_t kBlock>
  KDN_INLINE static void Scales(const float* energies, int32_t* scales, float* to_steps) {
    for (uint32_t i = 0; i < kQ4GroupRows; ++i) {
      scales[i] = NearestQ4Scale(std::sqrt(energies[i] * (1.0f / kBlock)) * (1.0f / (kQ4UnitsPerSigma * kBlock)));
      to_steps[i] = static_cast<float>(kQ4UnitSteps) / (FactorOfQ4Scale(scales[i]) * kBlock);
    }
  }

  // Codes a transformed block; `scale` is replaced by the best one around it.
  template <uint32_t kBlock>
  KDN_INLINE static void Quantise(const float* __restrict values, float to_steps, uint8_t* __restrict codes,
                                  int32_t& scale) {
    alignas(64) int16_t magnitudes[kBlock];
    alignas(64) uint8_t symbols[kBlock];
    for (uint32_t i = 0; i < kBlock; ++i) {
      const float magnitude = BitsFloat(FloatBits(values[i] * to_steps) & 0x7fffffff);
      const float shifted = magnitude + 0.5f;
      magnitudes[i] = static_cast<int16_t>(static_cast<int32_t>(shifted));
    }
    uint32_t best = 0;
    int32_t least = INT32_MAX;
    for (uint32_t k = 0; k < kQ4ScaleOffsets; ++k) {
      const int32_t error = Q4ErrorOf<kBlock>(kQ4Candidates[k], magnitudes);
      best = error < least ? k : best;
      least = error < least ? error : least;
    }
    scale += static_cast<int32_t>(best) * kQ4ScaleOffsetStep + kQ4FirstScaleOffset;
    // Threshold by threshold: compilers make vectors of blocks, not of seven thresholds.
    alignas(64) int16_t levels[kBlock];
    for (uint32_t i = 0; i < kBlock; ++i) levels[i] = 8;
    for (const int16_t threshold : kQ4Candidates[best].thresholds) {
      for (uint32_t i = 0; i < kBlock; ++i) {
        levels[i] = static_cast<int16_t>(levels[i] + (magnitudes[i] >= threshold ? 1 : 0));
      }
    }
    for (uint32_t i = 0; i < kBlock; ++i) {
      symbols[i] = static_cast<uint8_t>(static_cast<uint32_t>(levels[i]) ^ ((0u - (FloatBits(values[i]) >> 31)) & 15));
    }
    for (uint32_t i = 0; i < kBlock / 2; ++i) {
      codes[i] = static_cast<uint8_t>(symbols[i] | symbols[i + kBlock / 2] << 4);
    }
  }
};

// Codes block `block`, from `channel` on, of up to kQ4GroupRows rows. False when one is not finite.
template <uint32_t kBlock, typename Blocks>
KDN_INLINE bool EncodeQ4Group(const Q4EncodeJob& job, uint32_t first, uint32_t count, uint32_t block,
                              uint32_t channel) {
  alignas(64) float transformed[kQ4GroupRows][kBlock];
  float energies[kQ4GroupRows] = {};
  int32_t scales[kQ4GroupRows];
  float to_steps[kQ4GroupRows];
  const float* means = job.means == nullptr ? nullptr : job.means + channel;
  for (uint32_t i = 0; i < count; ++i) {
    const float* values = job.values + size_t{first + i} * job.dim + channel;
    energies[i] = Blocks::template Transform<kBlock>(values, means, job.signs + channel, transformed[i]);
  }
  for (uint32_t i = 0; i < count; ++i) {
    if (!(energies[i] < HUGE_VALF)) return false;
  }
  Blocks::template Scales<kBlock>(energies, scales, to_steps);
  for (uint32_t i = 0; i < count; ++i) {
    uint8_t* codes = job.codes + (size_t{first + i} * job.dim + channel) / 2;
    int32_t& scale = job.scales[size_t{first + i} * job.blocks + block];
    if (energies[i] < kQ4ZeroEnergy) {
      StoreZeroBlock<kBlock>(codes, scale);
    } else {
      scale = scales[i];
      Blocks::template Quantise<kBlock>(transformed[i], to_steps[i], codes, scale);
    }
  }
  return true;
}

template <typename Blocks>
KDN_INLINE bool EncodeQ4Rows(const Q4EncodeJob& job) {
  for (uint32_t first = 0; first < job.rows; first += kQ4GroupRows) {
    const uint32_t count = job.rows - first < kQ4GroupRows ? job.rows - first : kQ4GroupRows;
    for (uint32_t block = 0, channel = 0; block < job.blocks; ++block) {
      const uint32_t size = Q4BlockAt(job.dim, channel);
      bool ok = false;
      switch (size) {
        case 16:
          ok = EncodeQ4Group<16, Blocks>(job, first, count, block, channel);
          break;
        case 32:
          ok = EncodeQ4Group<32, Blocks>(job, first, count, block, channel);
          break;
        case 64:
          ok = EncodeQ4Group<64, Blocks>(job, first, count, block, channel);
          break;
        case 128:
          ok = EncodeQ4Group<128, Blocks>(job, first, count, block, channel);
          break;
        default:
          ok = EncodeQ4Group<256, Blocks>(job, first, count, block, channel);
      }
      if (!ok) return false;
      channel += size;
    }
  }
  return true;
}

KDN_INLINE void SumRowsCore(const float* __restrict values, uint32_t rows, uint32_t dim, float* __restrict sums) {
  for (uint32_t channel = 0; channel < dim; ++channel) sums[channel] = 0;
  for (uint32_t row = 0; row < rows; ++row) {
    for (uint32_t channel = 0; channel < dim; ++channel) sums[channel] += values[size_t{row} * dim + channel];
  }
}

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_Q4_ENCODE_CORE_H_
