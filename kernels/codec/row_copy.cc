#include "kernels/codec/row_copy.h"

#include <algorithm>
#include <cstring>

namespace kdn::codec_internal {
namespace {

// Rows of [token, token + count) that share a block with `token`.
uint32_t RunLength(const BlockTable& table, uint32_t token, uint32_t count) {
  if (table.block_tokens == 0) return count;
  return std::min(count, table.block_tokens - token % table.block_tokens);
}

template <typename Copy>
void ForEachRow(const HeadRows& head, uint32_t token, uint32_t count, Copy&& copy) {
  for (uint32_t row = 0; row < count;) {
    const uint32_t run = RunLength(head.table, token + row, count - row);
    uint8_t* address = ElementAddress(head.plane, head.table, token + row, head.local_head);
    for (uint32_t i = 0; i < run; ++i, ++row) copy(row, address + i * head.plane.token_stride_bytes);
  }
}

template <uint32_t kBytes>
void GatherElements(const HeadRows& head, const uint8_t* from, uint8_t* to) {
  for (uint32_t channel = 0; channel < head.dim; ++channel) {
    std::memcpy(to + static_cast<size_t>(channel) * kBytes, from + channel * head.plane.channel_stride_bytes, kBytes);
  }
}

template <uint32_t kBytes>
void ScatterElements(const HeadRows& head, const uint8_t* from, uint8_t* to) {
  for (uint32_t channel = 0; channel < head.dim; ++channel) {
    std::memcpy(to + channel * head.plane.channel_stride_bytes, from + static_cast<size_t>(channel) * kBytes, kBytes);
  }
}

using RowFunction = void (*)(const HeadRows&, const uint8_t*, uint8_t*);

void CopyWholeRow(const HeadRows& head, const uint8_t* from, uint8_t* to) { std::memcpy(to, from, head.row_bytes()); }

RowFunction ChooseRow(const HeadRows& head, RowFunction one, RowFunction two, RowFunction four) {
  if (head.plane.channel_stride_bytes == head.element_bytes) return CopyWholeRow;
  return head.element_bytes == 1 ? one : head.element_bytes == 2 ? two : four;
}

}  // namespace

uint8_t* ContiguousRows(const HeadRows& head, uint32_t token, uint32_t count) {
  const bool rows_touch = head.plane.channel_stride_bytes == head.element_bytes &&
                          head.plane.token_stride_bytes == static_cast<int64_t>(head.row_bytes());
  if (!rows_touch || RunLength(head.table, token, count) != count) return nullptr;
  return ElementAddress(head.plane, head.table, token, head.local_head);
}

void GatherRows(const HeadRows& head, uint32_t token, uint32_t count, RowsOut out) {
  const RowFunction copy = ChooseRow(head, GatherElements<1>, GatherElements<2>, GatherElements<4>);
  ForEachRow(head, token, count,
             [&](uint32_t row, const uint8_t* address) { copy(head, address, out.data + row * out.stride_bytes); });
}

void ScatterRows(const HeadRows& head, uint32_t token, uint32_t count, RowsIn rows) {
  const RowFunction copy = ChooseRow(head, ScatterElements<1>, ScatterElements<2>, ScatterElements<4>);
  ForEachRow(head, token, count,
             [&](uint32_t row, uint8_t* address) { copy(head, rows.data + row * rows.stride_bytes, address); });
}

}  // namespace kdn::codec_internal
