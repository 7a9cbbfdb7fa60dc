#ifndef KDN_KERNELS_CODEC_ROW_CORE_H_
#define KDN_KERNELS_CODEC_ROW_CORE_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/base/bytes.h"
#include "kernels/codec/element_core.h"
#include "kernels/codec/row_kernels.h"

// The loops behind row_kernels.h, to be inlined into functions that carry a target attribute: the compiler makes them
// vectors there. No result depends on how it does that, since every operation is on one element and rounds once.

#define KDN_INLINE __attribute__((always_inline)) inline

namespace kdn::codec_internal {

template <DType kDType>
struct ElementStorage {
  using Type = uint16_t;
};
template <>
struct ElementStorage<DType::kFp8E4M3> {
  using Type = uint8_t;
};
template <>
struct ElementStorage<DType::kFp8E5M2> {
  using Type = uint8_t;
};
template <>
struct ElementStorage<DType::kFp32> {
  using Type = uint32_t;
};

// LoadLe and StoreLe in a form that compilers vectorise where the machine is little-endian.
template <typename T>
KDN_INLINE T LoadElement(const uint8_t* p) {
  if constexpr (std::endian::native == std::endian::little) {
    T value;
    std::memcpy(&value, p, sizeof(T));
    return value;
  } else {
    return LoadLe<T>(p);
  }
}

template <typename T>
KDN_INLINE void StoreElement(T value, uint8_t* p) {
  if constexpr (std::endian::native == std::endian::little) {
    std::memcpy(p, &value, sizeof(T));
  } else {
    StoreLe<T>(value, p);
  }
}

template <DType kDType>
KDN_INLINE void WidenAll(const uint8_t* __restrict elements, size_t count, float* __restrict out) {
  using Element = typename ElementStorage<kDType>::Type;
  for (size_t i = 0; i < count; ++i) {
    out[i] = WidenElement<kDType>(LoadElement<Element>(elements + i * sizeof(Element)));
  }
}

template <DType kDType>
KDN_INLINE void NarrowAll(const float* __restrict values, size_t count, uint8_t* __restrict out) {
  using Element = typename ElementStorage<kDType>::Type;
  for (size_t i = 0; i < count; ++i) {
    StoreElement(static_cast<Element>(NarrowElement<kDType>(values[i])), out + i * sizeof(Element));
  }
}

// NarrowAll for bf16 in half the operations, where no value of a piece needs what is special about the largest.
KDN_INLINE void NarrowBf16(const float* __restrict values, size_t count, uint8_t* __restrict out) {
  constexpr size_t kPiece = 512;
  constexpr uint32_t kFirstToSaturate = 0x7f7f8000;
  for (size_t begin = 0; begin < count; begin += kPiece) {
    const size_t piece = count - begin < kPiece ? count - begin : kPiece;
    const float* __restrict in = values + begin;
    uint8_t* __restrict to = out + 2 * begin;
    uint32_t largest = 0;
    for (size_t i = 0; i < piece; ++i) {
      const uint32_t magnitude = FloatBits(in[i]) & 0x7fffffff;
      largest = magnitude > largest ? magnitude : largest;
    }
    if (largest >= kFirstToSaturate) {
      NarrowAll<DType::kBf16>(in, piece, to);
      continue;
    }
    for (size_t i = 0; i < piece; ++i) {
      const uint32_t bits = FloatBits(in[i]);
      StoreElement(static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16), to + 2 * i);
    }
  }
}

KDN_INLINE void WidenCore(DType dtype, const uint8_t* elements, size_t count, float* out) {
  switch (dtype) {
    case DType::kBf16:
      return WidenAll<DType::kBf16>(elements, count, out);
    case DType::kFp16:
      return WidenAll<DType::kFp16>(elements, count, out);
    case DType::kFp8E4M3:
      return WidenAll<DType::kFp8E4M3>(elements, count, out);
    case DType::kFp8E5M2:
      return WidenAll<DType::kFp8E5M2>(elements, count, out);
    case DType::kFp32:
      return WidenAll<DType::kFp32>(elements, count, out);
  }
}

KDN_INLINE void NarrowCore(DType dtype, const float* values, size_t count, uint8_t* out) {
  switch (dtype) {
    case DType::kBf16:
      return NarrowBf16(values, count, out);
    case DType::kFp16:
      return NarrowAll<DType::kFp16>(values, count, out);
    case DType::kFp8E4M3:
      return NarrowAll<DType::kFp8E4M3>(values, count, out);
    case DType::kFp8E5M2:
      return NarrowAll<DType::kFp8E5M2>(values, count, out);
    case DType::kFp32:
      return NarrowAll<DType::kFp32>(values, count, out);
  }
}

KDN_INLINE void RotateHalfSplitCore(const RotateJob& job) {
  const uint32_t pairs = job.pairs;
  for (uint32_t row = 0; row < job.row_count; ++row) {
    float* __restrict a = job.rows + static_cast<size_t>(row) * job.dim + job.offset;
    float* __restrict b = a + pairs;
    const float* __restrict cosines = job.cos_sin + static_cast<size_t>(row) * 2 * pairs;
    const float* __restrict sines = cosines + pairs;
    for (uint32_t i = 0; i < pairs; ++i) {
      const float x = a[i];
      const float y = b[i];
      a[i] = x * cosines[i] - y * sines[i];
      b[i] = y * cosines[i] + x * sines[i];
    }
  }
}

KDN_INLINE void RotateInterleavedCore(const RotateJob& job) {
  const uint32_t pairs = job.pairs;
  for (uint32_t row = 0; row < job.row_count; ++row) {
    float* __restrict channels = job.rows + static_cast<size_t>(row) * job.dim + job.offset;
    const float* __restrict cosines = job.cos_sin + static_cast<size_t>(row) * 2 * pairs;
    const float* __restrict sines = cosines + pairs;
    for (uint32_t i = 0; i < pairs; ++i) {
      const float x = channels[2 * i];
      const float y = channels[2 * i + 1];
      channels[2 * i] = x * cosines[i] - y * sines[i];
      channels[2 * i + 1] = y * cosines[i] + x * sines[i];
    }
  }
}

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_ROW_CORE_H_
