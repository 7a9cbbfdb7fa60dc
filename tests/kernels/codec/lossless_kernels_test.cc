// The SIMD encoders divide in single precision and correct: here against every frequency at the states where a wrong
// rounding would show.
#include "kernels/codec/lossless_kernels.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <vector>

namespace kdn::codec_internal {
namespace {

// A state that frequency `frequency` can push without spilling, or spills first: multiples and their neighbours, the
// bound and its neighbours, anything.
uint32_t InterestingState(uint32_t frequency, uint32_t prob_bits, std::mt19937_64& random) {
  const uint64_t bound = static_cast<uint64_t>(frequency) << (32 - prob_bits);
  uint64_t state = random();
  switch (random() % 4) {
    case 0:
      state = bound - 2 + random() % 4;
      break;
    case 1:
      state = (random() % (uint64_t{1} << (32 - prob_bits))) * frequency - 1 + random() % 3;
      break;
    case 2:
      state = 0xffffffff - random() % 3;
      break;
    default:
      break;
  }
  return std::max(static_cast<uint32_t>(state), kRansLowerBound);
}

struct Encoded {
  std::array<uint32_t, kRansLanes> states;
  std::vector<uint16_t> words;

  friend bool operator==(const Encoded&, const Encoded&) = default;
};

Encoded EncodeOneStep(const LosslessKernels& kernels, const EncodeJob& prepared) {
  std::vector<uint16_t> buffer(kRansLanes + 2 * kWordSlack);
  EncodeJob job = prepared;
  uint16_t* const end = buffer.data() + kWordSlack + kRansLanes;
  job.words = end;
  kernels.encode(job, 0, 1);
  Encoded encoded;
  std::copy(std::begin(job.states), std::end(job.states), encoded.states.begin());
  encoded.words.assign(job.words, end);
  return encoded;
}

TEST(LosslessKernelsTest, EncodersAgreeOnEveryFrequency) {
  std::mt19937_64 random(9);
  const std::array<uint32_t, kRansLanes> pattern = {};
  std::array<uint32_t, kRansSymbols> table;
  std::array<uint8_t, kRansLanes> symbols;
  for (uint32_t prob_bits = kRansMinProbBits; prob_bits <= kRansMaxProbBits; ++prob_bits) {
    const uint32_t largest = (uint32_t{1} << prob_bits) - (kRansSymbols - 1);
    for (uint32_t first = 1; first <= largest; first += kRansSymbols) {
      for (uint32_t i = 0; i < kRansSymbols; ++i) {
        table[i] = PackEncodeEntry(std::min(first + i, largest), static_cast<uint32_t>(random() % (1u << prob_bits)));
      }
      for (int round = 0; round < 20; ++round) {
        EncodeJob job;
        job.elements = kRansLanes;
        job.prob_bits = prob_bits;
        job.pattern_steps = 1;
        job.pattern = pattern.data();
        job.table = table.data();
        job.symbols = symbols.data();
        for (uint32_t lane = 0; lane < kRansLanes; ++lane) {
          symbols[lane] = static_cast<uint8_t>(random() % kRansSymbols);
          job.states[lane] = InterestingState(EncodeEntryFrequency(table[symbols[lane]]), prob_bits, random);
        }
        const Encoded reference = EncodeOneStep(KernelsFor(Isa::kScalar), job);
        for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
          if (!IsaSupported(isa)) continue;
          ASSERT_EQ(EncodeOneStep(KernelsFor(isa), job), reference)
              << IsaName(isa) << ", " << prob_bits << " bits, frequencies from " << first;
        }
      }
    }
  }
}

}  // namespace
}  // namespace kdn::codec_internal
