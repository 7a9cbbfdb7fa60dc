#ifndef KDN_KERNELS_CODEC_SECTION_ROWS_H_
#define KDN_KERNELS_CODEC_SECTION_ROWS_H_

#include <algorithm>
#include <cstdint>

#include "kernels/codec/row_copy.h"
#include "kernels/layout/kv_view.h"
#include "kernels/layout/model_spec.h"

// Where the rows of a section lie in a view. Internal to kernels/codec.

namespace kdn::codec_internal {

// Rows of a tile that starts at `position` and holds attention sinks: tokens at the start of a sequence that many heads
// attend to whatever they hold, and whose K and V are unlike all others.
inline constexpr uint64_t kSinkPositions = 4;
// Those that profile transform keeps raw: at equal bytes one raw row loses no more than four (SmolLM2 at 16x, by
// kdn.calibrate's evaluation), none several times as much.
inline constexpr uint64_t kTransformSinkPositions = 1;

inline uint32_t SinkRows(uint64_t position, uint32_t rows, uint64_t sink_positions = kSinkPositions) {
  return position < sink_positions ? std::min(static_cast<uint32_t>(sink_positions - position), rows) : 0;
}

// Null when the view does not hold the layer.
inline const KvLayerView* FindLayer(const KvView& view, uint32_t layer) {
  const auto at = std::lower_bound(view.layers.begin(), view.layers.end(), layer,
                                   [](const KvLayerView& held, uint32_t wanted) { return held.layer < wanted; });
  return at == view.layers.end() || at->layer != layer ? nullptr : &*at;
}

inline bool HoldsHead(const KvView& view, uint32_t head) {
  return head >= view.head_begin && head - view.head_begin < view.head_count;
}

// K or V of a layer and head that the view holds.
inline HeadRows RowsOfHead(const ModelSpec& spec, const KvView& view, const KvLayerView& layer, uint32_t head,
                           KvKind kind) {
  const LayerSpec& model = spec.layers[layer.layer];
  const bool is_k = kind == KvKind::kK;
  return {is_k ? layer.k : layer.v, view.block_table, head - view.head_begin,
          is_k ? model.k_head_dim : model.v_head_dim, DTypeBytes(view.dtype)};
}

// First row of a chunk whose row 0 is the view's token `view_token` that the view's layer holds; may be beyond the
// chunk.
inline uint32_t FirstHeldRow(const KvLayerView& layer, uint32_t view_token) {
  return layer.first_row > view_token ? layer.first_row - view_token : 0;
}

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_SECTION_ROWS_H_
