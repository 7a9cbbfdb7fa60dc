#include <algorithm>
#include <cstring>
#include <span>

#include "kernels/base/status.h"
#include "kernels/codec/lossless_channels.h"
#include "kernels/codec/lossless_tile.h"

namespace kdn {
namespace {

using codec_internal::EncodeJob;
using codec_internal::kWordSlack;
using codec_internal::kZeroDistance;
using codec_internal::kZeroOffset;

constexpr uint32_t kExponents = 256;
// Offsets tried lie at most this far above the channel's most frequent exponent.
constexpr uint32_t kMaxOffsetAboveMode = 5;

struct ChannelChoice {
  uint32_t cost = 0;  // 1/256 bit
  ChannelClass channel;
};

// Cheapest shape for a channel whose symbol 0 is exponent `offset`; the lowest index wins a tie.
ChannelChoice ChooseShape(const uint16_t* histogram, uint32_t tokens, uint32_t offset, const uint32_t* costs) {
  constexpr uint32_t kShapes = LosslessTables::kMaxShapesInTile;
  uint32_t total[kShapes] = {};
  uint32_t covered = 0;
  for (uint32_t symbol = 0; symbol < kRansEscape && symbol <= offset; ++symbol) {
    const uint32_t count = histogram[offset - symbol];
    covered += count;
    for (uint32_t shape = 0; shape < kShapes; ++shape) total[shape] += count * costs[symbol * kShapes + shape];
  }
  for (uint32_t shape = 0; shape < kShapes; ++shape) {
    total[shape] += (tokens - covered) * costs[kRansEscape * kShapes + shape];
  }
  const uint32_t* best = std::min_element(total, total + kShapes);
  return {*best, {static_cast<uint8_t>(offset), static_cast<uint8_t>(best - total)}};
}

// Cheapest (offset, shape) for a channel, the lowest offset and shape on a tie.
ChannelChoice ChooseChannel(const uint16_t* histogram, uint32_t tokens, const uint32_t* costs) {
  const auto mode = static_cast<uint32_t>(std::max_element(histogram, histogram + kExponents) - histogram);
  ChannelChoice best = ChooseShape(histogram, tokens, mode, costs);
  for (uint32_t above = 1; above <= kMaxOffsetAboveMode && mode + above < kExponents; ++above) {
    const ChannelChoice choice = ChooseShape(histogram, tokens, mode + above, costs);
    if (choice.cost < best.cost) best = choice;
  }
  return best;
}

}  // namespace

void LosslessTileEncoder::ChooseChannels(const LosslessTables& tables, uint32_t set, const TileGeometry& geometry) {
  const uint32_t dim = geometry.dim;
  histogram_.assign(static_cast<size_t>(dim) * kExponents, 0);
  for (uint32_t token = 0; token < geometry.tokens; ++token) {
    const uint8_t* exponents = symbols_.data() + static_cast<size_t>(token) * dim;
    for (uint32_t channel = 0; channel < dim; ++channel) {
      ++histogram_[static_cast<size_t>(channel) * kExponents + exponents[channel]];
    }
  }
  const uint32_t* costs = tables.CostTable(set);
  channels_.resize(dim);
  base_ = 0;
  for (uint32_t channel = 0; channel < dim; ++channel) {
    const uint16_t* histogram = histogram_.data() + static_cast<size_t>(channel) * kExponents;
    channels_[channel] = ChooseChannel(histogram, geometry.tokens, costs).channel;
    base_ = std::max(base_, channels_[channel].offset);
  }
  channel_bytes_.resize(dim);
  for (uint32_t channel = 0; channel < dim; ++channel) {
    uint32_t distance = base_ - channels_[channel].offset;
    if (distance >= kZeroDistance) {
      const uint16_t* histogram = histogram_.data() + static_cast<size_t>(channel) * kExponents;
      const ChannelChoice lowest = ChooseShape(histogram, geometry.tokens, base_ - (kZeroDistance - 1), costs);
      const ChannelChoice zero = ChooseShape(histogram, geometry.tokens, kZeroOffset, costs);
      distance = zero.cost <= lowest.cost ? kZeroDistance : kZeroDistance - 1;
      channels_[channel] = zero.cost <= lowest.cost ? zero.channel : lowest.channel;
    }
    channel_bytes_[channel] = static_cast<uint8_t>((distance << 3) | channels_[channel].shape);
  }
}

void LosslessTileEncoder::BuildSymbols(const TileGeometry& geometry) {
  escapes_.clear();
  const uint32_t dim = geometry.dim;
  for (uint32_t token = 0; token < geometry.tokens; ++token) {
    uint8_t* row = symbols_.data() + static_cast<size_t>(token) * dim;
    uint8_t escaped = 0;
    for (uint32_t channel = 0; channel < dim; ++channel) {
      const auto symbol = static_cast<uint8_t>(channels_[channel].offset - row[channel]);
      escaped |= static_cast<uint8_t>(symbol >= kRansEscape);
    }
    for (uint32_t channel = 0; channel < dim && escaped != 0; ++channel) {
      const auto symbol = static_cast<uint8_t>(channels_[channel].offset - row[channel]);
      if (symbol >= kRansEscape) escapes_.push_back(row[channel]);
    }
    for (uint32_t channel = 0; channel < dim; ++channel) {
      const auto symbol = static_cast<uint8_t>(channels_[channel].offset - row[channel]);
      row[channel] = std::min<uint8_t>(symbol, kRansEscape);
    }
  }
}

absl::StatusOr<bool> LosslessTileEncoder::Encode(const LosslessTables& tables, const TileGeometry& geometry,
                                                 ByteSpan rows, size_t max_bytes, Isa isa, std::vector<uint8_t>& out) {
  KDN_ASSIGN_OR_RETURN(const uint32_t set, tables.SetOf(geometry.layer, geometry.kind));
  const LosslessTileLayout layout(geometry, tables);
  const auto& kernels = codec_internal::KernelsFor(isa);
  const uint32_t elements = geometry.elements();
  const uint32_t full_steps = elements / kRansLanes;
  const uint32_t split_elements = full_steps * kRansLanes;
  const ElementFields fields = FieldsOf(geometry.dtype);

  symbols_.resize(elements);
  records_.resize(layout.raw_bytes);
  kernels.split(geometry.dtype, rows.data(), full_steps, symbols_.data(), records_.data());
  codec_internal::SplitElements(geometry.dtype, rows.data() + static_cast<size_t>(split_elements) * fields.bytes,
                                elements - split_elements, symbols_.data() + split_elements,
                                records_.data() + static_cast<size_t>(full_steps) * fields.record_bytes());
  if (tables.channel_source() == ChannelSource::kObject) {
    KDN_ASSIGN_OR_RETURN(const auto channels, codec_internal::ObjectChannels(tables, geometry));
    channels_.assign(channels.begin(), channels.end());
    channel_bytes_.clear();
    base_ = 0;
  } else {
    ChooseChannels(tables, set, geometry);
  }
  BuildSymbols(geometry);
  codec_internal::FillPattern(channels_, kRansSymbols, pattern_);

  words_.resize(elements + 2 * kWordSlack);
  EncodeJob job;
  job.elements = elements;
  job.prob_bits = tables.prob_bits();
  job.pattern_steps = codec_internal::PatternSteps(geometry.dim);
  job.pattern = pattern_.data();
  job.table = tables.EncodeTable(set);
  job.symbols = symbols_.data();
  uint16_t* const words_end = words_.data() + kWordSlack + elements;
  job.words = words_end;
  std::fill(std::begin(job.states), std::end(job.states), kRansLowerBound);
  codec_internal::EncodeStepsScalar(job, full_steps, layout.steps);
  kernels.encode(job, 0, full_steps);

  const auto word_count = static_cast<uint32_t>(words_end - job.words);
  const size_t size = layout.words_offset + size_t{2} * word_count + escapes_.size();
  if (size >= max_bytes) return false;
  const size_t at = out.size();
  out.resize(at + size);
  uint8_t* tile = out.data() + at;
  StoreLe<uint32_t>(base_ | (word_count << 8), tile);
  for (uint32_t lane = 0; lane < kRansLanes; ++lane) {
    StoreLe(job.states[lane], tile + LosslessTileLayout::kStatesOffset + 4 * lane);
  }
  std::copy(channel_bytes_.begin(), channel_bytes_.end(), tile + LosslessTileLayout::kChannelsOffset);
  std::copy(records_.begin(), records_.end(), tile + layout.raw_offset);
  uint8_t* word = tile + layout.words_offset;
  for (uint32_t i = 0; i < word_count; ++i) StoreLe<uint16_t>(job.words[i], word + size_t{2} * i);
  std::copy(escapes_.begin(), escapes_.end(), word + size_t{2} * word_count);
  return true;
}

}  // namespace kdn
