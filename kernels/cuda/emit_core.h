#ifndef KDN_KERNELS_CUDA_EMIT_CORE_H_
#define KDN_KERNELS_CUDA_EMIT_CORE_H_

#include <cstring>

#include "kernels/codec/element_core.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/tile_job.h"

// The last part of decoding, one source for host and device: staged rows are rotated, rounded to the dtype and written
// to their place, 16 bytes at a time where the cache allows it.

namespace kdn::cuda_internal {

// What the words of a stage are: the bits of elements, or fp32 values that are still to be rounded.
enum class StageKind : uint8_t { kElements, kValues };

inline constexpr uint32_t kStoreBytes = 16;

struct alignas(kStoreBytes) StoreBlock {
  uint32_t words[kStoreBytes / 4];
};

KDN_HD inline float WidenAny(DType dtype, uint32_t element) {
  switch (dtype) {
    case DType::kBf16:
      return WidenElement<DType::kBf16>(element);
    case DType::kFp16:
      return WidenElement<DType::kFp16>(element);
    case DType::kFp8E4M3:
      return WidenElement<DType::kFp8E4M3>(element);
    case DType::kFp8E5M2:
      return WidenElement<DType::kFp8E5M2>(element);
    case DType::kFp32:
      return WidenElement<DType::kFp32>(element);
  }
  return 0.0f;
}

KDN_HD inline uint32_t NarrowAny(DType dtype, float value) {
  switch (dtype) {
    case DType::kBf16:
      return NarrowElement<DType::kBf16>(value);
    case DType::kFp16:
      return NarrowElement<DType::kFp16>(value);
    case DType::kFp8E4M3:
      return NarrowElement<DType::kFp8E4M3>(value);
    case DType::kFp8E5M2:
      return NarrowElement<DType::kFp8E5M2>(value);
    case DType::kFp32:
      return NarrowElement<DType::kFp32>(value);
  }
  return 0;
}

// One row of a stage.
struct StagedRow {
  const uint32_t* words;  // [dim]
  const float* cos_sin;   // of this row; null without a rotation
  const TileRope* rope;
  DType dtype;
  StageKind kind;

  KDN_HD float Value(uint32_t channel) const {
    return kind == StageKind::kValues ? BitsFloat(words[channel]) : WidenAny(dtype, words[channel]);
  }

  // (a, b) -> (a cos - b sin, b cos + a sin), as RowKernels has it.
  KDN_HD float Rotated(uint32_t channel) const {
    const uint32_t within = channel - rope->offset;  // wraps for channels before the slice
    if (within >= 2 * rope->pairs) return Value(channel);
    const uint32_t pair = rope->interleaved ? within / 2 : within % rope->pairs;
    const bool is_second = rope->interleaved ? (within & 1) != 0 : within >= rope->pairs;
    const uint32_t step = rope->interleaved ? 1 : rope->pairs;
    const float cosine = cos_sin[pair];
    const float sine = cos_sin[rope->pairs + pair];
    const float own = Value(channel);
    if (is_second) return own * cosine + Value(channel - step) * sine;
    return own * cosine - Value(channel + step) * sine;
  }

  KDN_HD uint32_t Element(uint32_t channel) const {
    if (cos_sin != nullptr) return NarrowAny(dtype, Rotated(channel));
    return kind == StageKind::kElements ? words[channel] : NarrowAny(dtype, BitsFloat(words[channel]));
  }
};

KDN_HD inline uint8_t* RowAddress(const TileDestination& to, uint32_t row) {
  const uint32_t token = to.token + row;
  if (to.block_tokens == 0) return to.data + static_cast<int64_t>(token) * to.token_stride_bytes;
  return to.data + to.blocks[token / to.block_tokens] * to.block_stride_bytes +
         static_cast<int64_t>(token % to.block_tokens) * to.token_stride_bytes;
}

// Writes kStoreBytes of a row's elements, from `channel` on.
KDN_HD inline void StoreElements(const TileJob& job, const StagedRow& row, uint32_t channel, uint8_t* row_address) {
  const uint32_t bytes = DTypeBytes(job.dtype);
  const uint32_t count = kStoreBytes / bytes;
  const int64_t stride = job.destination.channel_stride_bytes;
  uint8_t* const at = row_address + static_cast<int64_t>(channel) * stride;
  StoreBlock block = {};
  for (uint32_t i = 0; i < count; ++i) {
    block.words[i * bytes / 4] |= row.Element(channel + i) << (8 * (i * bytes % 4));
  }
  if (stride == bytes && reinterpret_cast<uintptr_t>(at) % kStoreBytes == 0) {
    *reinterpret_cast<StoreBlock*>(at) = block;
    return;
  }
  for (uint32_t i = 0; i < kStoreBytes; ++i) {
    at[static_cast<int64_t>(i / bytes) * stride + i % bytes] =
        static_cast<uint8_t>(block.words[i / 4] >> (8 * (i % 4)));
  }
}

// Writes those of the staged tile rows [first, first + count) that the job asks for.
template <typename Lanes>
KDN_HD void EmitRows(const TileJob& job, const uint32_t* stage, StageKind kind, uint32_t first, uint32_t count) {
  const uint32_t stores_of_row = job.dim * DTypeBytes(job.dtype) / kStoreBytes;
  Lanes::Strided(count * stores_of_row, [&](uint32_t i) {
    const uint32_t staged = i / stores_of_row;
    const uint32_t wanted = first + staged - job.row_begin;  // wraps for rows before those wanted
    if (wanted >= job.row_count) return;
    const float* cos_sin =
        job.rope.cos_sin == nullptr ? nullptr : job.rope.cos_sin + size_t{first + staged} * 2 * job.rope.pairs;
    const StagedRow row = {stage + staged * job.dim, cos_sin, &job.rope, job.dtype, kind};
    StoreElements(job, row, i % stores_of_row * (kStoreBytes / DTypeBytes(job.dtype)),
                  RowAddress(job.destination, wanted));
  });
}

}  // namespace kdn::cuda_internal

#endif  // KDN_KERNELS_CUDA_EMIT_CORE_H_
