#include <algorithm>

#include "kernels/base/status.h"
#include "kernels/codec/row_kernels.h"
#include "kernels/codec/section_rows.h"
#include "kernels/codec/tile_geometry.h"
#include "kernels/codec/wide_section.h"

namespace kdn::codec_internal {
namespace {

constexpr uint32_t kBlockRows = 16;  // rows in fp32 at a time

bool HoldsSlice(const KvView& view, const TransformSlice& slice) {
  return HoldsHead(view, slice.head) && FindLayer(view, slice.layer) != nullptr;
}

}  // namespace

absl::StatusOr<const TransformGroup*> WideSectionDecoder::FindGroup(const ContainerHeader& header,
                                                                    const SectionEntry& section,
                                                                    const TransformTileHeader& tile) {
  if (tile.calibration >= header.calibration.size()) {
    return DataLoss("transform tile names calibration object ", tile.calibration, " of ", header.calibration.size());
  }
  const Digest& digest = header.calibration[tile.calibration];
  if (object_ == nullptr || object_->digest() != digest) {
    object_ = tables_.transforms == nullptr ? nullptr : tables_.transforms->Find(digest);
  }
  if (object_ == nullptr) {
    return FailedPrecondition("container is coded with the transform object ", digest.ToShortHex(),
                              ", which this decoder does not hold");
  }
  // The slices of another model's object are not those of this one's rows.
  if (object_->fingerprint() != header.fingerprint) {
    return FailedPrecondition("container names the transform object ", digest.ToShortHex(), ", which is for model ",
                              object_->fingerprint().ToShortHex(), ", not ", header.fingerprint.ToShortHex());
  }
  if (tile.group >= object_->groups().size()) {
    return DataLoss("transform tile of group ", tile.group, " of ", object_->groups().size());
  }
  const TransformGroup& group = object_->groups()[tile.group];
  if (group.layer != section.layer || group.layer_count != section.layer_count ||
      group.head_begin != section.head_begin || group.head_count != section.head_count) {
    return DataLoss("transform tile of group ", tile.group, ", which is not the section's");
  }
  return &group;
}

void WideSectionDecoder::WriteRun(const ContainerHeader& header, const DecodeTarget& target, const Run& run,
                                  const RowRange& range) {
  const KvView& view = *target.view;
  const RowKernels& kernels = RowKernelsFor(isa_);
  const uint32_t element_bytes = DTypeBytes(view.dtype);
  const size_t row_bytes = size_t{run.channels} * element_bytes;
  values_.resize(size_t{kBlockRows} * run.channels);
  elements_.resize(kBlockRows * row_bytes);
  for (uint32_t row = range.begin; row < range.end; row += kBlockRows) {
    const uint32_t rows = std::min(kBlockRows, range.end - row);
    decoder_.Rows(
        {run.base, row - range.tile_row, rows, run.first_channel, run.channels, values_.data(), run.channels});
    for (const TransformSlice& slice : run.slices) {
      if (slice.kind == KvKind::kV) continue;
      const RopeTable* rope = ropes_.Find(spec_, slice.layer, RopeDirection::kRotate,
                                          target.position.value_or(header.token_begin), header.num_tokens);
      if (rope == nullptr) continue;
      rope->Apply(isa_, row, rows, run.channels, values_.data() + (slice.channel - run.first_channel));
    }
    kernels.narrow(view.dtype, values_.data(), size_t{rows} * run.channels, elements_.data());
    for (const TransformSlice& slice : run.slices) {
      const KvLayerView& layer = *FindLayer(view, slice.layer);
      // Chunk rows that the view's layer does not hold are not written.
      const uint32_t held = target.row_begin + std::min(FirstHeldRow(layer, target.view_token), target.row_count);
      const uint32_t first = std::clamp(held, row, row + rows);
      if (first == row + rows) continue;
      const uint8_t* from =
          elements_.data() + (first - row) * row_bytes + size_t{slice.channel - run.first_channel} * element_bytes;
      ScatterRows(RowsOfHead(spec_, view, layer, slice.head, slice.kind),
                  target.view_token + (first - target.row_begin), row + rows - first, {from, row_bytes});
    }
  }
}

absl::Status WideSectionDecoder::Decode(const ContainerHeader& header, const SectionEntry& section,
                                        ByteSpan section_bytes, const DecodeTarget& target) {
  if (header.rope_state != RopeState::kUnrotated || !TransformCodes(header.dtype)) {
    return DataLoss("wide section of ", DTypeName(header.dtype), " or with rotated K");
  }
  const std::span<const TileEntry> tiles = header.TilesOf(section);
  uint32_t tokens = 0;
  size_t index = 0;
  for (uint32_t row = section.first_row; row < header.num_tokens; row += tokens, ++index) {
    tokens = std::min(header.tile_tokens, header.num_tokens - row);
    const RowRange range = {row, std::max(row, target.row_begin),
                            std::min(row + tokens, target.row_begin + target.row_count)};
    if (range.begin >= range.end) continue;
    if (tokens > kMaxTileTokens) return DataLoss("transform tile of ", tokens, " rows");
    if (tiles[index].profile != ProfileId::kTransform) {
      return DataLoss("wide section with a tile of profile ", ProfileName(tiles[index].profile));
    }
    const ByteSpan coded = section_bytes.subspan(tiles[index].offset, tiles[index].length);
    KDN_ASSIGN_OR_RETURN(const TransformTileHeader tile, ReadTransformTileHeader(coded));
    KDN_ASSIGN_OR_RETURN(const TransformGroup* group, FindGroup(header, section, tile));
    KDN_RETURN_IF_ERROR(decoder_.Open(*group, header.dtype, tokens, coded));
    for (uint32_t base = 0; base < group->bases.size(); ++base) {
      const std::vector<TransformSlice>& slices = group->bases[base].slices;
      for (size_t i = 0; i < slices.size();) {
        size_t end = i;
        Run run = {base, {}, slices[i].channel, 0};
        while (end < slices.size() && HoldsSlice(*target.view, slices[end])) run.channels += slices[end++].dim;
        run.slices = std::span(slices).subspan(i, end - i);
        if (!run.slices.empty()) WriteRun(header, target, run, range);
        i = end + (run.slices.empty() ? 1 : 0);
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace kdn::codec_internal
