#include "client/device/chunk_coder.h"

#include <algorithm>

#include "kernels/base/status.h"
#include "kernels/codec/chunk_codec.h"

namespace kdn {
namespace {

// Beyond the KV itself: header, directory and alignment of a container, generously.
constexpr uint64_t kEstimateDivisor = 16;
constexpr uint64_t kEstimateSlackBytes = uint64_t{64} << 10;

ContainerFault FaultOf(const absl::Status& status) {
  const MissReason reason = absl::IsDataLoss(status) ? MissReason::kCorrupt : MissReason::kIncompatible;
  return {reason, std::string(FromAbsl(status.message()))};
}

// Whether K of the section was rounded after its rotary embedding was taken off, and will be once more: also tiles of
// exact profiles are then not what was stored. Only q4 stores K so; in fp8 the two roundings lose more than int8 may.
bool LosesToRotation(const ModelSpec& spec, const ContainerHeader& header, const SectionEntry& section) {
  if (header.rope_state == RopeState::kRotated || section.kind == SectionKind::kV) return false;
  for (uint32_t layer = section.layer; layer < uint32_t{section.layer} + section.layer_count; ++layer) {
    if (spec.ropes[spec.layers[layer].rope_index].style != RopeStyle::kNone) return true;
  }
  return false;
}

struct HeadRange {
  uint32_t begin = 0;
  uint32_t end = 0;
};

// Runs of the view's heads whose cells are taken, among those of a wide section.
std::vector<HeadRange> TakenHeads(const KvView& view, const SectionEntry& section, CellRange cells,
                                  const CellSet& take) {
  const uint32_t begin = std::max<uint32_t>(view.head_begin, section.head_begin);
  const uint32_t end = std::min(view.head_begin + view.head_count, uint32_t{section.head_begin} + section.head_count);
  std::vector<HeadRange> runs;
  for (uint32_t head = begin; head < end; ++head) {
    if (!take.Contains(cells.begin + head - section.head_begin)) continue;
    if (runs.empty() || runs.back().end != head) runs.push_back({head, head});
    runs.back().end = head + 1;
  }
  return runs;
}

KvView WithHeads(const KvView& view, HeadRange heads) {
  KvView narrowed = view;
  const int64_t skipped = heads.begin - view.head_begin;
  for (KvLayerView& layer : narrowed.layers) {
    for (KvPlane* plane : {&layer.k, &layer.v}) {
      if (plane->data != nullptr) plane->data += skipped * plane->head_stride_bytes;
    }
  }
  narrowed.head_begin = heads.begin;
  narrowed.head_count = heads.end - heads.begin;
  return narrowed;
}

// Decodes a wide section into the heads whose cells are taken, and no others: those come from other parts, whose
// decoding may run at the same time.
absl::Status DecodeWide(SectionDecoder& decoder, const ChunkPlace& place, const IncomingContainer& container,
                        const SectionEntry& section) {
  const CellRange cells = CellsOfSection(section, place.cells);
  for (const HeadRange& heads : TakenHeads(place.view, section, cells, container.take())) {
    const KvView view = WithHeads(place.view, heads);
    const DecodeTarget target{&view, place.view_offset, 0, place.chunk.num_tokens};
    KDN_RETURN_IF_ERROR(decoder.Decode(container.header(), section, container.SectionBytes(section), target));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<uint8_t>> EncodeCells(const ChunkPlace& place, const CellSet& wanted, ProfileId profile,
                                                 const TransformChoice* transform) {
  ContainerHeader header;
  header.fingerprint = place.fingerprint;
  header.chunk_digest = place.chunk.digest;
  header.token_begin = place.chunk.begin;
  header.num_tokens = place.chunk.num_tokens;
  header.dtype = place.spec.dtype;
  header.rope_state = StoredRopeState(profile);
  header.tile_tokens = DefaultTileTokens(place.spec, profile);
  header.cells = wanted;
  return EncodeChunk(place.spec, place.cells, header, {&place.view, place.view_offset, transform}, profile);
}

uint64_t RawBytes(const ChunkPlace& place, const CellSet& cells) {
  uint64_t bytes = 0;
  for (const KvLayerView& layer : place.view.layers) {
    const LayerSpec& model = place.spec.layers[layer.layer];
    const uint64_t first_row = layer.first_row > place.view_offset ? layer.first_row - place.view_offset : 0;
    if (first_row >= place.chunk.num_tokens) continue;
    const uint64_t head_bytes =
        (place.chunk.num_tokens - first_row) * (model.k_head_dim + model.v_head_dim) * DTypeBytes(place.spec.dtype);
    for (uint32_t head = place.view.head_begin; head < place.view.head_begin + place.view.head_count; ++head) {
      if (cells.Contains(place.cells.CellOf(layer.layer, head))) bytes += head_bytes;
    }
  }
  return bytes;
}

uint64_t EncodedBytesEstimate(const ChunkPlace& place, const CellSet& wanted) {
  const uint64_t raw_bytes = RawBytes(place, wanted);
  return raw_bytes + raw_bytes / kEstimateDivisor + kEstimateSlackBytes;
}

bool IncomingContainer::IsTaken(const SectionEntry& section) const {
  return CellsOfSection(section, cells_).Intersects(announced_.take);
}

std::optional<ContainerFault> IncomingContainer::ParseHeader(const Fingerprint& fingerprint, const ChunkId& chunk) {
  absl::StatusOr<ContainerHeader> header = ParseContainerHeader(memory_.first(announced_.header_bytes));
  if (!header.ok()) {
    // Damage may show as any contradiction; only a version or feature of later builds is a mere incompatibility.
    const MissReason reason = absl::IsUnimplemented(header.status()) ? MissReason::kIncompatible : MissReason::kCorrupt;
    return ContainerFault{reason, std::string(FromAbsl(header.status().message()))};
  }
  const ContainerHeader& h = *header;
  if (announced_.header_bytes != h.header_bytes || memory_.size() != h.header_bytes + h.body_bytes) {
    return ContainerFault{MissReason::kCorrupt,
                          StrCat("announced are ", memory_.size(), " bytes with a header of ", announced_.header_bytes,
                                 ", the header says ", h.header_bytes + h.body_bytes, " and ", h.header_bytes)};
  }
  std::string wrong;
  if (h.fingerprint != fingerprint) wrong = StrCat("fingerprint ", h.fingerprint.ToShortHex());
  if (h.chunk_digest != chunk.digest) wrong = StrCat("chunk digest ", h.chunk_digest.ToShortHex());
  if (chunk.num_tokens != 0 && (h.token_begin != chunk.begin || h.num_tokens != chunk.num_tokens)) {
    wrong = StrCat("tokens [", h.token_begin, ", +", h.num_tokens, ")");
  }
  if (!wrong.empty()) {
    return ContainerFault{MissReason::kIncompatible,
                          StrCat("the container has ", wrong, ", asked for was chunk ", chunk.digest.ToShortHex())};
  }
  if (const absl::Status fits = CheckAgainstModel(h, spec_, cells_); !fits.ok()) {
    return ContainerFault{MissReason::kIncompatible, std::string(FromAbsl(fits.message()))};
  }
  for (const uint32_t cell : announced_.take.ToVector()) {
    if (!h.cells.Contains(cell)) {
      return ContainerFault{MissReason::kIncompatible, StrCat("cell ", cell, " is not in the container")};
    }
  }
  header_ = *std::move(header);
  parsed_ = true;
  return std::nullopt;
}

IncomingContainer::Ready IncomingContainer::Advance(const Fingerprint& fingerprint, const ChunkId& chunk,
                                                    uint64_t end) {
  Ready ready;
  if (end < announced_.header_bytes) return ready;
  if (!parsed_) ready.fault = ParseHeader(fingerprint, chunk);
  if (ready.fault.has_value()) return ready;
  ready.first = next_section_;
  while (next_section_ < header_.sections.size()) {
    const SectionEntry& section = header_.sections[next_section_];
    if (IsSent(section) && header_.header_bytes + section.offset + section.length > end) break;
    ++next_section_;
  }
  ready.last = next_section_;
  return ready;
}

std::optional<ContainerFault> DecodeSections(const ChunkPlace& place, const IncomingContainer& container, size_t first,
                                             size_t last, const DecodeAccept& accept) {
  const ProfileId lossiest = accept.lossiest;
  const DecodeTarget target{&place.view, place.view_offset, 0, place.chunk.num_tokens};
  SectionDecoder decoder(place.spec, {.transforms = accept.transforms});
  for (size_t i = first; i < last; ++i) {
    const SectionEntry& section = container.header().sections[i];
    if (!container.IsTaken(section) || !SectionTouchesView(section, place.view)) continue;
    if (LosesToRotation(place.spec, container.header(), section) && !LosesNoMoreThan(ProfileId::kQ4, lossiest)) {
      return ContainerFault{MissReason::kIncompatible,
                            StrCat("K is stored before its rotary embedding, accepted up to ", ProfileName(lossiest))};
    }
    for (const TileEntry& tile : container.header().TilesOf(section)) {
      if (LosesNoMoreThan(tile.profile, lossiest)) continue;
      return ContainerFault{MissReason::kIncompatible, StrCat("stored as ", ProfileName(tile.profile),
                                                              ", accepted up to ", ProfileName(lossiest))};
    }
    const absl::Status status =
        section.wide ? DecodeWide(decoder, place, container, section)
                     : decoder.Decode(container.header(), section, container.SectionBytes(section), target);
    if (status.ok()) continue;
    return FaultOf(Annotate(status, StrCat("layer ", section.layer, ", head ", section.head_begin)));
  }
  return std::nullopt;
}

}  // namespace kdn
