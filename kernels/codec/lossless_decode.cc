#include <algorithm>
#include <span>

#include "kernels/base/status.h"
#include "kernels/codec/lossless_channels.h"
#include "kernels/codec/lossless_tile.h"

namespace kdn {

using codec_internal::DecodeJob;

LosslessTileLayout::LosslessTileLayout(const TileGeometry& geometry, const LosslessTables& tables) {
  steps = static_cast<uint32_t>(CeilDiv(geometry.elements(), kRansLanes));
  channels_bytes = tables.channel_source() == ChannelSource::kTile ? geometry.dim : 0;
  raw_offset = kChannelsOffset + channels_bytes;
  raw_bytes = steps * FieldsOf(geometry.dtype).record_bytes();
  words_offset = raw_offset + raw_bytes;
}

namespace {

absl::Status CheckFinished(const DecodeJob& job) {
  if (job.words != job.words_end || job.escapes != job.escapes_end) {
    return DataLoss("lossless tile: ", job.words_end - job.words, " bytes of words and ", job.escapes_end - job.escapes,
                    " escapes are left over");
  }
  for (uint32_t lane = 0; lane < kRansLanes; ++lane) {
    if (job.states[lane] != kRansLowerBound) return DataLoss("lossless tile: lane ", lane, " ends in a wrong state");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckLosslessTile(const LosslessTables& tables, const TileGeometry& geometry, ByteSpan coded) {
  const LosslessTileLayout layout(geometry, tables);
  if (coded.size() < layout.words_offset) {
    return DataLoss("lossless tile: ", coded.size(), " bytes, at least ", layout.words_offset, " expected");
  }
  const uint32_t word_count = LoadLe<uint32_t>(coded.data()) >> 8;
  const uint64_t words_bytes = uint64_t{2} * word_count;
  const uint64_t tail_bytes = coded.size() - layout.words_offset;
  if (words_bytes > tail_bytes || tail_bytes - words_bytes > geometry.elements()) {
    return DataLoss("lossless tile: ", word_count, " words in ", tail_bytes, " bytes");
  }
  for (uint32_t lane = 0; lane < kRansLanes; ++lane) {
    if (LoadLe<uint32_t>(coded.data() + LosslessTileLayout::kStatesOffset + 4 * lane) < kRansLowerBound) {
      return DataLoss("lossless tile: lane ", lane, " starts in a wrong state");
    }
  }
  for (uint32_t i = 0; i < layout.channels_bytes; ++i) {
    const uint32_t shape = UnpackChannel(coded[LosslessTileLayout::kChannelsOffset + i], coded[0]).shape;
    if (shape >= tables.shapes_per_set()) return DataLoss("lossless tile: channel ", i, " uses shape ", shape);
  }
  return tables.SetOf(geometry.layer, geometry.kind).status();
}

absl::Status LosslessTileDecoder::Decode(const LosslessTables& tables, const TileGeometry& geometry, ByteSpan coded,
                                         MutableByteSpan rows) {
  KDN_RETURN_IF_ERROR(CheckLosslessTile(tables, geometry, coded));
  const LosslessTileLayout layout(geometry, tables);
  KDN_ASSIGN_OR_RETURN(const uint32_t set, tables.SetOf(geometry.layer, geometry.kind));

  DecodeJob job;
  job.fields = FieldsOf(geometry.dtype);
  job.dtype = geometry.dtype;
  job.elements = geometry.elements();
  job.prob_bits = tables.prob_bits();
  job.pattern_steps = codec_internal::PatternSteps(geometry.dim);
  job.pattern = pattern_.data();
  job.table = tables.DecodeTable(set);
  job.raw = coded.data() + layout.raw_offset;
  job.words = coded.data() + layout.words_offset;
  job.words_end = job.words + size_t{2} * (LoadLe<uint32_t>(coded.data()) >> 8);
  job.escapes = job.words_end;
  job.escapes_end = coded.data() + coded.size();
  job.out = rows.data();
  for (uint32_t lane = 0; lane < kRansLanes; ++lane) {
    job.states[lane] = LoadLe<uint32_t>(coded.data() + LosslessTileLayout::kStatesOffset + 4 * lane);
  }
  if (tables.channel_source() == ChannelSource::kObject) {
    KDN_ASSIGN_OR_RETURN(const auto channels, codec_internal::ObjectChannels(tables, geometry));
    codec_internal::FillPattern(channels, uint32_t{1} << tables.prob_bits(), pattern_);
  } else {
    std::array<ChannelClass, kMaxTileDim> channels;
    for (uint32_t i = 0; i < geometry.dim; ++i) {
      channels[i] = UnpackChannel(coded[LosslessTileLayout::kChannelsOffset + i], coded[0]);
    }
    codec_internal::FillPattern(std::span(channels).first(geometry.dim), uint32_t{1} << tables.prob_bits(), pattern_);
  }

  const uint32_t full_steps = geometry.elements() / kRansLanes;
  if (!codec_internal::KernelsFor(isa_).decode(job, 0, full_steps) ||
      !codec_internal::DecodeStepsScalar(job, full_steps, layout.steps)) {
    return DataLoss("lossless tile: words or escapes end early");
  }
  return CheckFinished(job);
}

}  // namespace kdn
