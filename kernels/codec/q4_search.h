#ifndef KDN_KERNELS_CODEC_Q4_SEARCH_H_
#define KDN_KERNELS_CODEC_Q4_SEARCH_H_

#include <array>
#include <cstdint>

#include "kernels/codec/q4_core.h"

// Which scale codes a block best. The encoder quantises with each of a few scales around the one that the block's
// energy suggests and keeps the one with the least squared error. All of it is in integers: magnitudes in sixteenths of
// a level unit, against thresholds and levels multiplied by the scale instead of magnitudes divided by it.

namespace kdn::codec_internal {

inline constexpr int32_t kQ4UnitSteps = 16;         // magnitudes are in units / kQ4UnitSteps
inline constexpr int32_t kQ4FirstScaleOffset = -4;  // offsets -4, -2, 0, 2 in sixteenths of an octave
inline constexpr int32_t kQ4ScaleOffsetStep = 2;
inline constexpr uint32_t kQ4ScaleOffsets = 4;
inline constexpr uint32_t kQ4Cells = 32;
inline constexpr uint32_t kQ4CellShift = 6;  // a cell is 64 sixteenths wide: less than any level's width

// Quantisation of magnitudes under one candidate.
struct Q4Candidate {
  int16_t thresholds[7];  // between the eight magnitudes
  int16_t levels[8];
  // The same by cells, the last of which is open: a magnitude in cell c has level index below[c], or one more from
  // cell_threshold[c] on.
  alignas(64) int16_t cell_threshold[kQ4Cells];
  alignas(64) int16_t below[kQ4Cells];
  alignas(64) int16_t low[kQ4Cells];   // levels[below]
  alignas(64) int16_t high[kQ4Cells];  // the level above it
};

// Of values >= 0.
constexpr int16_t RoundHalfUp(double value) {
  const double shifted = value + 0.5;
  return static_cast<int16_t>(shifted);
}

constexpr std::array<Q4Candidate, kQ4ScaleOffsets> MakeQ4Candidates() {
  // 2^(-4 / 16), 2^(-2 / 16), 1, 2^(2 / 16).
  constexpr double kFactors[kQ4ScaleOffsets] = {0.84089641525371454, 0.91700404320467122, 1.0, 1.0905077326652577};
  std::array<Q4Candidate, kQ4ScaleOffsets> candidates = {};
  for (uint32_t k = 0; k < kQ4ScaleOffsets; ++k) {
    Q4Candidate& candidate = candidates[k];
    for (uint32_t i = 0; i < 8; ++i) {
      candidate.levels[i] = RoundHalfUp(kQ4Levels[8 + i] * kQ4UnitSteps * kFactors[k]);
    }
    for (uint32_t i = 0; i < 7; ++i) {
      const double middle = (kQ4Levels[8 + i] + kQ4Levels[9 + i]) / 2.0;
      candidate.thresholds[i] = RoundHalfUp(middle * kQ4UnitSteps * kFactors[k]);
    }
    for (uint32_t cell = 0; cell < kQ4Cells; ++cell) {
      uint32_t below = 0;
      while (below < 7 && candidate.thresholds[below] <= static_cast<int16_t>(cell << kQ4CellShift)) ++below;
      const bool splits = below < 7 && (cell + 1 == kQ4Cells ||
                                        candidate.thresholds[below] < static_cast<int16_t>((cell + 1) << kQ4CellShift));
      candidate.cell_threshold[cell] = splits ? candidate.thresholds[below] : INT16_MAX;
      candidate.below[cell] = static_cast<int16_t>(below);
      candidate.low[cell] = candidate.levels[below];
      candidate.high[cell] = candidate.levels[below < 7 ? below + 1 : 7];
    }
  }
  return candidates;
}

inline constexpr std::array<Q4Candidate, kQ4ScaleOffsets> kQ4Candidates = MakeQ4Candidates();

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_Q4_SEARCH_H_
