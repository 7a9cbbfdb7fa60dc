#include "storage/index/part_merge.h"

#include <algorithm>
#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "kernels/base/status.h"

namespace kdn {
namespace {

bool SameChunk(const v1::ChunkRecord& a, const v1::ChunkRecord& b) {
  return a.fingerprint() == b.fingerprint() && a.chunk_digest() == b.chunk_digest() && a.kind() == b.kind() &&
         a.token_begin() == b.token_begin() && a.num_tokens() == b.num_tokens();
}

// Keeps the cells for which `keep` holds. raw_bytes shrinks in proportion: cells of a part differ in size only where
// sliding-window layers hold other row counts, and the number is for display.
template <typename Keep>
void KeepCells(const Keep& keep, v1::PartRecord& part) {
  auto& cells = *part.mutable_cells();
  const int before = cells.size();
  cells.erase(std::remove_if(cells.begin(), cells.end(), [&](const v1::CellRecord& cell) { return !keep(cell); }),
              cells.end());
  if (cells.size() == before) return;
  const double share = static_cast<double>(cells.size()) / before;
  part.set_raw_bytes(static_cast<uint64_t>(static_cast<double>(part.raw_bytes()) * share));
}

void MergeAttributes(const v1::ChunkRecord& found, int max_documents, v1::ChunkRecord& row) {
  if (found.created_ms() != 0 && (row.created_ms() == 0 || found.created_ms() < row.created_ms())) {
    row.set_created_ms(found.created_ms());
  }
  row.set_expires_ms(found.expires_ms());
  row.set_pinned(found.pinned());
  row.set_pinned_until_ms(found.pinned_until_ms());
  if (row.parent_key().empty()) row.set_parent_key(found.parent_key());
  for (const std::string& document : found.documents()) {
    if (row.documents_size() >= max_documents) break;
    if (std::find(row.documents().begin(), row.documents().end(), document) == row.documents().end()) {
      row.add_documents(document);
    }
  }
}

}  // namespace

ProfileId RequiredProfileOf(const v1::PartRecord& part) {
  const uint32_t number = part.required_profile() != 0 ? part.required_profile() : part.profile();
  // One of a later version loses as much as any.
  return number <= kMaxProfileId ? static_cast<ProfileId>(number) : ProfileId::kTransform;
}

absl::StatusOr<MergeOutcome> MergePart(const v1::ChunkRecord& found, int max_documents,
                                       std::optional<v1::ChunkRecord>& row) {
  if (found.parts_size() != 1) return DataLoss("a value describes ", found.parts_size(), " parts, not 1");
  if (!row) {
    row = found;
    return MergeOutcome::kChanged;
  }
  if (!SameChunk(found, *row)) return DataLoss("a value under the key of another chunk");
  v1::PartRecord added = found.parts(0);
  const auto alike = [&added](const v1::PartRecord& part) {
    return LosesAlike(RequiredProfileOf(part), RequiredProfileOf(added));
  };
  absl::flat_hash_map<uint32_t, uint32_t> first_rows;  // of the cells the row has with the same loss
  for (const v1::PartRecord& part : row->parts()) {
    if (part.value_group() == added.value_group() && part.value_offset() == added.value_offset()) {
      return MergeOutcome::kUnchanged;
    }
    if (!alike(part)) continue;
    for (const v1::CellRecord& cell : part.cells()) first_rows[cell.cell()] = cell.first_row();
  }
  const auto better = [&](const v1::CellRecord& cell) {
    const auto held = first_rows.find(cell.cell());
    return held == first_rows.end() || cell.first_row() < held->second;
  };
  KeepCells(better, added);
  if (added.cells().empty()) return MergeOutcome::kUnchanged;
  absl::flat_hash_map<uint32_t, uint32_t> taken;
  for (const v1::CellRecord& cell : added.cells()) taken[cell.cell()] = cell.first_row();
  for (v1::PartRecord& part : *row->mutable_parts()) {
    if (!alike(part)) continue;
    KeepCells([&](const v1::CellRecord& cell) { return !taken.contains(cell.cell()); }, part);
  }
  RemoveParts([](const v1::PartRecord& part) { return part.cells().empty(); }, *row);
  *row->add_parts() = added;
  MergeAttributes(found, max_documents, *row);
  return MergeOutcome::kChanged;
}

bool RemoveParts(const std::function<bool(const v1::PartRecord&)>& gone, v1::ChunkRecord& row) {
  auto& parts = *row.mutable_parts();
  const int before = parts.size();
  parts.erase(std::remove_if(parts.begin(), parts.end(), gone), parts.end());
  return parts.size() != before;
}

}  // namespace kdn
