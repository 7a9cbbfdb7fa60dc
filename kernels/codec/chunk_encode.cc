#include <algorithm>
#include <cstring>

#include "kernels/base/status.h"
#include "kernels/codec/chunk_codec.h"
#include "kernels/codec/row_copy.h"
#include "kernels/codec/section_rows.h"
#include "kernels/codec/wide_section.h"

namespace kdn {
namespace {

using codec_internal::FindLayer;
using codec_internal::HoldsHead;

constexpr uint32_t kMinTileSymbols = 16384;

constexpr uint32_t kScaledTileTokens = 256;

// First chunk row present at every layer of the band; UINT32_MAX when the view lacks one of them.
uint32_t FirstRowOfBand(const LayerBand& band, const KvView& view, uint32_t view_token) {
  uint32_t first_row = 0;
  for (const uint32_t layer : band.layers) {
    const KvLayerView* held = FindLayer(view, layer);
    if (held == nullptr) return UINT32_MAX;
    first_row = std::max(first_row, codec_internal::FirstHeldRow(*held, view_token));
  }
  return first_row;
}

absl::Status CheckCellsHeld(const CellMap& cells, const ContainerHeader& header, EncodeSource source) {
  const KvView& view = *source.view;
  if (uint64_t{source.view_token} + header.num_tokens > view.num_tokens) {
    return InvalidArgument("chunk of ", header.num_tokens, " tokens at view token ", source.view_token,
                           " leaves the view of ", view.num_tokens);
  }
  if (header.cells.num_cells() != cells.num_cells()) {
    return InvalidArgument("header has ", header.cells.num_cells(), " cells, the model ", cells.num_cells());
  }
  const CellSet held = CellsOfView(cells, view, source.view_token, header.num_tokens);
  for (const uint32_t cell : header.cells.ToVector()) {
    if (!held.Contains(cell)) return InvalidArgument("view does not hold cell ", cell, ", which the header claims");
  }
  return absl::OkStatus();
}

}  // namespace

uint32_t DefaultTileTokens(const ModelSpec& spec, ProfileId profile) {
  if (profile == ProfileId::kInt8 || profile == ProfileId::kQ4 || profile == ProfileId::kTransform) {
    return kScaledTileTokens;
  }
  uint32_t narrowest = kMaxHeadDim;
  for (const LayerSpec& layer : spec.layers) {
    narrowest = std::min(narrowest, layer.k_head_dim);
    if (layer.v_head_dim != 0) narrowest = std::min(narrowest, layer.v_head_dim);
  }
  return static_cast<uint32_t>(AlignUp(CeilDiv(kMinTileSymbols, narrowest), kTileTokensMultiple));
}

RopeState StoredRopeState(ProfileId profile) {
  return profile == ProfileId::kQ4 || profile == ProfileId::kTransform ? RopeState::kUnrotated : RopeState::kRotated;
}

CellSet CellsOfView(const CellMap& cells, const KvView& view, uint32_t view_token, uint32_t num_tokens) {
  CellSet held(cells.num_cells());
  for (const LayerBand& band : cells.bands()) {
    if (FirstRowOfBand(band, view, view_token) >= num_tokens) continue;
    for (uint32_t head = 0; head < band.num_kv_heads; ++head) {
      if (HoldsHead(view, head)) held.Insert(band.first_cell + head);
    }
  }
  return held;
}

namespace {

// Whether the header claims every cell of the group. InvalidArgument when its layers lie in several bands.
absl::StatusOr<bool> ClaimsGroup(const CellMap& cells, const ContainerHeader& header, const TransformGroup& group) {
  const uint32_t first_cell = cells.CellOf(group.layer, group.head_begin);
  const uint32_t last_layer = group.layer + group.layer_count - 1;
  for (uint32_t layer = group.layer; layer <= last_layer; ++layer) {
    if (cells.CellOf(layer, group.head_begin) != first_cell) {
      return InvalidArgument("the transform object's group of layers ", group.layer, " to ", last_layer,
                             " lies in several bands of layers in chunks of ", cells.chunk_tokens(), " tokens");
    }
  }
  for (uint32_t head = 0; head < group.head_count; ++head) {
    if (!header.cells.Contains(first_cell + head)) return false;
  }
  return true;
}

// Sections of a container, layer by layer.
class SectionPlan {
 public:
  SectionPlan(const ModelSpec& spec, const CellMap& cells, const ContainerHeader& header, EncodeSource source)
      : spec_(spec), cells_(cells), header_(header), source_(source) {}

  absl::StatusOr<std::vector<SectionEntry>> Make() {
    if (source_.transform != nullptr) {
      for (const TransformGroup& group : source_.transform->object->groups()) {
        KDN_ASSIGN_OR_RETURN(const bool claimed, ClaimsGroup(cells_, header_, group));
        if (claimed) wide_.push_back(&group);
      }
    }
    for (uint32_t layer = 0; layer < spec_.layers.size(); ++layer) {
      for (const TransformGroup* group : wide_) {
        if (group->layer == layer) AddWide(*group);
      }
      AddNarrow(layer);
    }
    return std::move(sections_);
  }

 private:
  bool IsWide(uint32_t layer, uint32_t head) const {
    return std::any_of(wide_.begin(), wide_.end(), [layer, head](const TransformGroup* group) {
      return layer >= group->layer && layer - group->layer < group->layer_count && head >= group->head_begin &&
             head - group->head_begin < group->head_count;
    });
  }

  void AddWide(const TransformGroup& group) {
    SectionEntry section;
    section.layer = static_cast<uint16_t>(group.layer);
    section.layer_count = static_cast<uint8_t>(group.layer_count);
    section.kind = group.v_dim == 0 ? SectionKind::kK : SectionKind::kJointKv;
    section.wide = true;
    section.head_begin = static_cast<uint16_t>(group.head_begin);
    section.head_count = static_cast<uint16_t>(group.head_count);
    section.first_row = FirstRowOfBand(cells_.BandOfLayer(group.layer), *source_.view, source_.view_token);
    sections_.push_back(section);
  }

  void AddNarrow(uint32_t layer) {
    const LayerBand& band = cells_.BandOfLayer(layer);
    for (const SectionKind kind : {SectionKind::kK, SectionKind::kV}) {
      if (kind == SectionKind::kV && spec_.layers[layer].v_head_dim == 0) continue;
      for (uint32_t head = 0; head < band.num_kv_heads; ++head) {
        if (!header_.cells.Contains(band.first_cell + head) || IsWide(layer, head)) continue;
        SectionEntry section;
        section.layer = static_cast<uint16_t>(layer);
        section.kind = kind;
        section.head_begin = static_cast<uint16_t>(head);
        section.first_row = FirstRowOfBand(band, *source_.view, source_.view_token);
        sections_.push_back(section);
      }
    }
  }

  const ModelSpec& spec_;
  const CellMap& cells_;
  const ContainerHeader& header_;
  const EncodeSource source_;
  std::vector<const TransformGroup*> wide_;
  std::vector<SectionEntry> sections_;
};

}  // namespace

absl::StatusOr<std::vector<SectionEntry>> PlanSections(const ModelSpec& spec, const CellMap& cells,
                                                       const ContainerHeader& header, EncodeSource source) {
  KDN_RETURN_IF_ERROR(CheckCellsHeld(cells, header, source));
  return SectionPlan(spec, cells, header, source).Make();
}

SectionEncoder::SectionEncoder(const ModelSpec& spec, CodecTables tables, Isa isa)
    : spec_(spec), isa_(isa), encoder_(tables, isa) {}
SectionEncoder::~SectionEncoder() = default;

absl::Status SectionEncoder::Encode(const ContainerHeader& header, const SectionEntry& scope, EncodeSource source,
                                    ProfileId profile, EncodedSection& section) {
  const KvView& view = *source.view;
  if (view.memory == MemoryKind::kDevice) return InvalidArgument("device memory cannot be encoded on the host");
  if (profile == ProfileId::kTransform && (source.transform == nullptr || source.transform->object == nullptr)) {
    return FailedPrecondition("profile transform needs a calibration object, and none is given");
  }
  if (scope.wide) {
    if (profile != ProfileId::kTransform) {
      return InvalidArgument("wide sections are coded at transform, not ", ProfileName(profile));
    }
    if (wide_ == nullptr) wide_ = std::make_unique<codec_internal::WideSectionEncoder>(spec_, isa_);
    return wide_->Encode(header, scope, source, section);
  }
  if (profile == ProfileId::kTransform) profile = ProfileId::kQ4;  // what the object has no basis for
  const KvLayerView* layer = FindLayer(view, scope.layer);
  if (layer == nullptr || !HoldsHead(view, scope.head_begin)) {
    return InvalidArgument("view does not hold layer ", scope.layer, ", head ", scope.head_begin);
  }
  const bool is_k = scope.kind == SectionKind::kK;
  const KvKind kind = is_k ? KvKind::kK : KvKind::kV;
  const codec_internal::HeadRows head = codec_internal::RowsOfHead(spec_, view, *layer, scope.head_begin, kind);
  TileGeometry geometry = {view.dtype, 0, head.dim, scope.layer, scope.head_begin, kind};
  TileContext context;
  if (is_k && header.rope_state == RopeState::kUnrotated) {
    context.rope = ropes_.Find(spec_, scope.layer, RopeDirection::kUnrotate, header.token_begin, header.num_tokens);
  }
  section.scope = scope;
  section.tiles.clear();
  section.bytes.clear();
  for (uint32_t row = scope.first_row; row < header.num_tokens; row += geometry.tokens) {
    geometry.tokens = std::min(header.tile_tokens, header.num_tokens - row);
    const uint32_t token = source.view_token + row;
    const uint8_t* rows = codec_internal::ContiguousRows(head, token, geometry.tokens);
    if (rows == nullptr) {
      rows_.resize(geometry.raw_bytes());
      codec_internal::GatherRows(head, token, geometry.tokens, {rows_.data(), head.row_bytes()});
      rows = rows_.data();
    }
    TileEntry tile;
    tile.offset = static_cast<uint32_t>(section.bytes.size());
    context.rope_row = row;
    context.sink_rows = codec_internal::SinkRows(header.token_begin + row, geometry.tokens);
    KDN_ASSIGN_OR_RETURN(
        tile.profile, encoder_.Encode(geometry, ByteSpan(rows, geometry.raw_bytes()), profile, section.bytes, context));
    tile.length = static_cast<uint32_t>(section.bytes.size() - tile.offset);
    section.bytes.resize(AlignUp(section.bytes.size(), kContainerAlignment));
    section.tiles.push_back(tile);
  }
  return absl::OkStatus();
}

namespace {

void AddSection(const EncodedSection& section, ContainerBuilder& builder) {
  builder.BeginSection(section.scope);
  for (const TileEntry& tile : section.tiles) {
    builder.AddTile(tile.profile, ByteSpan(section.bytes).subspan(tile.offset, tile.length));
  }
}

}  // namespace

absl::StatusOr<std::vector<uint8_t>> EncodeChunk(const ModelSpec& spec, const CellMap& cells,
                                                 const ContainerHeader& header, EncodeSource source,
                                                 ProfileId profile) {
  KDN_ASSIGN_OR_RETURN(const std::vector<SectionEntry> scopes, PlanSections(spec, cells, header, source));
  ContainerHeader identity = header;
  identity.dtype = spec.dtype;
  identity.calibration.clear();
  if (profile == ProfileId::kTransform && source.transform != nullptr && source.transform->object != nullptr) {
    identity.calibration = {source.transform->object->digest(), LosslessTables::BuiltIn().digest()};
  }
  ContainerBuilder builder(identity);
  builder.ReserveBody(ViewBytes(spec, *source.view, source.view_token, header.num_tokens));
  SectionEncoder encoder(spec);
  EncodedSection section;
  for (const SectionEntry& scope : scopes) {
    KDN_RETURN_IF_ERROR(encoder.Encode(identity, scope, source, profile, section));
    AddSection(section, builder);
  }
  return std::move(builder).Finish();
}

}  // namespace kdn
