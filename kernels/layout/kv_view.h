#ifndef KDN_KERNELS_LAYOUT_KV_VIEW_H_
#define KDN_KERNELS_LAYOUT_KV_VIEW_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "kernels/layout/dtype.h"
#include "kernels/layout/model_spec.h"

// A typed, strided, non-owning view of an engine's KV: the source of a store and the destination of a retrieve. Strides
// say the layout; there is no layout enumeration. Axes of one plane: [token][head][channel], each with its own stride.

namespace kdn {

enum class MemoryKind : uint8_t {
  kHost = 0,    // ordinary memory
  kPinned = 1,  // page-locked host memory
  kDevice = 2,  // CUDA device memory: dereferenced by kernels only
};

// K or V of one layer. Element (token t, head h, channel d) lies at
//   data + block(t) * block_stride_bytes + row(t) * token_stride_bytes + h * head_stride_bytes + d *
//   channel_stride_bytes
// where without a block table block(t) = 0 and row(t) = t, and with one block(t) = blocks[t / block_tokens] and
// row(t) = t % block_tokens. Strides may be negative; they may not make two elements overlap.
struct KvPlane {
  uint8_t* data = nullptr;  // element (0, 0, 0); null when the view does not hold this plane
  int64_t token_stride_bytes = 0;
  int64_t head_stride_bytes = 0;
  int64_t channel_stride_bytes = 0;
  int64_t block_stride_bytes = 0;  // used with a block table only
};

// Paged caches: token t of the view lies in physical block blocks[t / block_tokens].
struct BlockTable {
  std::span<const int32_t> blocks;  // physical block numbers, each >= 0
  uint32_t block_tokens = 0;        // tokens in a block; 0 = no block table
};

// One layer of a view. `first_row` lets sliding-window layers hold only their newest rows: tokens of the view before it
// are absent (planes are still addressed by t, so data points at where token 0 would be; rows before first_row are
// never touched).
struct KvLayerView {
  uint32_t layer = 0;      // index into ModelSpec::layers
  uint32_t first_row = 0;  // first token of the view present at this layer, <= KvView::num_tokens
  KvPlane k;
  KvPlane v;  // data null for latents
};

// The part of the model's KV that one caller holds: some layers (all, or a pipeline stage's) x a range of KV heads
// (all, or a tensor-parallel rank's) x num_tokens tokens, of which view token 0 is the first token of the span the call
// is about. A plain value; the memory, the block table and their lifetime are the caller's.
struct KvView {
  DType dtype = DType::kBf16;
  MemoryKind memory = MemoryKind::kHost;
  uint32_t num_tokens = 0;
  uint32_t head_begin = 0;  // first global KV head held
  uint32_t head_count = 0;  // heads held at every layer
  BlockTable block_table;
  std::vector<KvLayerView> layers;  // ascending layer index, no duplicates
};

// Address of element (token, head - head_begin = local_head, channel 0). No bounds are checked.
inline uint8_t* ElementAddress(const KvPlane& plane, const BlockTable& table, uint64_t token, uint32_t local_head) {
  uint8_t* base = plane.data + static_cast<int64_t>(local_head) * plane.head_stride_bytes;
  if (table.block_tokens == 0) return base + static_cast<int64_t>(token) * plane.token_stride_bytes;
  return base + table.blocks[token / table.block_tokens] * plane.block_stride_bytes +
         static_cast<int64_t>(token % table.block_tokens) * plane.token_stride_bytes;
}

// OK when `view` fits `spec`: dtype equal, layers ascending and known, heads inside every layer's range, planes present
// (V absent exactly for latents), block table long enough for num_tokens. Else InvalidArgument naming the field.
absl::Status ValidateKvView(const ModelSpec& spec, const KvView& view);

// OK when `view`, which ValidateKvView accepts, can be written to: no block twice among those that hold rows, no plane
// twice, and strides that nest (each goes past all that the smaller ones reach), so that no element of a plane lies on
// another. Else InvalidArgument naming the field.
absl::Status ValidateDestination(const ModelSpec& spec, const KvView& view);

// Bytes of KV that tokens [token_begin, token_begin + tokens) of `view` hold, absent rows not counted.
uint64_t ViewBytes(const ModelSpec& spec, const KvView& view, uint32_t token_begin, uint32_t tokens);

}  // namespace kdn

#endif  // KDN_KERNELS_LAYOUT_KV_VIEW_H_
