#include <algorithm>

#include "kernels/base/status.h"
#include "kernels/codec/chunk_codec.h"
#include "kernels/codec/row_copy.h"
#include "kernels/codec/tile_placement.h"
#include "kernels/codec/wide_section.h"

namespace kdn {

namespace {

bool HoldsLayer(const SectionEntry& section, uint32_t layer) {
  return layer >= section.layer && layer - section.layer < section.layer_count;
}

}  // namespace

absl::Status CheckLosslessObject(const ContainerHeader& header, const LosslessTables& tables) {
  const Digest& lossless = tables.digest();
  const bool named =
      std::find(header.calibration.begin(), header.calibration.end(), lossless) != header.calibration.end();
  if (named || (header.calibration.empty() && lossless == LosslessTables::BuiltIn().digest())) return absl::OkStatus();
  return FailedPrecondition("container does not name the lossless object ", lossless.ToShortHex(),
                            " that this decoder holds");
}

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
  if (target.view->memory == MemoryKind::kDevice) {
    return InvalidArgument("device memory cannot be decoded into on the host");
  }
  KDN_RETURN_IF_ERROR(CheckDecodeTarget(header, section, target));
  KDN_RETURN_IF_ERROR(VerifySection(section, section_bytes));
  if (section.wide) {
    if (wide_ == nullptr) wide_ = std::make_unique<codec_internal::WideSectionDecoder>(spec_, tables_, isa_);
    return wide_->Decode(header, section, section_bytes, target);
  }
  PlaceTiles(spec_, header, section, target, placements_);
  for (const TilePlacement& placed : placements_) {
    KDN_RETURN_IF_ERROR(DecodeTile(header, placed, section_bytes, target.position.value_or(header.token_begin)));
  }
  return absl::OkStatus();
}

absl::Status SectionDecoder::DecodeTile(const ContainerHeader& header, const TilePlacement& placed,
                                        ByteSpan section_bytes, uint64_t position) {
  const TileGeometry& geometry = placed.geometry;
  TileContext context;
  if (geometry.kind == KvKind::kK && header.rope_state == RopeState::kUnrotated) {
    context.rope = ropes_.Find(spec_, geometry.layer, RopeDirection::kRotate, position, header.num_tokens);
  }
  context.rope_row = placed.tile_row;
  if (placed.tile->profile == ProfileId::kLossless) KDN_RETURN_IF_ERROR(CheckLosslessObject(header, *tables_.lossless));
  const ByteSpan coded = section_bytes.subspan(placed.tile->offset, placed.tile->length);
  uint8_t* direct = placed.row_count == geometry.tokens
                        ? codec_internal::ContiguousRows(placed.out, placed.token, geometry.tokens)
                        : nullptr;
  if (direct != nullptr) {
    return decoder_.Decode(geometry, placed.tile->profile, coded, {direct, geometry.raw_bytes()}, context);
  }
  KDN_RETURN_IF_ERROR(ValidateTileGeometry(geometry));
  rows_.resize(geometry.raw_bytes());
  KDN_RETURN_IF_ERROR(decoder_.Decode(geometry, placed.tile->profile, coded, rows_, context));
  const size_t row_bytes = placed.out.row_bytes();
  codec_internal::ScatterRows(placed.out, placed.token, placed.row_count,
                              {rows_.data() + placed.row_begin * row_bytes, row_bytes});
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
