#ifndef KDN_KERNELS_CODEC_ROW_COPY_H_
#define KDN_KERNELS_CODEC_ROW_COPY_H_

#include <cstdint>

#include "kernels/base/bytes.h"
#include "kernels/layout/kv_view.h"

// Rows of one head of a plane against contiguous rows. Internal to kernels/codec.

namespace kdn::codec_internal {

// K or V of one layer and head of a view, in memory the host can touch.
struct HeadRows {
  KvPlane plane;
  BlockTable table;
  uint32_t local_head = 0;  // counted from the view's first head
  uint32_t dim = 0;         // channels
  uint32_t element_bytes = 0;

  size_t row_bytes() const { return static_cast<size_t>(dim) * element_bytes; }
};

// Address of `count` rows from view token `token` if they lie contiguously there, null otherwise.
uint8_t* ContiguousRows(const HeadRows& head, uint32_t token, uint32_t count);

// Rows outside the view: row r at data + r * stride_bytes, its channels together.
struct RowsOut {
  uint8_t* data = nullptr;
  size_t stride_bytes = 0;
};
struct RowsIn {
  const uint8_t* data = nullptr;
  size_t stride_bytes = 0;
};

// Copies rows of view tokens [token, token + count) to `out`.
void GatherRows(const HeadRows& head, uint32_t token, uint32_t count, RowsOut out);

// Copies rows to view tokens [token, token + count).
void ScatterRows(const HeadRows& head, uint32_t token, uint32_t count, RowsIn rows);

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_ROW_COPY_H_
