#include "server/core/chunk_cells.h"

#include <algorithm>
#include <utility>

#include "storage/evict/chunk_rows.h"
#include "storage/index/part_merge.h"

namespace kdn {

absl::StatusOr<CellSet> WantedCells(const std::optional<CellSet>& cells, uint32_t num_cells) {
  if (!cells.has_value()) return CellSet::All(num_cells);
  return CellSet::FromBytes(cells->ToBytes(), num_cells);
}

namespace {

bool Accepts(std::optional<ProfileId> lossiest, const v1::PartRecord& part) {
  return !lossiest.has_value() || LosesNoMoreThan(RequiredProfileOf(part), *lossiest);
}

bool LosesMore(const v1::PartRecord& a, const v1::PartRecord& b) {
  return !LosesNoMoreThan(RequiredProfileOf(a), RequiredProfileOf(b));
}

// Of one cell of the part, on average: what a reader of it is sent.
double CellBytes(const v1::PartRecord& part) {
  const double cells = part.container_cells() != 0 ? part.container_cells() : std::max(part.cells_size(), 1);
  return static_cast<double>(part.value_length()) / cells;
}

}  // namespace

std::vector<HeldCell> HeldCells(const v1::ChunkRecord& record, uint32_t num_cells, std::optional<ProfileId> lossiest) {
  std::vector<HeldCell> held(num_cells);
  for (int part = 0; part < record.parts_size(); ++part) {
    if (!Accepts(lossiest, record.parts(part))) continue;
    for (const v1::CellRecord& cell : record.parts(part).cells()) {
      if (cell.cell() >= num_cells) continue;
      HeldCell& best = held[cell.cell()];
      const bool better =
          !best.held() || cell.first_row() < best.first_row ||
          (cell.first_row() == best.first_row && LosesMore(record.parts(part), record.parts(best.part)));
      if (better) best = {part, cell.first_row(), cell.content_digest()};
    }
  }
  return held;
}

std::vector<HeldCell> CellsForReader(const v1::ChunkRecord& record, std::span<const uint32_t> needed_rows,
                                     std::optional<ProfileId> lossiest) {
  const auto better = [&](const v1::PartRecord& a, const v1::PartRecord& b) {
    if (!lossiest.has_value() && (LosesMore(a, b) || LosesMore(b, a))) return LosesMore(b, a);
    return CellBytes(a) < CellBytes(b) || (CellBytes(a) == CellBytes(b) && LosesMore(b, a));
  };
  std::vector<HeldCell> chosen(needed_rows.size());
  for (int part = 0; part < record.parts_size(); ++part) {
    if (!Accepts(lossiest, record.parts(part))) continue;
    for (const v1::CellRecord& cell : record.parts(part).cells()) {
      if (cell.cell() >= needed_rows.size() || cell.first_row() > needed_rows[cell.cell()]) continue;
      HeldCell& best = chosen[cell.cell()];
      if (best.held() && !better(record.parts(part), record.parts(best.part))) continue;
      best = {part, cell.first_row(), cell.content_digest()};
    }
  }
  return chosen;
}

HeldKv HeldKvOf(const Model& model, const v1::ChunkRecord& record) {
  HeldKv kv;
  const std::vector<HeldCell> held = HeldCells(record, model.cells().num_cells(), std::nullopt);
  for (uint32_t cell = 0; cell < held.size(); ++cell) {
    if (!held[cell].held() || held[cell].first_row > record.num_tokens()) continue;
    ++kv.cells;
    kv.raw_bytes += model.CellRowBytes(cell) * (record.num_tokens() - held[cell].first_row);
  }
  return kv;
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

StorePlan PlanStore(const std::optional<v1::ChunkRecord>& row, const ContainerHeader& header, ProfileId required,
                    const CellMap& cells) {
  std::vector<HeldCell> held(cells.num_cells());
  if (row.has_value()) held = HeldCells(*row, cells.num_cells(), required);
  StorePlan plan;
  for (const uint32_t cell : header.cells.ToVector()) {
    const uint32_t first_row = FirstRowOfCell(header, cells, cell);
    if (!held[cell].held() || first_row < held[cell].first_row) {
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
    if (!LosesAlike(RequiredProfileOf(old), RequiredProfileOf(part))) continue;
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
