#include <algorithm>
#include <bit>
#include <cstring>
#include <span>

#include "kernels/base/status.h"
#include "kernels/codec/lossless_channels.h"
#include "kernels/codec/lossless_tile.h"

namespace kdn {
namespace {

using codec_internal::EncodeJob;
using codec_internal::kWordSlack;
using codec_internal::LosslessKernels;
using codec_internal::SymbolJob;

static_assert(codec_internal::kCostShapes == LosslessTables::kMaxShapesInTile);

constexpr uint32_t kExponents = 256;
// Offsets tried lie at most this far above the channel's most frequent exponent.
constexpr uint32_t kMaxOffsetAboveMode = 5;

struct ChannelChoice {
  uint32_t cost = 0;  // 1/256 bit
  ChannelClass channel;
};

// The exponents of one channel: counts[e] for e in [lowest, highest], none elsewhere.
struct ChannelCounts {
  const uint16_t* counts = nullptr;
  uint32_t lowest = 0;
  uint32_t highest = 0;
  uint32_t tokens = 0;
};

// Cheapest shape for a channel whose symbol 0 is exponent `offset`; the lowest index wins a tie.
ChannelChoice ChooseShape(const ChannelCounts& channel, uint32_t offset, const uint32_t* costs,
                          const LosslessKernels& kernels) {
  uint32_t counts[kRansSymbols] = {};
  uint32_t covered = 0;
  for (uint32_t symbol = 0; symbol < kRansEscape && offset >= channel.lowest + symbol; ++symbol) {
    if (offset - symbol > channel.highest) continue;
    counts[symbol] = channel.counts[offset - symbol];
    covered += counts[symbol];
  }
  counts[kRansEscape] = channel.tokens - covered;
  uint32_t totals[codec_internal::kCostShapes];
  kernels.price(counts, costs, totals);
  const uint32_t* best = std::min_element(std::begin(totals), std::end(totals));
  return {*best, {static_cast<uint8_t>(offset), static_cast<uint8_t>(best - totals)}};
}

// Cheapest (offset, shape) for a channel, the lowest offset and shape on a tie.
ChannelChoice ChooseChannel(const ChannelCounts& channel, const uint32_t* costs, const LosslessKernels& kernels) {
  const uint16_t* first = channel.counts + channel.lowest;
  const auto mode =
      static_cast<uint32_t>(std::max_element(first, channel.counts + channel.highest + 1) - channel.counts);
  ChannelChoice best = ChooseShape(channel, mode, costs, kernels);
  for (uint32_t above = 1; above <= kMaxOffsetAboveMode && mode + above < kExponents; ++above) {
    const ChannelChoice choice = ChooseShape(channel, mode + above, costs, kernels);
    if (choice.cost < best.cost) best = choice;
  }
  return best;
}

void StoreWords(const uint16_t* words, size_t count, uint8_t* out) {
  if constexpr (std::endian::native == std::endian::little) {
    std::memcpy(out, words, 2 * count);
  } else {
    for (size_t i = 0; i < count; ++i) StoreLe<uint16_t>(words[i], out + 2 * i);
  }
}

}  // namespace

void LosslessTileEncoder::Split(const TileGeometry& geometry, ByteSpan rows) {
  const ElementFields fields = FieldsOf(geometry.dtype);
  const uint32_t elements = geometry.elements();
  const uint32_t full_steps = elements / kRansLanes;
  const uint32_t full = full_steps * kRansLanes;
  symbols_.resize(elements);
  records_.resize(CeilDiv(elements, kRansLanes) * fields.record_bytes());
  codec_internal::KernelsFor(isa_).split(geometry.dtype, rows.data(), full_steps, symbols_.data(), records_.data());
  codec_internal::SplitElements(geometry.dtype, rows.data() + static_cast<size_t>(full) * fields.bytes, elements - full,
                                symbols_.data() + full,
                                records_.data() + static_cast<size_t>(full_steps) * fields.record_bytes());
}

void LosslessTileEncoder::CountExponents(const TileGeometry& geometry) {
  const uint32_t dim = geometry.dim;
  uint8_t lowest = 0xff;
  uint8_t highest = 0;
  for (const uint8_t exponent : symbols_) {
    lowest = std::min(lowest, exponent);
    highest = std::max(highest, exponent);
  }
  lowest_ = lowest;
  highest_ = highest;
  histogram_.resize(static_cast<size_t>(dim) * kExponents);
  for (uint32_t channel = 0; channel < dim; ++channel) {
    uint16_t* counts = histogram_.data() + static_cast<size_t>(channel) * kExponents;
    std::fill(counts + lowest_, counts + highest_ + 1, uint16_t{0});
  }
  for (uint32_t token = 0; token < geometry.tokens; ++token) {
    const uint8_t* exponents = symbols_.data() + static_cast<size_t>(token) * dim;
    for (uint32_t channel = 0; channel < dim; ++channel) {
      ++histogram_[static_cast<size_t>(channel) * kExponents + exponents[channel]];
    }
  }
}

void LosslessTileEncoder::ChooseChannels(const uint32_t* costs, const TileGeometry& geometry) {
  const LosslessKernels& kernels = codec_internal::KernelsFor(isa_);
  const uint32_t dim = geometry.dim;
  const auto counts_of = [&](uint32_t channel) {
    return ChannelCounts{histogram_.data() + static_cast<size_t>(channel) * kExponents, lowest_, highest_,
                         geometry.tokens};
  };
  channels_.resize(dim);
  base_ = 0;
  for (uint32_t channel = 0; channel < dim; ++channel) {
    channels_[channel] = ChooseChannel(counts_of(channel), costs, kernels).channel;
    base_ = std::max(base_, channels_[channel].offset);
  }
  channel_bytes_.resize(dim);
  for (uint32_t channel = 0; channel < dim; ++channel) {
    uint32_t distance = base_ - channels_[channel].offset;
    if (distance >= kZeroDistance) {
      const ChannelChoice lowest = ChooseShape(counts_of(channel), base_ - (kZeroDistance - 1), costs, kernels);
      const ChannelChoice zero = ChooseShape(counts_of(channel), kZeroOffset, costs, kernels);
      distance = zero.cost <= lowest.cost ? kZeroDistance : kZeroDistance - 1;
      channels_[channel] = zero.cost <= lowest.cost ? zero.channel : lowest.channel;
    }
    channel_bytes_[channel] = static_cast<uint8_t>((distance << 3) | channels_[channel].shape);
  }
}

void LosslessTileEncoder::BuildSymbols(const TileGeometry& geometry) {
  codec_internal::FillPattern(channels_, kRansSymbols, pattern_);
  SymbolJob job;
  job.elements = geometry.elements();
  job.pattern_steps = codec_internal::PatternSteps(geometry.dim);
  for (uint32_t i = 0; i < job.pattern_steps * kRansLanes; ++i) offsets_[i] = static_cast<uint8_t>(pattern_[i] >> 16);
  job.offsets = offsets_.data();
  job.symbols = symbols_.data();
  escapes_.resize(job.elements);
  job.escapes = escapes_.data();
  const uint32_t full_steps = job.elements / kRansLanes;
  codec_internal::KernelsFor(isa_).symbolise(job, full_steps);
  codec_internal::SymboliseElements(job, full_steps * kRansLanes, job.elements);
  escape_count_ = static_cast<size_t>(job.escapes - escapes_.data());
}

absl::StatusOr<bool> LosslessTileEncoder::Encode(const LosslessTables& tables, const TileGeometry& geometry,
                                                 ByteSpan rows, size_t max_bytes, std::vector<uint8_t>& out) {
  KDN_ASSIGN_OR_RETURN(const uint32_t set, tables.SetOf(geometry.layer, geometry.kind));
  const LosslessTileLayout layout(geometry, tables);
  Split(geometry, rows);
  if (tables.channel_source() == ChannelSource::kObject) {
    KDN_ASSIGN_OR_RETURN(const auto channels, codec_internal::ObjectChannels(tables, geometry));
    channels_.assign(channels.begin(), channels.end());
    channel_bytes_.clear();
    base_ = 0;
  } else {
    CountExponents(geometry);
    ChooseChannels(tables.CostTable(set), geometry);
  }
  BuildSymbols(geometry);

  const uint32_t elements = geometry.elements();
  const uint32_t full_steps = elements / kRansLanes;
  words_.resize(elements + 2 * kWordSlack);
  EncodeJob job;
  job.elements = elements;
  job.prob_bits = tables.prob_bits();
  job.pattern_steps = codec_internal::PatternSteps(geometry.dim);
  job.pattern = pattern_.data();
  job.table = tables.EncodeTable(set);
  job.symbols = symbols_.data();
  const uint16_t* const words_end = words_.data() + kWordSlack + elements;
  job.words = words_.data() + kWordSlack + elements;
  std::fill(std::begin(job.states), std::end(job.states), kRansLowerBound);
  codec_internal::EncodeStepsScalar(job, full_steps, layout.steps);
  codec_internal::KernelsFor(isa_).encode(job, 0, full_steps);

  const auto word_count = static_cast<uint32_t>(words_end - job.words);
  const size_t size = layout.words_offset + size_t{2} * word_count + escape_count_;
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
  StoreWords(job.words, word_count, tile + layout.words_offset);
  std::copy_n(escapes_.begin(), escape_count_, tile + layout.words_offset + size_t{2} * word_count);
  return true;
}

}  // namespace kdn
