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

// Sections of foundation profiles hold one layer and head; those of wider scopes belong to the cell of their first.
uint32_t CellOfSection(const CellMap& cells, const SectionEntry& section) {
  return cells.CellOf(section.layer, section.head_begin);
}

}  // namespace

absl::StatusOr<std::vector<uint8_t>> EncodeCells(const ChunkPlace& place, const CellSet& wanted, ProfileId profile) {
  ContainerHeader header;
  header.fingerprint = place.fingerprint;
  header.chunk_digest = place.chunk.digest;
  header.token_begin = place.chunk.begin;
  header.num_tokens = place.chunk.num_tokens;
  header.dtype = place.spec.dtype;
  header.rope_state = RopeState::kRotated;
  header.tile_tokens = DefaultTileTokens(place.spec);
  header.cells = wanted;
  return EncodeChunk(place.spec, place.cells, header, {&place.view, place.view_offset}, profile);
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

CheckedHeader CheckHeader(const ModelSpec& spec, const CellMap& cells, const Fingerprint& fingerprint,
                          const ChunkId& chunk, ByteSpan bytes) {
  CheckedHeader checked;
  absl::StatusOr<ContainerHeader> header = ParseContainerHeader(bytes);
  if (!header.ok()) {
    // Damage may show as any contradiction; only a version or feature of later builds is a mere incompatibility.
    const MissReason reason = absl::IsUnimplemented(header.status()) ? MissReason::kIncompatible : MissReason::kCorrupt;
    checked.fault = ContainerFault{reason, std::string(FromAbsl(header.status().message()))};
    return checked;
  }
  checked.header = *std::move(header);
  const ContainerHeader& h = checked.header;
  std::string wrong;
  if (h.fingerprint != fingerprint) wrong = StrCat("fingerprint ", h.fingerprint.ToShortHex());
  if (h.chunk_digest != chunk.digest) wrong = StrCat("chunk digest ", h.chunk_digest.ToShortHex());
  if (chunk.num_tokens != 0 && (h.token_begin != chunk.begin || h.num_tokens != chunk.num_tokens)) {
    wrong = StrCat("tokens [", h.token_begin, ", +", h.num_tokens, ")");
  }
  if (!wrong.empty()) {
    checked.fault =
        ContainerFault{MissReason::kIncompatible,
                       StrCat("the container has ", wrong, ", asked for was chunk ", chunk.digest.ToShortHex())};
    return checked;
  }
  const absl::Status fits = CheckAgainstModel(h, spec, cells);
  if (!fits.ok()) checked.fault = ContainerFault{MissReason::kIncompatible, std::string(FromAbsl(fits.message()))};
  return checked;
}

DecodedPart DecodePart(const ChunkPlace& place, ByteSpan container, const CellSet& take) {
  DecodedPart decoded;
  CheckedHeader checked = CheckHeader(place.spec, place.cells, place.fingerprint, place.chunk, container);
  decoded.fault = std::move(checked.fault);
  if (decoded.fault.has_value()) return decoded;
  const ContainerHeader& header = checked.header;
  if (container.size() != header.header_bytes + header.body_bytes) {
    decoded.fault = ContainerFault{
        MissReason::kCorrupt,
        StrCat("container of ", container.size(), " bytes, its header says ", header.header_bytes + header.body_bytes)};
    return decoded;
  }
  for (const uint32_t cell : take.ToVector()) {
    if (header.cells.Contains(cell)) continue;
    decoded.fault = ContainerFault{MissReason::kIncompatible, StrCat("cell ", cell, " is not in the container")};
    return decoded;
  }
  const DecodeTarget target{&place.view, place.view_offset, 0, place.chunk.num_tokens};
  SectionDecoder decoder(place.spec);
  for (const SectionEntry& section : header.sections) {
    if (!take.Contains(CellOfSection(place.cells, section)) || !SectionTouchesView(section, place.view)) continue;
    const ByteSpan bytes = container.subspan(header.header_bytes + section.offset, section.length);
    const absl::Status status = decoder.Decode(header, section, bytes, target);
    if (status.ok()) continue;
    decoded.fault = FaultOf(Annotate(status, StrCat("layer ", section.layer, ", head ", section.head_begin)));
    return decoded;
  }
  for (const uint32_t cell : take.ToVector()) {
    decoded.first_rows.emplace_back(cell, FirstRowOfCell(header, place.cells, cell));
  }
  decoded.written_bytes = RawBytes(place, take);
  return decoded;
}

}  // namespace kdn
