#include <algorithm>
#include <optional>
#include <vector>

#include "kernels/base/status.h"
#include "kernels/format/container.h"
#include "kernels/format/container_layout.h"

// What ties a container to a model: which cells its sections make up.

namespace kdn {
namespace {

bool HoldsKind(const SectionEntry& section, KvKind kind) {
  return section.kind == SectionKind::kJointKv ||
         section.kind == (kind == KvKind::kK ? SectionKind::kK : SectionKind::kV);
}

bool Covers(const SectionEntry& section, const LayerBand& band, uint32_t head) {
  if (head < section.head_begin || head >= static_cast<uint32_t>(section.head_begin) + section.head_count) return false;
  for (const uint32_t layer : band.layers) {
    if (layer >= section.layer && layer < static_cast<uint32_t>(section.layer) + section.layer_count) return true;
  }
  return false;
}

// Marks what sections hold and refuses what the model does not have, what is there twice, or lies outside the cells.
class Coverage {
 public:
  Coverage(const ContainerHeader& header, const ModelSpec& spec, const CellMap& cells)
      : header_(header),
        spec_(spec),
        cells_(cells),
        planes_(size_t{cells.num_cells()}),
        first_row_(cells.num_cells()) {}

  absl::Status Add(const SectionEntry& section) {
    for (uint32_t layer = section.layer; layer < static_cast<uint32_t>(section.layer) + section.layer_count; ++layer) {
      if (layer >= spec_.layers.size()) {
        return InvalidArgument("container has a section of layer ", layer, ", the model has ", spec_.layers.size());
      }
      const LayerSpec& model = spec_.layers[layer];
      if (static_cast<uint32_t>(section.head_begin) + section.head_count > model.num_kv_heads) {
        return InvalidArgument("container has a section of head ", section.head_begin + section.head_count - 1,
                               " at layer ", layer, ", which has ", model.num_kv_heads);
      }
      if (section.first_row != 0 && model.window == 0) {
        return InvalidArgument("container lacks rows before ", section.first_row, " at layer ", layer,
                               ", which attends to all of them");
      }
      KDN_RETURN_IF_ERROR(CheckWideKind(section, layer));
      for (uint32_t head = section.head_begin; head < static_cast<uint32_t>(section.head_begin) + section.head_count;
           ++head) {
        KDN_RETURN_IF_ERROR(AddPlanes(section, layer, head));
      }
    }
    return absl::OkStatus();
  }

  absl::Status CheckComplete() const {
    for (const uint32_t cell : header_.cells.ToVector()) {
      const LayerBand& band = cells_.BandOfCell(cell);
      uint64_t expected = 0;
      for (const uint32_t layer : band.layers) expected += spec_.layers[layer].v_head_dim == 0 ? 1 : 2;
      if (planes_[cell] != expected) {
        return InvalidArgument("container claims cell ", cell, " but holds ", planes_[cell], " of its ", expected,
                               " K and V planes");
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::Status CheckWideKind(const SectionEntry& section, uint32_t layer) const {
    const bool latent = spec_.layers[layer].v_head_dim == 0;
    if (!section.wide || (section.kind == SectionKind::kK) == latent) return absl::OkStatus();
    return InvalidArgument("container has a wide section of ", latent ? "K and V" : "K alone", " at layer ", layer,
                           ", which has ", latent ? "latents only" : "V as well");
  }

  absl::Status AddPlanes(const SectionEntry& section, uint32_t layer, uint32_t head) {
    const uint32_t cell = cells_.CellOf(layer, head);
    // Sections are delivered and taken by cell: of a narrow one that reached into another cell, a reader of one cell
    // would leave the other's rows unwritten.
    const CellRange own = CellsOfSection(section, cells_);
    if (cell < own.begin || cell >= own.end) {
      return InvalidArgument("container has a section of cell ", own.begin, " that reaches into cell ", cell,
                             " (layer ", layer, ", head ", head, ")");
    }
    if (!header_.cells.Contains(cell)) {
      return InvalidArgument("container has a section of layer ", layer, " head ", head, ", cell ", cell,
                             ", which it does not claim");
    }
    if (first_row_[cell].value_or(section.first_row) != section.first_row) {
      return InvalidArgument("sections of cell ", cell, " start at rows ", *first_row_[cell], " and ",
                             section.first_row);
    }
    first_row_[cell] = section.first_row;
    for (const KvKind kind : {KvKind::kK, KvKind::kV}) {
      if (!HoldsKind(section, kind)) continue;
      if (kind == KvKind::kV && spec_.layers[layer].v_head_dim == 0) {
        return InvalidArgument("container has V at layer ", layer, ", the model has latents only");
      }
      KDN_RETURN_IF_ERROR(AddPlane(layer, head, kind));
      ++planes_[cell];
    }
    return absl::OkStatus();
  }

  absl::Status AddPlane(uint32_t layer, uint32_t head, KvKind kind) {
    if (seen_.empty()) seen_.resize(spec_.layers.size() * kMaxKvHeads * 2);
    const size_t plane = (size_t{layer} * kMaxKvHeads + head) * 2 + static_cast<size_t>(kind);
    if (seen_[plane]) return InvalidArgument("container holds layer ", layer, " head ", head, " twice");
    seen_[plane] = true;
    return absl::OkStatus();
  }

  const ContainerHeader& header_;
  const ModelSpec& spec_;
  const CellMap& cells_;
  std::vector<uint64_t> planes_;  // [cell]: planes met
  std::vector<std::optional<uint32_t>> first_row_;
  std::vector<bool> seen_;  // [layer][head][kind]
};

}  // namespace

absl::Status CheckAgainstModel(const ContainerHeader& header, const ModelSpec& spec, const CellMap& cells) {
  if (header.dtype != spec.dtype) {
    return InvalidArgument("container holds ", DTypeName(header.dtype), ", the model ", DTypeName(spec.dtype));
  }
  if (header.num_tokens > cells.chunk_tokens()) {
    return InvalidArgument("container has ", header.num_tokens, " tokens, chunks of this model have ",
                           cells.chunk_tokens());
  }
  if (header.cells.num_cells() != cells.num_cells()) {
    return InvalidArgument("container cuts chunks into ", header.cells.num_cells(), " cells, this model has ",
                           cells.num_cells());
  }
  if (header.cells.Empty()) return InvalidArgument("container claims no cell");
  Coverage coverage(header, spec, cells);
  for (const SectionEntry& section : header.sections) KDN_RETURN_IF_ERROR(coverage.Add(section));
  return coverage.CheckComplete();
}

CellRange CellsOfSection(const SectionEntry& section, const CellMap& cells) {
  const uint32_t begin = cells.CellOf(section.layer, section.head_begin);
  return {begin, begin + (section.wide ? section.head_count : uint32_t{1})};
}

uint32_t FirstRowOfCell(const ContainerHeader& header, const CellMap& cells, uint32_t cell) {
  const LayerBand& band = cells.BandOfCell(cell);
  for (const SectionEntry& section : header.sections) {
    if (Covers(section, band, cells.HeadOfCell(cell))) return section.first_row;
  }
  return 0;
}

ProfileId RequiredProfile(ProfileId lossiest, RopeState rope_state, const ModelSpec& spec) {
  if (!LosesNoMoreThan(lossiest, ProfileId::kTransform)) return ProfileId::kTransform;
  const bool rotates = std::any_of(spec.layers.begin(), spec.layers.end(), [&](const LayerSpec& layer) {
    return spec.ropes[layer.rope_index].style != RopeStyle::kNone;
  });
  const bool rounded = rope_state == RopeState::kUnrotated && rotates;
  return rounded && LosesNoMoreThan(lossiest, ProfileId::kQ4) ? ProfileId::kQ4 : lossiest;
}

ProfileId RequiredProfile(const ContainerHeader& header, const ModelSpec& spec) {
  ProfileId lossiest = ProfileId::kRaw;
  for (const TileEntry& tile : header.tiles) {
    if (!LosesNoMoreThan(tile.profile, lossiest)) lossiest = tile.profile;
    if (!LosesNoMoreThan(lossiest, ProfileId::kTransform)) break;  // unknown
  }
  return RequiredProfile(lossiest, header.rope_state, spec);
}

uint64_t CellContentDigest(const ContainerHeader& header, const CellMap& cells, uint32_t cell) {
  const LayerBand& band = cells.BandOfCell(cell);
  std::vector<uint8_t> content;
  ByteWriter writer(content);
  writer.U8(static_cast<uint8_t>(header.rope_state));
  writer.U32(header.tile_tokens);
  for (const Digest& digest : header.calibration) writer.Bytes(digest.span());
  for (const SectionEntry& section : header.sections) {
    if (!Covers(section, band, cells.HeadOfCell(cell))) continue;
    writer.U16(section.layer);
    writer.U8(StoredKind(section));
    if (section.wide) {
      writer.U8(section.layer_count);
      writer.U16(section.head_begin);
      writer.U16(section.head_count);
    }
    writer.U32(section.first_row);
    writer.U32(section.length);
    writer.U32(section.crc32c);
  }
  return LoadLe<uint64_t>(Sha256::Of(content).bytes.data());
}

}  // namespace kdn
