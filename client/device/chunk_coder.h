#ifndef KDN_CLIENT_DEVICE_CHUNK_CODER_H_
#define KDN_CLIENT_DEVICE_CHUNK_CODER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "client/transport/miss_reason.h"
#include "kernels/base/bytes.h"
#include "kernels/chunk/chunker.h"
#include "kernels/format/container.h"
#include "kernels/layout/cell_map.h"
#include "kernels/layout/kv_view.h"
#include "kernels/layout/model_spec.h"

// Between containers and an engine's memory. Host memory only. Thread-safe: each call works on what it is given.

namespace kdn {

// One chunk in a view. Borrowed for the duration of a call.
struct ChunkPlace {
  const ModelSpec& spec;
  const CellMap& cells;
  const Fingerprint& fingerprint;
  const KvView& view;
  ChunkId chunk;
  uint32_t view_offset = 0;  // token of the view at which the chunk begins
};

// The container of `wanted` cells of the chunk, of which the view holds every layer. Rows before FirstHeldRow of a cell
// are left out. Unimplemented for a profile this build cannot encode.
absl::StatusOr<std::vector<uint8_t>> EncodeCells(const ChunkPlace& place, const CellSet& wanted, ProfileId profile);

// KV bytes of those cells that the view holds.
uint64_t RawBytes(const ChunkPlace& place, const CellSet& cells);

// At least the size of the container that EncodeCells makes of them.
uint64_t EncodedBytesEstimate(const ChunkPlace& place, const CellSet& wanted);

// Why a container's bytes are not what was asked for.
struct ContainerFault {
  MissReason reason = MissReason::kCorrupt;
  std::string message;
};

// The parsed header when it is sound, fits the model and is of this chunk; else why not. `bytes` starts with the
// header. chunk.num_tokens 0: the chunk is known by its digest alone.
struct CheckedHeader {
  ContainerHeader header;
  std::optional<ContainerFault> fault;
};
CheckedHeader CheckHeader(const ModelSpec& spec, const CellMap& cells, const Fingerprint& fingerprint,
                          const ChunkId& chunk, ByteSpan bytes);

// What DecodePart wrote.
struct DecodedPart {
  std::optional<ContainerFault> fault;  // set: what was written is unspecified
  // Per cell taken: the first row of the chunk that it holds.
  std::vector<std::pair<uint32_t, uint32_t>> first_rows;
  uint64_t written_bytes = 0;
};

// Verifies `container` (whole, but for sections of cells not in `take`) and writes the cells of `take` that the view
// holds into the view. Every byte written was checked against its section's checksum before.
DecodedPart DecodePart(const ChunkPlace& place, ByteSpan container, const CellSet& take);

}  // namespace kdn

#endif  // KDN_CLIENT_DEVICE_CHUNK_CODER_H_
