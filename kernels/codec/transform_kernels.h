#ifndef KDN_KERNELS_CODEC_TRANSFORM_KERNELS_H_
#define KDN_KERNELS_CODEC_TRANSFORM_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/codec/isa.h"
#include "kernels/codec/transform_core.h"

// The inner loops of profile transform, one set per instruction set: the entropy stage, one symbol a lane and 32 a
// step, and the products with a base's matrices. Internal to kernels/codec: transform_tile.h is the interface. Pointers
// are borrowed.

namespace kdn::codec_internal {

inline constexpr uint32_t kTransformSymbols = 64;  // of an encoding table: 0..55 are used

// Coefficients being decoded. The kernels move `states`, `words` and `escapes` forward.
struct TransformDecodeJob {
  uint32_t symbols = 0;
  const uint8_t* contexts = nullptr;  // [symbols]
  const uint32_t* table = nullptr;    // TransformDecodeTable()
  const uint8_t* words = nullptr;     // little-endian 16-bit refill words not yet read
  const uint8_t* words_end = nullptr;
  const uint8_t* escapes = nullptr;  // little-endian 16-bit numbers not yet read
  const uint8_t* escapes_end = nullptr;
  int16_t* values = nullptr;  // [symbols], in 1/32 of a step
  uint32_t states[kRansLanes] = {};
};

// Coefficients being encoded.
struct TransformEncodeJob {
  uint32_t symbols = 0;
  const uint8_t* contexts = nullptr;  // [symbols]
  const uint8_t* codes = nullptr;     // [symbols]: symbols of the contexts' tables
  const uint8_t* lows = nullptr;      // [symbols]: bypass bits
  const uint32_t* table = nullptr;    // TransformEncodeTable()
  uint16_t* words = nullptr;          // grows downward: on entry one past the end of the buffer, then the first word
  uint32_t states[kRansLanes] = {};
};

inline constexpr uint32_t kTransformBlockRows = 4;

// Up to kTransformBlockRows rows to synthesise, over channels [channel, channel + channels), both multiples of 16.
struct TransformSynthesisJob {
  const int16_t* pairs = nullptr;  // TransformBase::pairs
  const float* scales = nullptr;   // [base's channel]
  const float* means = nullptr;
  uint32_t width = 0;  // channels of the base
  uint32_t channel = 0;
  uint32_t channels = 0;
  uint32_t pair_count = 0;          // pairs of coefficients that any of the rows has
  const int16_t* values = nullptr;  // [row][value_stride], zeros behind a row's coefficients
  uint32_t value_stride = 0;
  uint32_t rows = 0;
  float steps[kTransformBlockRows] = {};
  float* out[kTransformBlockRows] = {};  // [channels] each
};

// Up to kTransformBlockRows rows to analyse into their first `coefficients`, a multiple of 16.
struct TransformAnalysisJob {
  const float* matrix = nullptr;  // TransformObject::Analysis
  uint32_t matrix_stride = 0;
  uint32_t width = 0;
  uint32_t coefficients = 0;
  const float* values = nullptr;  // [row][width], without the means
  uint32_t rows = 0;
  float* out = nullptr;  // [row][matrix_stride]
};

// The coefficients of a row on their way to symbols. Arrays are [count].
struct TransformSymbolJob {
  uint32_t count = 0;
  const int16_t* levels = nullptr;
  const uint8_t* bypass_bits = nullptr;
  const uint8_t* max_magnitudes = nullptr;
  uint8_t* codes = nullptr;
  uint8_t* lows = nullptr;
};

// Scores of queries against tokens. `stride`, a multiple of 16, and at most 64.
struct TransformAttentionJob {
  float* scores = nullptr;  // [token][stride]; overwritten
  uint32_t tokens = 0;
  uint32_t queries = 0;
  uint32_t stride = 0;
  float* importance = nullptr;  // [token]
};
inline constexpr uint32_t kMaxAttentionStride = 64;

// What quantising says of a row.
struct TransformLevels {
  bool fits = false;       // all levels are within +-kTransformMaxLevel
  uint32_t magnitude = 0;  // sum of their magnitudes
};

struct TransformKernels {
  // Decodes full steps [first, last). False when the words or escapes do not suffice.
  bool (*decode)(TransformDecodeJob& job, uint32_t first, uint32_t last);
  // Encodes full steps last - 1 down to first. The buffer has kWordSlack words below the lowest word it can reach.
  void (*encode)(TransformEncodeJob& job, uint32_t first, uint32_t last);
  void (*synthesise)(const TransformSynthesisJob& job);
  void (*analyse)(const TransformAnalysisJob& job);
  // out = values - means; whether all are finite.
  bool (*centre)(const float* values, const float* means, uint32_t count, float* out);
  // levels = coefficients * inverse_step, rounded to nearest even; those beyond what fits become 0.
  TransformLevels (*quantise)(const float* coefficients, float inverse_step, uint32_t count, int16_t* levels);
  // Whether any became an escape.
  bool (*symbolise)(const TransformSymbolJob& job);
  // Adds the softmax over the tokens to importance, summed over the queries. Scores that are not finite count as least.
  void (*attend)(const TransformAttentionJob& job);
};

// Kernels of a supported instruction set.
const TransformKernels& TransformKernelsFor(Isa isa);

// [table][slot] entries of PackDecodeEntry.
const uint32_t* TransformDecodeTable();
// [table][kTransformSymbols] entries of PackEncodeEntry.
const uint32_t* TransformEncodeTable();

// The reference. These also take a last step that is not full: `last` may be symbols / 32 rounded up.
bool DecodeTransformStepsScalar(TransformDecodeJob& job, uint32_t first, uint32_t last);
void EncodeTransformStepsScalar(TransformEncodeJob& job, uint32_t first, uint32_t last);

// Null when the build has none.
const TransformKernels* Avx2TransformKernels();
const TransformKernels* Avx512TransformKernels();

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_TRANSFORM_KERNELS_H_
