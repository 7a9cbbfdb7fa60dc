#ifndef KDN_SERVER_CORE_CHUNK_CELLS_H_
#define KDN_SERVER_CORE_CHUNK_CELLS_H_

#include <cstdint>
#include <optional>
#include <span>
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

// Parts of a row that list one cell: one for each class of loss (MergePart and AddPart keep to it).
inline constexpr int kMaxVariantsPerCell = kLossClasses;

// Where one cell of a chunk is read from.
struct HeldCell {
  int part = -1;  // index into ChunkRecord.parts; -1 = not held
  uint32_t first_row = 0;
  uint64_t content_digest = 0;

  bool held() const { return part >= 0; }
};

// By cell id: of the variants that lose no more than `lossiest` (nullopt = of all) the one with the most rows, among
// equals the lossiest. Ids the model does not have (a damaged row) are left out.
std::vector<HeldCell> HeldCells(const v1::ChunkRecord& record, uint32_t num_cells, std::optional<ProfileId> lossiest);

// By cell id: from where a reader is served who accepts `lossiest` and needs the rows from needed_rows[cell] on. Of the
// variants that have them and lose no more, the smallest; for nullopt, who accepts what there is, the one that loses
// least.
std::vector<HeldCell> CellsForReader(const v1::ChunkRecord& record, std::span<const uint32_t> needed_rows,
                                     std::optional<ProfileId> lossiest);

// What a row holds of its chunk, however many variants of it.
struct HeldKv {
  uint32_t cells = 0;
  uint64_t raw_bytes = 0;  // before coding
};
HeldKv HeldKvOf(const Model& model, const v1::ChunkRecord& record);

// First row of `cell` that a reader of a prefix ending at `prefix_end` needs of the chunk `record` describes.
uint32_t NeededRow(const CellMap& cells, uint32_t cell, uint64_t prefix_end, const v1::ChunkRecord& record);

// The highest-numbered profile among the container's tiles: what a row says of it.
ProfileId HighestProfile(const ContainerHeader& header);

// What storing a container would do to a row. Its cells are judged against variants that lose no more than it does
// (`required`: RequiredProfile): beside those that lose more it is a variant of its own.
struct StorePlan {
  std::vector<v1::CellRecord> taken;  // cells the new part provides
  uint32_t same_cells = 0;            // there with the same content, or with more rows
  uint32_t other_cells = 0;           // there with other content: the first stay
};
StorePlan PlanStore(const std::optional<v1::ChunkRecord>& row, const ContainerHeader& header, ProfileId required,
                    const CellMap& cells);

// KV bytes before coding of the cells, of a chunk of `num_tokens`.
uint64_t RawBytes(const Model& model, uint32_t num_tokens,
                  const google::protobuf::RepeatedPtrField<v1::CellRecord>& cells);

// Appends `part`, whose cells are taken from the parts that held them with the same loss. Returns the locations of
// parts that hold nothing any more (removed from the row).
std::vector<ValueLocation> AddPart(const Model& model, v1::PartRecord part, v1::ChunkRecord& row);

}  // namespace kdn

#endif  // KDN_SERVER_CORE_CHUNK_CELLS_H_
