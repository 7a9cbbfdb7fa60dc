#ifndef KDN_KERNELS_CODEC_ROPE_H_
#define KDN_KERNELS_CODEC_ROPE_H_

#include <cstdint>
#include <vector>

#include "kernels/codec/isa.h"
#include "kernels/layout/model_spec.h"

// The rotary embedding of K rows: tables of cosines and sines for a range of positions, and the rotation of fp32 rows
// by them. All instruction sets give the same bits.

namespace kdn {

enum class RopeDirection : uint8_t {
  kRotate = 0,    // as the engine does: by position * inv_freq, times the amplitude
  kUnrotate = 1,  // its inverse
};

// Cosines and sines of `rows` consecutive positions, computed in fp64 and rounded once to fp32, the amplitude included
// (divided by, in the inverse). Immutable.
class RopeTable {
 public:
  RopeTable() = default;
  // `spec` keeps the rules of ValidateModelSpec. With RopeStyle::kNone rotating does nothing.
  RopeTable(const RopeSpec& spec, RopeDirection direction, uint64_t position, uint32_t rows);

  uint64_t position() const { return position_; }  // of row 0
  uint32_t rows() const { return rows_; }
  RopeDirection direction() const { return direction_; }
  RopeStyle style() const { return style_; }
  uint32_t offset() const { return offset_; }  // first channel that rotates
  uint32_t pairs() const { return pairs_; }
  const float* cos_sin() const { return cos_sin_.data(); }  // [row][pairs cosines, then pairs sines]
  float cosine(uint32_t row, uint32_t pair) const { return cos_sin_[size_t{row} * 2 * pairs_ + pair]; }
  float sine(uint32_t row, uint32_t pair) const { return cos_sin_[size_t{row} * 2 * pairs_ + pairs_ + pair]; }

  // Rotates `count` rows [row][dim] in place, of which the first takes the table's row `first_row`. Requires
  // first_row + count <= rows() and the rotary channels inside dim. Channels that do not rotate are left alone.
  void Apply(Isa isa, uint32_t first_row, uint32_t count, uint32_t dim, float* values) const;

 private:
  RopeStyle style_ = RopeStyle::kNone;
  RopeDirection direction_ = RopeDirection::kRotate;
  uint32_t offset_ = 0;
  uint32_t pairs_ = 0;
  uint32_t rows_ = 0;
  uint64_t position_ = 0;
  std::vector<float> cos_sin_;  // [row][cos, sin][pair]
};

// The tables that one coder needs at a time, one for each of a model's ropes: kept while chunk and direction stay.
// Not thread-safe.
class RopeTableCache {
 public:
  // The table of `layer`'s rope, null with RopeStyle::kNone. Valid until the next call.
  const RopeTable* Find(const ModelSpec& spec, uint32_t layer, RopeDirection direction, uint64_t position,
                        uint32_t rows);

 private:
  std::vector<RopeTable> tables_;  // by rope index
};

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_ROPE_H_
