#ifndef KDN_KERNELS_CODEC_TRANSFORM_CORE_H_
#define KDN_KERNELS_CODEC_TRANSFORM_CORE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/base/host_device.h"
#include "kernels/codec/float_core.h"
#include "kernels/codec/q4_core.h"
#include "kernels/codec/rans_core.h"

// The arithmetic of profile transform (TILE_FORMATS.md), one source for host and device: entropy contexts and their
// tables, values of symbols, steps, synthesis of a channel.

namespace kdn {

inline constexpr uint32_t kTransformHeaderBytes = 16;
inline constexpr uint32_t kTransformStatesOffset = kTransformHeaderBytes;
inline constexpr uint32_t kTransformWordsOffset = kTransformStatesOffset + 4 * kRansLanes;
inline constexpr uint32_t kTransformProbBits = 12;
inline constexpr uint32_t kTransformSlots = uint32_t{1} << kTransformProbBits;
inline constexpr int32_t kTransformMaxStep = 1024;    // |D|, in sixteenths of an octave
inline constexpr uint32_t kTransformMaxWidth = 4096;  // channels of a base
inline constexpr uint32_t kTransformClasses = 9;      // of rows: 0..8, each half an octave finer than the one before
inline constexpr uint32_t kTransformRawRow = 9;       // the class symbol of a row that is stored as elements
inline constexpr uint32_t kTransformClassSymbols = 10;
inline constexpr int32_t kTransformClassStep = 8;   // sixteenths of an octave between classes
inline constexpr uint32_t kTransformContexts = 48;  // t of a coefficient
inline constexpr uint32_t kTransformTables = 16;
inline constexpr uint32_t kTransformMaxMagnitude = 27;  // coded without an escape, in the widest table
inline constexpr int32_t kTransformMaxLevel = 1023;     // |q| beyond is clamped
inline constexpr int32_t kTransformValueUnits = 32;     // a value is in 1/32 of a step

// One entropy table: the frequency of the escape, then of magnitudes 0, 1, ...; a sign does not change a frequency.
struct TransformTable {
  uint16_t escape;
  uint8_t max_magnitude;
  uint16_t magnitudes[kTransformMaxMagnitude + 1];
};

// Table t is for sigma / step = 0.5 * 2^(t / 4): masses of [h - 0.5, h + 0.5] under a generalised Gaussian of
// shape 1.4, in 4096ths. TransformTablesTest computes them anew.
inline constexpr TransformTable kTransformTableOf[kTransformTables] = {
    {1, 2, {2945, 559, 16}},
    {2, 3, {2646, 682, 41, 1}},
    {1, 3, {2349, 783, 85, 5}},
    {2, 4, {2064, 852, 146, 16, 1}},
    {1, 5, {1797, 885, 219, 39, 5, 1}},
    {1, 5, {1553, 884, 294, 75, 15, 3}},
    {1, 6, {1337, 853, 358, 122, 35, 9, 2}},
    {1, 8, {1143, 802, 404, 173, 65, 22, 7, 2, 1}},
    {1, 9, {975, 737, 430, 220, 102, 44, 17, 7, 2, 1}},
    {2, 10, {830, 665, 435, 257, 141, 72, 35, 16, 7, 3, 1}},
    {1, 12, {703, 591, 423, 280, 175, 103, 59, 32, 17, 9, 4, 2, 1}},
    {1, 14, {595, 519, 400, 289, 199, 132, 85, 52, 32, 19, 11, 6, 3, 2, 1}},
    {4, 17, {504, 452, 368, 285, 213, 154, 109, 75, 50, 33, 21, 14, 8, 5, 3, 2, 1, 1}},
    {4, 20, {426, 391, 332, 272, 216, 168, 128, 95, 70, 50, 36, 25, 17, 12, 8, 5, 3, 2, 1, 1, 1}},
    {5, 23, {359, 336, 296, 253, 211, 173, 139, 111, 87, 67, 51, 39, 29, 21, 16, 11, 8, 6, 4, 3, 2, 1, 1, 1}},
    {3, 27, {303, 287, 260, 230, 200, 171, 144, 120, 99, 81, 66, 53, 42, 33,
             26,  20,  16,  12,  9,   7,   5,   4,   3,  2,  2,  1,  1,  1}},
};

// What is taken off magnitudes 1, 2, and 3 or more (bytes 1, 2, 3) at contexts below 16, in 1/32 of a step: from the
// bin's middle to its mean.
struct TransformShiftTable {
  uint32_t words[kTransformTables];
};
KDN_HD constexpr TransformShiftTable MakeTransformShifts() {
  return {{0x0a090700, 0x08080600, 0x07060500, 0x06050400, 0x05040300, 0x04030300, 0x03030200, 0x03020200, 0x02020100,
           0x02010100, 0x01010100, 0x01010100, 0x01010000, 0x01000000, 0x01000000, 0x00000000}};
}
inline constexpr TransformShiftTable kTransformShiftTable = MakeTransformShifts();
inline constexpr const uint32_t (&kTransformShifts)[kTransformTables] = kTransformShiftTable.words;

// An entry of the array above: device code cannot refer to a host's array.
KDN_HD constexpr uint32_t TransformShifts(uint32_t context) {
  constexpr TransformShiftTable kTable = MakeTransformShifts();
  return kTable.words[context];
}

// Frequencies of the row classes 0..8 and of the raw row, in 4096ths.
inline constexpr uint16_t kTransformClassFrequencies[kTransformClassSymbols] = {2047, 492, 451, 369, 287,
                                                                                205,  123, 61,  53,  8};

// The step exponent of a row of class c, in sixteenths of an octave.
KDN_HD constexpr int32_t TransformStepExponent(int32_t step, uint32_t row_class) {
  return step - kTransformClassStep * static_cast<int32_t>(row_class);
}

// 2^(exponent / 16).
KDN_HD inline float TransformStep(int32_t exponent) {
  const auto biased = static_cast<uint32_t>(127 + (exponent >> 4));
  return BitsFloat(biased << 23 | Q4ScaleMantissa(static_cast<uint32_t>(exponent) & 15));
}

// The context t of a coefficient whose sigma is 2^(quarters / 4) under a step of 2^(exponent / 16); negative for one
// that is zero and not coded.
KDN_HD constexpr int32_t TransformContext(int32_t quarters, int32_t exponent) {
  const int32_t context = (4 * quarters - exponent + 18) >> 2;
  return context < static_cast<int32_t>(kTransformContexts) ? context : static_cast<int32_t>(kTransformContexts) - 1;
}

KDN_HD constexpr uint32_t TransformTableIndex(uint32_t context) {
  return context < kTransformTables ? context : 12 + (context & 3);
}

// Low bits of a coefficient that bypass the tables, at most 8.
KDN_HD constexpr uint32_t TransformBypassBits(uint32_t context) {
  return context < kTransformTables ? 0 : (context - 12) >> 2;
}

// Symbols of a table: 0 is the escape, s the number whose zigzag code is s - 1.
KDN_HD constexpr int32_t TransformSymbolNumber(uint32_t symbol) {
  const uint32_t zigzag = symbol - 1;
  return static_cast<int32_t>(zigzag >> 1) ^ -static_cast<int32_t>(zigzag & 1);
}
KDN_HD constexpr uint32_t TransformNumberSymbol(int32_t number) {
  return ((static_cast<uint32_t>(number) << 1) ^ static_cast<uint32_t>(number >> 31)) + 1;
}
KDN_HD constexpr uint32_t TransformMagnitude(int32_t number) {
  return static_cast<uint32_t>(number < 0 ? -number : number);
}

// The value, in 1/32 of a step, of number `number` with bypass bits `low` in context `context`.
KDN_HD constexpr int32_t TransformValue(uint32_t context, int32_t number, uint32_t low) {
  if (context < kTransformTables) {
    int32_t magnitude = number < 0 ? -number : number;
    magnitude = magnitude < kTransformMaxLevel ? magnitude : kTransformMaxLevel;
    const int32_t byte = magnitude < 3 ? magnitude : 3;
    const auto shift = static_cast<int32_t>((TransformShifts(context) >> (8 * byte)) & 0xff);
    const int32_t value = kTransformValueUnits * magnitude - shift;
    return number < 0 ? -value : value;
  }
  int32_t level = number * (1 << TransformBypassBits(context)) + static_cast<int32_t>(low);
  level = level < -kTransformMaxLevel ? -kTransformMaxLevel : level;
  level = level > kTransformMaxLevel ? kTransformMaxLevel : level;
  return kTransformValueUnits * level;
}

// Bypass bits: taken from a state after its symbol, and put under it before its symbol.
KDN_HD constexpr uint32_t RansBypass(uint32_t state, uint32_t bits) { return state & ((uint32_t{1} << bits) - 1); }
KDN_HD constexpr bool RansMustSpillBypass(uint32_t state, uint32_t bits) { return state >> (32 - bits) != 0; }

// One channel of a row: its int32 sum of matrix x values, under the row's step and the channel's scale. Three
// operations that each round.
KDN_HD inline float TransformChannel(int32_t sum, float step, float scale, float mean) {
  const float factor = step * scale;
  const float product = static_cast<float>(sum) * factor;
  return product + mean;
}

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_TRANSFORM_CORE_H_
