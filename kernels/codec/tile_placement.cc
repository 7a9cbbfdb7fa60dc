#include "kernels/codec/tile_placement.h"

#include <algorithm>

#include "kernels/base/status.h"
#include "kernels/codec/section_rows.h"

namespace kdn {
namespace {

bool HoldsKind(const SectionEntry& section, KvKind kind) {
  return section.kind == SectionKind::kJointKv ||
         section.kind == (kind == KvKind::kK ? SectionKind::kK : SectionKind::kV);
}

// One layer, head and kind of a section, and where its tiles start among the section's.
struct Plane {
  const KvLayerView* layer = nullptr;
  uint32_t head = 0;
  KvKind kind = KvKind::kK;
  uint32_t first_tile = 0;
};

class Placer {
 public:
  Placer(const ModelSpec& spec, const ContainerHeader& header, const SectionEntry& section, const DecodeTarget& target,
         std::vector<TilePlacement>& placements)
      : spec_(spec), header_(header), section_(section), target_(target), placements_(placements) {}

  void Place(const Plane& plane) {
    const KvView& view = *target_.view;
    TilePlacement placed;
    placed.out = codec_internal::RowsOfHead(spec_, view, *plane.layer, plane.head, plane.kind);
    placed.geometry = {
        view.dtype, 0, placed.out.dim, static_cast<uint16_t>(plane.layer->layer), static_cast<uint16_t>(plane.head),
        plane.kind};
    // Chunk rows to write: those asked for that the view's layer holds.
    const uint32_t absent = codec_internal::FirstHeldRow(*plane.layer, target_.view_token);
    const uint32_t begin = target_.row_begin + std::min(absent, target_.row_count);
    const uint32_t end = target_.row_begin + target_.row_count;
    uint32_t tile_index = plane.first_tile;
    for (uint32_t row = section_.first_row; row < header_.num_tokens; row += placed.geometry.tokens, ++tile_index) {
      placed.geometry.tokens = std::min(header_.tile_tokens, header_.num_tokens - row);
      const uint32_t first = std::max(row, begin);
      const uint32_t last = std::min(row + placed.geometry.tokens, end);
      if (first >= last) continue;
      placed.tile = &header_.TilesOf(section_)[tile_index];
      placed.tile_row = row;
      placed.row_begin = first - row;
      placed.row_count = last - first;
      placed.token = target_.view_token + (first - target_.row_begin);
      placements_.push_back(placed);
    }
  }

 private:
  const ModelSpec& spec_;
  const ContainerHeader& header_;
  const SectionEntry& section_;
  const DecodeTarget& target_;
  std::vector<TilePlacement>& placements_;
};

}  // namespace

absl::Status CheckDecodeTarget(const ContainerHeader& header, const SectionEntry& section, const DecodeTarget& target) {
  if (target.view->dtype != header.dtype) {
    return InvalidArgument("view holds ", DTypeName(target.view->dtype), ", the container ", DTypeName(header.dtype));
  }
  if (uint64_t{target.row_begin} + target.row_count > header.num_tokens ||
      uint64_t{target.view_token} + target.row_count > target.view->num_tokens) {
    return InvalidArgument("rows [", target.row_begin, ", +", target.row_count, ") to view token ", target.view_token,
                           ": the chunk has ", header.num_tokens, ", the view ", target.view->num_tokens);
  }
  if (HoldsKind(section, KvKind::kK) && header.rope_state == RopeState::kRotated &&
      target.position.value_or(header.token_begin) != header.token_begin) {
    return Unimplemented("K of this container is rotated for position ", header.token_begin, ", not ",
                         *target.position);
  }
  return absl::OkStatus();
}

void PlaceTiles(const ModelSpec& spec, const ContainerHeader& header, const SectionEntry& section,
                const DecodeTarget& target, std::vector<TilePlacement>& placements) {
  placements.clear();
  Placer placer(spec, header, section, target, placements);
  const auto row_groups = static_cast<uint32_t>(CeilDiv(header.num_tokens - section.first_row, header.tile_tokens));
  uint32_t first_tile = 0;
  for (uint32_t layer = section.layer; layer < uint32_t{section.layer} + section.layer_count; ++layer) {
    const KvLayerView* held = codec_internal::FindLayer(*target.view, layer);
    for (uint32_t head = section.head_begin; head < uint32_t{section.head_begin} + section.head_count; ++head) {
      for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
        if (!HoldsKind(section, kind)) continue;
        if (held != nullptr && codec_internal::HoldsHead(*target.view, head)) {
          placer.Place({held, head, kind, first_tile});
        }
        first_tile += row_groups;
      }
    }
  }
}

}  // namespace kdn
