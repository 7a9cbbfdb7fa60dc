#include "kernels/codec/int8_choice.h"

#include "kernels/codec/rans_core.h"

namespace kdn::codec_internal {
namespace {

// What the final states may hold of the coded bits: 16 bits a lane that are in no refill word.
constexpr size_t kStateBytes = 2 * kRansLanes;
// A symbol that is not its channel's most likely one has a probability of at most 1/2. Seven eighths of a bit leave
// room for what integer states round.
constexpr size_t kPairsPer7Bytes = 64;

// A 16-bit sum of up to kMaxTileDim comparisons: compilers then count in vectors.
uint16_t DifferingExponents(const uint8_t* row, const uint8_t* next, uint32_t dim, uint16_t exponent_bits) {
  uint16_t differing = 0;
  for (uint32_t channel = 0; channel < dim; ++channel) {
    const uint16_t changed = LoadLe<uint16_t>(row + 2 * channel) ^ LoadLe<uint16_t>(next + 2 * channel);
    differing = static_cast<uint16_t>(differing + ((changed & exponent_bits) != 0 ? 1 : 0));
  }
  return differing;
}

}  // namespace

bool LosslessIsLarger(const TileGeometry& geometry, ByteSpan rows, size_t lossless_fixed_bytes, size_t int8_bytes) {
  if (int8_bytes < lossless_fixed_bytes) return true;
  const size_t needed_bytes = int8_bytes - lossless_fixed_bytes + kStateBytes + 1;
  const size_t needed_pairs = needed_bytes * kPairsPer7Bytes / 7 + 1;
  const ElementFields fields = FieldsOf(geometry.dtype);
  const auto exponent_bits = static_cast<uint16_t>(fields.exponent_mask() << fields.mantissa_bits);
  const size_t row_bytes = size_t{2} * geometry.dim;
  // Of two elements of a channel with different exponents, one at least is not the most likely.
  size_t pairs = 0;
  for (uint32_t token = 0; token + 1 < geometry.tokens && pairs < needed_pairs; token += 2) {
    const uint8_t* row = rows.data() + token * row_bytes;
    pairs += DifferingExponents(row, row + row_bytes, geometry.dim, exponent_bits);
  }
  return pairs >= needed_pairs;
}

}  // namespace kdn::codec_internal
