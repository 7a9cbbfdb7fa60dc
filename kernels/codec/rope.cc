#include "kernels/codec/rope.h"

#include <algorithm>
#include <cmath>

#include "kernels/codec/row_kernels.h"

namespace kdn {
namespace {

// Angles are evaluated at every kAnchorRows-th position and at the offsets between; the rest follows by the addition
// theorem in fp64, whose error of a few units of 2^-53 is far below fp32's rounding.
constexpr uint32_t kAnchorRows = 16;

struct CosSin {
  double cosine;
  double sine;
};

CosSin At(double angle) { return {std::cos(angle), std::sin(angle)}; }

}  // namespace

RopeTable::RopeTable(const RopeSpec& spec, RopeDirection direction, uint64_t position, uint32_t rows)
    : style_(spec.style),
      direction_(direction),
      offset_(spec.rotary_offset),
      pairs_(spec.style == RopeStyle::kNone ? 0 : spec.rotary_dim / 2),
      rows_(rows),
      position_(position),
      cos_sin_(size_t{rows} * 2 * pairs_) {
  const double amplitude = direction == RopeDirection::kRotate ? double{spec.amplitude} : 1.0 / double{spec.amplitude};
  const double turn = direction == RopeDirection::kRotate ? 1.0 : -1.0;
  for (uint32_t pair = 0; pair < pairs_; ++pair) {
    const double frequency = double{spec.inv_freq[pair]};
    CosSin steps[kAnchorRows];
    for (uint32_t i = 0; i < kAnchorRows; ++i) steps[i] = At(i * frequency);
    for (uint32_t anchor_row = 0; anchor_row < rows; anchor_row += kAnchorRows) {
      const CosSin anchor = At(static_cast<double>(position + anchor_row) * frequency);
      const uint32_t count = std::min(kAnchorRows, rows - anchor_row);
      float* out = cos_sin_.data() + size_t{anchor_row} * 2 * pairs_ + pair;
      for (uint32_t i = 0; i < count; ++i, out += 2 * pairs_) {
        const double cosine = anchor.cosine * steps[i].cosine - anchor.sine * steps[i].sine;
        const double sine = anchor.sine * steps[i].cosine + anchor.cosine * steps[i].sine;
        out[0] = static_cast<float>(cosine * amplitude);
        out[pairs_] = static_cast<float>(sine * amplitude * turn);
      }
    }
  }
}

void RopeTable::Apply(Isa isa, uint32_t first_row, uint32_t count, uint32_t dim, float* values) const {
  if (style_ == RopeStyle::kNone) return;
  const codec_internal::RotateJob job = {values, cos_sin_.data() + size_t{first_row} * 2 * pairs_, count, dim, offset_,
                                         pairs_};
  const codec_internal::RowKernels& kernels = codec_internal::RowKernelsFor(isa);
  style_ == RopeStyle::kHalfSplit ? kernels.rotate_half_split(job) : kernels.rotate_interleaved(job);
}

const RopeTable* RopeTableCache::Find(const ModelSpec& spec, uint32_t layer, RopeDirection direction, uint64_t position,
                                      uint32_t rows) {
  const uint32_t index = spec.layers[layer].rope_index;
  if (spec.ropes[index].style == RopeStyle::kNone) return nullptr;
  tables_.resize(spec.ropes.size());
  RopeTable& table = tables_[index];
  if (table.position() != position || table.rows() < rows || table.direction() != direction) {
    table = RopeTable(spec.ropes[index], direction, position, rows);
  }
  return &table;
}

}  // namespace kdn
