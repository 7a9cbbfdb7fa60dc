#include "server/core/chunk_cells.h"

#include <algorithm>
#include <utility>

#include "storage/evict/chunk_rows.h"

namespace kdn {

absl::StatusOr<CellSet> WantedCells(const std::optional<CellSet>& cells, uint32_t num_cells) {
  if (!cells.has_value()) return CellSet::All(num_cells);
  return CellSet::FromBytes(cells->ToBytes(), num_cells);
}

std::vector<HeldCell> HeldCells(const v1::ChunkRecord& record, uint32_t num_cells) {
  std::vector<HeldCell> held(num_cells);
  for (int part = 0; part < record.parts_size(); ++part) {
    for (const v1::CellRecord& cell : record.parts(part).cells()) {
      if (cell.cell() < num_cells) held[cell.cell()] = {part, cell.first_row(), cell.content_digest()};
    }
  }
  return held;
}

uint32_t CountHeldCells(const v1::ChunkRecord& record, uint32_t num_cells) {
  const std::vector<HeldCell> held = HeldCells(record, num_cells);
  return static_cast<uint32_t>(std::count_if(held.begin(), held.end(), [](const HeldCell& c) { return c.held(); }));
}

uint32_t NeededRow(const CellMap& cells, uint32_t cell, uint64_t prefix_end, const v1::ChunkRecord& record) {
  const LayerBand& band = cells.BandOfCell(cell);
  return FirstNeededRow(band.attention, band.window, prefix_end, record.token_begin(), record.num_tokens());
}

ProfileId HighestProfile(const ContainerHeader& header) {
  ProfileId highest = ProfileId::kRaw;
  for (const TileEntry& tile : header.tiles) highest = std::max(highest, tile.profile);
  return highest;
}

StorePlan PlanStore(const std::optional<v1::ChunkRecord>& row, const ContainerHeader& header, const CellMap& cells) {
  std::vector<HeldCell> held(cells.num_cells());
  if (row.has_value()) held = HeldCells(*row, cells.num_cells());
  const ProfileId offered = HighestProfile(header);
  const auto loses_more = [&](const HeldCell& cell) {
    return !LosesNoMoreThan(offered, static_cast<ProfileId>(row->parts(cell.part).profile()));
  };
  StorePlan plan;
  for (const uint32_t cell : header.cells.ToVector()) {
    const uint32_t first_row = FirstRowOfCell(header, cells, cell);
    const bool has_more_rows = first_row < held[cell].first_row;
    if (!held[cell].held() || (has_more_rows && !loses_more(held[cell]))) {
      v1::CellRecord& taken = plan.taken.emplace_back();
      taken.set_cell(cell);
      taken.set_first_row(first_row);
      taken.set_content_digest(CellContentDigest(header, cells, cell));
    } else if (held[cell].first_row < first_row ||
               held[cell].content_digest == CellContentDigest(header, cells, cell)) {
      ++plan.same_cells;
    } else {
      ++plan.other_cells;
    }
  }
  return plan;
}

uint64_t RawBytes(const Model& model, uint32_t num_tokens,
                  const google::protobuf::RepeatedPtrField<v1::CellRecord>& cells) {
  uint64_t bytes = 0;
  for (const v1::CellRecord& cell : cells) {
    if (cell.cell() >= model.cells().num_cells() || cell.first_row() > num_tokens) continue;
    bytes += model.CellRowBytes(cell.cell()) * (num_tokens - cell.first_row());
  }
  return bytes;
}

std::vector<ValueLocation> AddPart(const Model& model, v1::PartRecord part, v1::ChunkRecord& row) {
  CellSet taken(model.cells().num_cells());
  for (const v1::CellRecord& cell : part.cells()) taken.Insert(cell.cell());
  std::vector<ValueLocation> emptied;
  for (int i = row.parts_size() - 1; i >= 0; --i) {
    v1::PartRecord& old = *row.mutable_parts(i);
    auto& cells = *old.mutable_cells();
    const auto kept =
        std::remove_if(cells.begin(), cells.end(), [&](const v1::CellRecord& c) { return taken.Contains(c.cell()); });
    cells.erase(kept, cells.end());
    if (cells.empty()) {
      emptied.push_back(LocationOf(old));
      row.mutable_parts()->DeleteSubrange(i, 1);
    } else {
      old.set_raw_bytes(RawBytes(model, row.num_tokens(), cells));
    }
  }
  part.set_raw_bytes(RawBytes(model, row.num_tokens(), part.cells()));
  *row.add_parts() = std::move(part);
  return emptied;
}

}  // namespace kdn
