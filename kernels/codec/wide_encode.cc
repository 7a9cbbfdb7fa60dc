#include <algorithm>

#include "kernels/base/status.h"
#include "kernels/codec/row_kernels.h"
#include "kernels/codec/section_rows.h"
#include "kernels/codec/wide_section.h"

namespace kdn::codec_internal {
namespace {

bool HasScope(const TransformGroup& group, const SectionEntry& scope) {
  return group.layer == scope.layer && group.layer_count == scope.layer_count && group.head_begin == scope.head_begin &&
         group.head_count == scope.head_count;
}

// What all tiles of the section share.
absl::StatusOr<TransformTileInput> MakeInput(const ContainerHeader& header, const SectionEntry& scope,
                                             const EncodeSource& source) {
  const TransformObject& object = *source.transform->object;
  const std::span<const TransformGroup> groups = object.groups();
  const auto group =
      std::find_if(groups.begin(), groups.end(), [&](const TransformGroup& g) { return HasScope(g, scope); });
  if (group == groups.end()) {
    return InvalidArgument("transform object ", object.digest().ToShortHex(), " has no group of layers [", scope.layer,
                           ", +", scope.layer_count, "), heads [", scope.head_begin, ", +", scope.head_count, ")");
  }
  const auto named = std::find(header.calibration.begin(), header.calibration.end(), object.digest());
  if (named == header.calibration.end()) {
    return InvalidArgument("the header does not name the transform object ", object.digest().ToShortHex());
  }
  TransformTileInput input;
  input.dtype = source.view->dtype;
  input.group = static_cast<uint32_t>(group - groups.begin());
  input.calibration = static_cast<uint32_t>(named - header.calibration.begin());
  input.step = source.transform->step;
  if (source.transform->row_classes.empty()) return input;
  if (input.group >= source.transform->row_classes.size()) {
    return InvalidArgument("row classes of ", source.transform->row_classes.size(), " groups, not of group ",
                           input.group);
  }
  input.row_classes = source.transform->row_classes[input.group];
  if (input.row_classes.size() < uint64_t{source.view_token} + header.num_tokens) {
    return InvalidArgument("row classes of ", input.row_classes.size(), " tokens, the chunk ends at view token ",
                           uint64_t{source.view_token} + header.num_tokens);
  }
  input.row_classes = input.row_classes.subspan(source.view_token, header.num_tokens);
  return input;
}

}  // namespace

absl::Status WideSectionEncoder::LoadBase(const TileRows& tile, const TransformBase& base, std::vector<float>& values) {
  const KvView& view = *tile.source.view;
  const uint32_t element_bytes = DTypeBytes(view.dtype);
  const size_t row_bytes = size_t{base.width} * element_bytes;
  elements_.resize(tile.rows * row_bytes);
  for (const TransformSlice& slice : base.slices) {
    const KvLayerView* layer = FindLayer(view, slice.layer);
    if (layer == nullptr || !HoldsHead(view, slice.head)) {
      return InvalidArgument("view does not hold layer ", slice.layer, ", head ", slice.head);
    }
    GatherRows(RowsOfHead(spec_, view, *layer, slice.head, slice.kind), tile.source.view_token + tile.row, tile.rows,
               {elements_.data() + size_t{slice.channel} * element_bytes, row_bytes});
  }
  values.resize(size_t{tile.rows} * base.width);
  RowKernelsFor(isa_).widen(view.dtype, elements_.data(), values.size(), values.data());
  for (const TransformSlice& slice : base.slices) {
    if (slice.kind == KvKind::kV) continue;
    const RopeTable* rope =
        ropes_.Find(spec_, slice.layer, RopeDirection::kUnrotate, tile.header.token_begin, tile.header.num_tokens);
    if (rope != nullptr) rope->Apply(isa_, tile.row, tile.rows, base.width, values.data() + slice.channel);
  }
  return absl::OkStatus();
}

absl::Status WideSectionEncoder::Encode(const ContainerHeader& header, const SectionEntry& scope,
                                        const EncodeSource& source, EncodedSection& section) {
  if (header.rope_state != RopeState::kUnrotated) {
    return InvalidArgument("profile transform stores K before its rotary embedding, the header says after it");
  }
  KDN_ASSIGN_OR_RETURN(TransformTileInput input, MakeInput(header, scope, source));
  const TransformObject& object = *source.transform->object;
  const TransformGroup& group = object.groups()[input.group];
  const std::span<const uint8_t> row_classes = input.row_classes;
  section.scope = scope;
  section.tiles.clear();
  section.bytes.clear();
  for (uint32_t row = scope.first_row; row < header.num_tokens; row += input.tokens) {
    input.tokens = std::min(header.tile_tokens, header.num_tokens - row);
    input.sink_rows = SinkRows(header.token_begin + row, input.tokens, kTransformSinkPositions);
    if (!row_classes.empty()) input.row_classes = row_classes.subspan(row, input.tokens);
    for (size_t base = 0; base < group.bases.size(); ++base) {
      KDN_RETURN_IF_ERROR(LoadBase({header, source, row, input.tokens}, group.bases[base], values_[base]));
      input.rows[base] = values_[base];
    }
    TileEntry tile;
    tile.profile = ProfileId::kTransform;
    tile.offset = static_cast<uint32_t>(section.bytes.size());
    KDN_RETURN_IF_ERROR(encoder_.Encode(object, input, section.bytes));
    tile.length = static_cast<uint32_t>(section.bytes.size() - tile.offset);
    section.bytes.resize(AlignUp(section.bytes.size(), kContainerAlignment));
    section.tiles.push_back(tile);
  }
  return absl::OkStatus();
}

}  // namespace kdn::codec_internal
