#include <algorithm>

#include "kernels/base/status.h"
#include "kernels/codec/chunk_codec.h"
#include "kernels/codec/row_copy.h"
#include "kernels/codec/section_rows.h"
#include "kernels/codec/wide_section.h"

namespace kdn {

// One layer, head and kind of a section, and where its tiles start among the section's.
struct SectionDecoder::Plane {
  const KvLayerView* layer = nullptr;
  uint32_t head = 0;
  KvKind kind = KvKind::kK;
  uint32_t first_tile = 0;
};

namespace {

bool HoldsKind(const SectionEntry& section, KvKind kind) {
  return section.kind == SectionKind::kJointKv ||
         section.kind == (kind == KvKind::kK ? SectionKind::kK : SectionKind::kV);
}

bool HoldsLayer(const SectionEntry& section, uint32_t layer) {
  return layer >= section.layer && layer - section.layer < section.layer_count;
}

absl::Status CheckTarget(const ContainerHeader& header, const DecodeTarget& target) {
  if (target.view->memory == MemoryKind::kDevice) {
    return InvalidArgument("device memory cannot be decoded into on the host");
  }
  if (target.view->dtype != header.dtype) {
    return InvalidArgument("view holds ", DTypeName(target.view->dtype), ", the container ", DTypeName(header.dtype));
  }
  if (uint64_t{target.row_begin} + target.row_count > header.num_tokens ||
      uint64_t{target.view_token} + target.row_count > target.view->num_tokens) {
    return InvalidArgument("rows [", target.row_begin, ", +", target.row_count, ") to view token ", target.view_token,
                           ": the chunk has ", header.num_tokens, ", the view ", target.view->num_tokens);
  }
  return absl::OkStatus();
}

// A header that names no object means the built-in ones.
absl::Status CheckCalibration(const ContainerHeader& header, const CodecTables& tables) {
  const Digest& lossless = tables.lossless->digest();
  const bool named =
      std::find(header.calibration.begin(), header.calibration.end(), lossless) != header.calibration.end();
  if (named || (header.calibration.empty() && lossless == LosslessTables::BuiltIn().digest())) return absl::OkStatus();
  return FailedPrecondition("container does not name the lossless object ", lossless.ToShortHex(),
                            " that this decoder holds");
}

}  // namespace

bool SectionTouchesView(const SectionEntry& section, const KvView& view) {
  const bool heads = section.head_begin < view.head_begin + view.head_count &&
                     view.head_begin < uint32_t{section.head_begin} + section.head_count;
  return heads && std::any_of(view.layers.begin(), view.layers.end(),
                              [&](const KvLayerView& layer) { return HoldsLayer(section, layer.layer); });
}

SectionDecoder::SectionDecoder(const ModelSpec& spec, CodecTables tables, Isa isa)
    : spec_(spec), tables_(tables), isa_(isa), decoder_(tables, isa) {}
SectionDecoder::~SectionDecoder() = default;

absl::Status SectionDecoder::Decode(const ContainerHeader& header, const SectionEntry& section, ByteSpan section_bytes,
                                    const DecodeTarget& target) {
  KDN_RETURN_IF_ERROR(CheckTarget(header, target));
  if (HoldsKind(section, KvKind::kK) && header.rope_state == RopeState::kRotated &&
      target.position.value_or(header.token_begin) != header.token_begin) {
    return Unimplemented("K of this container is rotated for position ", header.token_begin, ", not ",
                         *target.position);
  }
  KDN_RETURN_IF_ERROR(VerifySection(section, section_bytes));
  if (section.wide) {
    if (wide_ == nullptr) wide_ = std::make_unique<codec_internal::WideSectionDecoder>(spec_, tables_, isa_);
    return wide_->Decode(header, section, section_bytes, target);
  }
  const auto row_groups = static_cast<uint32_t>(CeilDiv(header.num_tokens - section.first_row, header.tile_tokens));
  const KvView& view = *target.view;
  uint32_t first_tile = 0;
  for (uint32_t layer = section.layer; layer < uint32_t{section.layer} + section.layer_count; ++layer) {
    const auto held = std::find_if(view.layers.begin(), view.layers.end(),
                                   [layer](const KvLayerView& candidate) { return candidate.layer == layer; });
    for (uint32_t head = section.head_begin; head < uint32_t{section.head_begin} + section.head_count; ++head) {
      for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
        if (!HoldsKind(section, kind)) continue;
        const bool wanted =
            held != view.layers.end() && head >= view.head_begin && head - view.head_begin < view.head_count;
        if (wanted) {
          KDN_RETURN_IF_ERROR(DecodePlane(header, section, section_bytes, {&*held, head, kind, first_tile}, target));
        }
        first_tile += row_groups;
      }
    }
  }
  return absl::OkStatus();
}

absl::Status SectionDecoder::DecodePlane(const ContainerHeader& header, const SectionEntry& section,
                                         ByteSpan section_bytes, const Plane& plane, const DecodeTarget& target) {
  const KvView& view = *target.view;
  const bool is_k = plane.kind == KvKind::kK;
  const codec_internal::HeadRows out = codec_internal::RowsOfHead(spec_, view, *plane.layer, plane.head, plane.kind);
  TileGeometry geometry = {
      view.dtype, 0, out.dim, static_cast<uint16_t>(plane.layer->layer), static_cast<uint16_t>(plane.head), plane.kind};
  // Chunk rows to write: those asked for that the view's layer holds.
  const uint32_t absent = codec_internal::FirstHeldRow(*plane.layer, target.view_token);
  const uint32_t begin = target.row_begin + std::min(absent, target.row_count);
  const uint32_t end = target.row_begin + target.row_count;
  TileContext context;
  if (is_k && header.rope_state == RopeState::kUnrotated) {
    context.rope = ropes_.Find(spec_, plane.layer->layer, RopeDirection::kRotate,
                               target.position.value_or(header.token_begin), header.num_tokens);
  }
  uint32_t tile_index = plane.first_tile;
  for (uint32_t row = section.first_row; row < header.num_tokens; row += geometry.tokens, ++tile_index) {
    geometry.tokens = std::min(header.tile_tokens, header.num_tokens - row);
    const uint32_t first = std::max(row, begin);
    const uint32_t last = std::min(row + geometry.tokens, end);
    if (first >= last) continue;
    const TileEntry& tile = header.TilesOf(section)[tile_index];
    if (tile.profile == ProfileId::kLossless) KDN_RETURN_IF_ERROR(CheckCalibration(header, tables_));
    const ByteSpan coded = section_bytes.subspan(tile.offset, tile.length);
    context.rope_row = row;
    const uint32_t token = target.view_token + (first - target.row_begin);
    uint8_t* direct =
        last - first == geometry.tokens ? codec_internal::ContiguousRows(out, token, geometry.tokens) : nullptr;
    if (direct != nullptr) {
      KDN_RETURN_IF_ERROR(decoder_.Decode(geometry, tile.profile, coded, {direct, geometry.raw_bytes()}, context));
      continue;
    }
    KDN_RETURN_IF_ERROR(ValidateTileGeometry(geometry));
    rows_.resize(geometry.raw_bytes());
    KDN_RETURN_IF_ERROR(decoder_.Decode(geometry, tile.profile, coded, rows_, context));
    codec_internal::ScatterRows(out, token, last - first,
                                {rows_.data() + (first - row) * out.row_bytes(), out.row_bytes()});
  }
  return absl::OkStatus();
}

absl::Status DecodeContainer(const ModelSpec& spec, const ContainerHeader& header, ByteSpan body,
                             const DecodeTarget& target, CodecTables tables) {
  if (body.size() != header.body_bytes) {
    return InvalidArgument("body of ", body.size(), " bytes, the header says ", header.body_bytes);
  }
  SectionDecoder decoder(spec, tables);
  for (const SectionEntry& section : header.sections) {
    if (!SectionTouchesView(section, *target.view)) continue;
    const absl::Status status = decoder.Decode(header, section, body.subspan(section.offset, section.length), target);
    if (!status.ok()) {
      return Annotate(status, StrCat("layer ", section.layer, ", head ", section.head_begin, ", ",
                                     section.kind == SectionKind::kV ? "V" : "K"));
    }
  }
  return absl::OkStatus();
}

}  // namespace kdn
