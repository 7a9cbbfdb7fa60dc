#ifndef KDN_SERVER_CORE_CHUNK_CELLS_H_
#define KDN_SERVER_CORE_CHUNK_CELLS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "kdn/v1/record.pb.h"
#include "kernels/format/container.h"
#include "kernels/layout/cell_map.h"
#include "server/core/registry.h"
#include "storage/blob/value_store.h"

// Which cells of a chunk a row holds, and what a new container changes about that. Pure functions.

namespace kdn {

// The cells a query names, as a set over the model's ids; all of them for nullopt. A set that came as a bitmap has
// eight ids for each byte, whatever the model has: InvalidArgument when it has more bytes, or fewer, than the model's
// ids take, or names cells that the model does not have.
absl::StatusOr<CellSet> WantedCells(const std::optional<CellSet>& cells, uint32_t num_cells);

// Where one cell of a chunk is read from.
struct HeldCell {
  int part = -1;  // index into ChunkRecord.parts; -1 = not held
  uint32_t first_row = 0;
  uint64_t content_digest = 0;

  bool held() const { return part >= 0; }
};

// By cell id. Ids the model does not have (a damaged row) are left out.
std::vector<HeldCell> HeldCells(const v1::ChunkRecord& record, uint32_t num_cells);

// Cells present in the record.
uint32_t CountHeldCells(const v1::ChunkRecord& record, uint32_t num_cells);

// First row of `cell` that a reader of a prefix ending at `prefix_end` needs of the chunk `record` describes.
uint32_t NeededRow(const CellMap& cells, uint32_t cell, uint64_t prefix_end, const v1::ChunkRecord& record);

// The highest-numbered profile among the container's tiles: what a row says of it.
ProfileId HighestProfile(const ContainerHeader& header);

// What storing a container would do to a row.
struct StorePlan {
  std::vector<v1::CellRecord> taken;  // cells the new part provides
  uint32_t same_cells = 0;            // there with the same content, or with more rows
  uint32_t other_cells = 0;           // there with other content: the first stay, also beside more rows that lose more
};
StorePlan PlanStore(const std::optional<v1::ChunkRecord>& row, const ContainerHeader& header, const CellMap& cells);

// KV bytes before coding of the cells, of a chunk of `num_tokens`.
uint64_t RawBytes(const Model& model, uint32_t num_tokens,
                  const google::protobuf::RepeatedPtrField<v1::CellRecord>& cells);

// Appends `part`, whose cells are taken from the parts that held them. Returns the locations of parts that hold nothing
// any more (removed from the row).
std::vector<ValueLocation> AddPart(const Model& model, v1::PartRecord part, v1::ChunkRecord& row);

}  // namespace kdn

#endif  // KDN_SERVER_CORE_CHUNK_CELLS_H_
