#include "client/kdn/transcode.h"

#include <algorithm>

#include "kernels/base/status.h"
#include "kernels/codec/chunk_codec.h"

namespace kdn {
namespace {

// Host memory for all KV of a chunk, and the view over it.
struct ChunkMemory {
  KvView view;
  std::vector<uint8_t> bytes;
};

absl::StatusOr<ChunkMemory> MemoryFor(const ModelSpec& spec, const CellMap& cells, const ContainerHeader& header) {
  ChunkMemory memory;
  memory.view.dtype = header.dtype;
  memory.view.num_tokens = header.num_tokens;
  memory.view.head_count = spec.layers[0].num_kv_heads;
  memory.bytes.resize(TokenBytes(spec) * header.num_tokens);
  uint8_t* at = memory.bytes.data();
  for (uint32_t layer = 0; layer < spec.layers.size(); ++layer) {
    const LayerSpec& shape = spec.layers[layer];
    if (shape.num_kv_heads != memory.view.head_count) {
      return InvalidArgument("layers have ", memory.view.head_count, " and ", shape.num_kv_heads,
                             " KV heads: such containers are not coded anew");
    }
    KvLayerView& out = memory.view.layers.emplace_back();
    out.layer = layer;
    std::optional<uint32_t> first_row;
    for (uint32_t head = 0; head < shape.num_kv_heads; ++head) {
      const uint32_t cell = cells.CellOf(layer, head);
      if (!header.cells.Contains(cell)) continue;
      const uint32_t row = FirstRowOfCell(header, cells, cell);
      if (first_row.value_or(row) != row) {
        return InvalidArgument("heads of layer ", layer, " begin at rows ", *first_row, " and ", row);
      }
      first_row = row;
    }
    out.first_row = first_row.value_or(header.num_tokens);
    for (auto [plane, dim] : {std::pair(&out.k, shape.k_head_dim), std::pair(&out.v, shape.v_head_dim)}) {
      if (dim == 0) continue;
      plane->data = at;
      plane->channel_stride_bytes = DTypeBytes(header.dtype);
      plane->token_stride_bytes = plane->channel_stride_bytes * dim;
      plane->head_stride_bytes = plane->token_stride_bytes * header.num_tokens;
      at += plane->head_stride_bytes * shape.num_kv_heads;
    }
  }
  return memory;
}

}  // namespace

absl::StatusOr<std::vector<uint8_t>> TranscodeContainer(const ModelHandle& model, ByteSpan container,
                                                        ProfileId profile) {
  KDN_RETURN_IF_ERROR(CheckEncodable(profile, model.spec().dtype));
  KDN_ASSIGN_OR_RETURN(const ContainerHeader header, ParseContainerHeader(container));
  if (header.fingerprint != model.fingerprint()) {
    return InvalidArgument("container of chunk ", header.chunk_digest.ToShortHex(), " belongs to another model");
  }
  KDN_RETURN_IF_ERROR(CheckAgainstModel(header, model.spec(), model.cells()));
  if (container.size() != header.header_bytes + header.body_bytes) {
    return InvalidArgument("container of chunk ", header.chunk_digest.ToShortHex(), " has ", container.size(),
                           " bytes, its header says ", header.header_bytes + header.body_bytes);
  }
  KDN_ASSIGN_OR_RETURN(const ChunkMemory memory, MemoryFor(model.spec(), model.cells(), header));
  KDN_RETURN_IF_ERROR(DecodeContainer(model.spec(), header, container.subspan(header.header_bytes),
                                      {&memory.view, 0, 0, header.num_tokens}));
  ContainerHeader coded;
  coded.fingerprint = header.fingerprint;
  coded.chunk_digest = header.chunk_digest;
  coded.token_begin = header.token_begin;
  coded.num_tokens = header.num_tokens;
  coded.dtype = header.dtype;
  coded.rope_state = StoredRopeState(profile);
  coded.tile_tokens = DefaultTileTokens(model.spec(), profile);
  coded.cells = header.cells;
  return EncodeChunk(model.spec(), model.cells(), coded, {&memory.view, 0}, profile);
}

}  // namespace kdn
