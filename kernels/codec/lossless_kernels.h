#ifndef KDN_KERNELS_CODEC_LOSSLESS_KERNELS_H_
#define KDN_KERNELS_CODEC_LOSSLESS_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/codec/isa.h"
#include "kernels/codec/rans_core.h"
#include "kernels/layout/dtype.h"

// The inner loops of the lossless profile, one set per instruction set, behind one table of functions. Internal to
// kernels/codec: tile_codec.h is the interface. A step is 32 consecutive elements of the tile, one a lane; the last
// step of a tile may be half full, and only the scalar functions take it.

namespace kdn::codec_internal {

// Words a kernel may touch before and after the coded ones.
inline constexpr size_t kWordSlack = 64;

// Longest channel pattern: two rows of kMaxTileDim channels, when one row is no whole number of steps.
inline constexpr uint32_t kMaxPatternEntries = 2048;

// A tile being decoded. Pointers are borrowed; the kernels move `states`, `words` and `escapes` forward.
struct DecodeJob {
  ElementFields fields;
  DType dtype = DType::kBf16;
  uint32_t elements = 0;
  uint32_t prob_bits = 0;
  uint32_t pattern_steps = 0;         // steps after which the channel pattern repeats
  const uint32_t* pattern = nullptr;  // [pattern_steps * 32]: offset << 16 | first slot of the shape's table
  const uint32_t* table = nullptr;    // LosslessTables::DecodeTable
  const uint8_t* raw = nullptr;       // a record of fields.record_bytes() a step
  const uint8_t* words = nullptr;     // little-endian 16-bit refill words not yet read
  const uint8_t* words_end = nullptr;
  const uint8_t* escapes = nullptr;  // exponents not yet read
  const uint8_t* escapes_end = nullptr;
  uint8_t* out = nullptr;  // element 0 of the tile
  uint32_t states[kRansLanes] = {};
};

// A tile being encoded, after its exponents became symbols.
struct EncodeJob {
  uint32_t elements = 0;
  uint32_t prob_bits = 0;
  uint32_t pattern_steps = 0;
  const uint32_t* pattern = nullptr;  // [pattern_steps * 32]: offset << 16 | first symbol of the shape's table
  const uint32_t* table = nullptr;    // LosslessTables::EncodeTable
  const uint8_t* symbols = nullptr;   // [elements]
  uint16_t* words = nullptr;          // grows downward: on entry one past the end of the buffer, then the first word
  uint32_t states[kRansLanes] = {};
};

// Exponents of a tile on their way to symbols.
struct SymbolJob {
  uint32_t elements = 0;
  uint32_t pattern_steps = 0;
  const uint8_t* offsets = nullptr;  // [pattern_steps * 32]
  uint8_t* symbols = nullptr;        // [elements]: exponents on entry, symbols then
  uint8_t* escapes = nullptr;        // room for `elements`; moves behind what is written
};

inline constexpr uint32_t kCostShapes = 8;  // shapes whose cost is computed at once

struct LosslessKernels {
  // Decodes full steps [first, last). False when the words or escapes do not suffice: the output is then unspecified.
  bool (*decode)(DecodeJob& job, uint32_t first, uint32_t last);
  // Encodes full steps last - 1 down to first. The buffer has kWordSlack words below the lowest word it can reach.
  void (*encode)(EncodeJob& job, uint32_t first, uint32_t last);
  // Splits `steps` full steps of `elements` into exponents (one byte each) and raw records.
  void (*split)(DType dtype, const uint8_t* elements, uint32_t steps, uint8_t* exponents, uint8_t* records);
  // Turns the exponents of full steps [0, steps) into symbols and appends the escaped ones, in order.
  void (*symbolise)(SymbolJob& job, uint32_t steps);
  // totals[shape] = sum over symbols of counts[symbol] * costs[symbol * kCostShapes + shape], modulo 2^32.
  void (*price)(const uint32_t* counts, const uint32_t* costs, uint32_t* totals);
};

// Kernels of a supported instruction set.
const LosslessKernels& KernelsFor(Isa isa);

// The reference. These also take half steps: `last` may be elements / 32 rounded up.
bool DecodeStepsScalar(DecodeJob& job, uint32_t first, uint32_t last);
void EncodeStepsScalar(EncodeJob& job, uint32_t first, uint32_t last);
// Splits elements [0, count): for count not divisible by 32 the last record's absent lanes become zero.
void SplitElements(DType dtype, const uint8_t* elements, uint32_t count, uint8_t* exponents, uint8_t* records);

// Turns the exponents of elements [begin, end) into symbols.
void SymboliseElements(SymbolJob& job, uint32_t begin, uint32_t end);

// Null when the build has none.
const LosslessKernels* Avx2Kernels();
const LosslessKernels* Avx512Kernels();

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_LOSSLESS_KERNELS_H_
