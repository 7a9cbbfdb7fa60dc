#include <algorithm>
#include <cstring>

#include "kernels/base/status.h"
#include "kernels/codec/chunk_codec.h"
#include "kernels/codec/row_copy.h"

namespace kdn {
namespace {

constexpr uint32_t kMinTileSymbols = 16384;

// Rows of a tile that starts at `position` and holds attention sinks: tokens at the start of a sequence that many heads
// attend to whatever they hold, and whose K and V are unlike all others.
constexpr uint64_t kSinkPositions = 4;

uint32_t SinkRows(uint64_t position, uint32_t rows) {
  return position < kSinkPositions ? std::min(static_cast<uint32_t>(kSinkPositions - position), rows) : 0;
}
constexpr uint32_t kScaledTileTokens = 256;

const KvLayerView* FindLayer(const KvView& view, uint32_t layer) {
  const auto at = std::lower_bound(view.layers.begin(), view.layers.end(), layer,
                                   [](const KvLayerView& held, uint32_t wanted) { return held.layer < wanted; });
  return at == view.layers.end() || at->layer != layer ? nullptr : &*at;
}

bool HoldsHead(const KvView& view, uint32_t head) {
  return head >= view.head_begin && head - view.head_begin < view.head_count;
}

// First chunk row present at every layer of the band; UINT32_MAX when the view lacks one of them.
uint32_t FirstRowOfBand(const LayerBand& band, const KvView& view, uint32_t view_token) {
  uint32_t first_row = 0;
  for (const uint32_t layer : band.layers) {
    const KvLayerView* held = FindLayer(view, layer);
    if (held == nullptr) return UINT32_MAX;
    first_row = std::max(first_row, held->first_row > view_token ? held->first_row - view_token : 0);
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
  if (profile == ProfileId::kInt8 || profile == ProfileId::kQ4) return kScaledTileTokens;
  uint32_t narrowest = kMaxHeadDim;
  for (const LayerSpec& layer : spec.layers) {
    narrowest = std::min(narrowest, layer.k_head_dim);
    if (layer.v_head_dim != 0) narrowest = std::min(narrowest, layer.v_head_dim);
  }
  return static_cast<uint32_t>(AlignUp(CeilDiv(kMinTileSymbols, narrowest), kTileTokensMultiple));
}

RopeState StoredRopeState(ProfileId profile) {
  return profile == ProfileId::kQ4 ? RopeState::kUnrotated : RopeState::kRotated;
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

absl::StatusOr<std::vector<SectionEntry>> PlanSections(const ModelSpec& spec, const CellMap& cells,
                                                       const ContainerHeader& header, EncodeSource source) {
  KDN_RETURN_IF_ERROR(CheckCellsHeld(cells, header, source));
  std::vector<SectionEntry> sections;
  for (uint32_t layer = 0; layer < spec.layers.size(); ++layer) {
    const LayerBand& band = cells.BandOfLayer(layer);
    for (const SectionKind kind : {SectionKind::kK, SectionKind::kV}) {
      if (kind == SectionKind::kV && spec.layers[layer].v_head_dim == 0) continue;
      for (uint32_t head = 0; head < band.num_kv_heads; ++head) {
        if (!header.cells.Contains(band.first_cell + head)) continue;
        SectionEntry section;
        section.layer = static_cast<uint16_t>(layer);
        section.kind = kind;
        section.head_begin = static_cast<uint16_t>(head);
        section.first_row = FirstRowOfBand(band, *source.view, source.view_token);
        sections.push_back(section);
      }
    }
  }
  return sections;
}

absl::Status SectionEncoder::Encode(const ContainerHeader& header, const SectionEntry& scope, EncodeSource source,
                                    ProfileId profile, EncodedSection& section) {
  const KvView& view = *source.view;
  if (scope.wide) return Unimplemented("this build does not encode wide sections");
  if (view.memory == MemoryKind::kDevice) return InvalidArgument("device memory cannot be encoded on the host");
  const KvLayerView* layer = FindLayer(view, scope.layer);
  if (layer == nullptr || !HoldsHead(view, scope.head_begin)) {
    return InvalidArgument("view does not hold layer ", scope.layer, ", head ", scope.head_begin);
  }
  const bool is_k = scope.kind == SectionKind::kK;
  const LayerSpec& model = spec_.layers[scope.layer];
  const codec_internal::HeadRows head = {is_k ? layer->k : layer->v, view.block_table,
                                         scope.head_begin - view.head_begin, is_k ? model.k_head_dim : model.v_head_dim,
                                         DTypeBytes(view.dtype)};
  TileGeometry geometry = {view.dtype, 0, head.dim, scope.layer, scope.head_begin, is_k ? KvKind::kK : KvKind::kV};
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
      codec_internal::GatherRows(head, token, geometry.tokens, rows_.data());
      rows = rows_.data();
    }
    TileEntry tile;
    tile.offset = static_cast<uint32_t>(section.bytes.size());
    context.rope_row = row;
    context.sink_rows = SinkRows(header.token_begin + row, geometry.tokens);
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
  ContainerBuilder builder(std::move(identity));
  builder.ReserveBody(ViewBytes(spec, *source.view, source.view_token, header.num_tokens));
  SectionEncoder encoder(spec);
  EncodedSection section;
  for (const SectionEntry& scope : scopes) {
    KDN_RETURN_IF_ERROR(encoder.Encode(header, scope, source, profile, section));
    AddSection(section, builder);
  }
  return std::move(builder).Finish();
}

}  // namespace kdn
