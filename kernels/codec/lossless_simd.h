#ifndef KDN_KERNELS_CODEC_LOSSLESS_SIMD_H_
#define KDN_KERNELS_CODEC_LOSSLESS_SIMD_H_

#include <cstdint>
#include <cstring>

#include "kernels/codec/lossless_kernels.h"

// What the vector implementations of lossless_kernels.h have in common. Nothing here carries a target attribute: the
// instructions are in the functions that are passed in.

namespace kdn::codec_internal {

// Bytes that one step of a vector decoder may read from DecodeJob::words on: a word for each lane.
inline constexpr size_t kStepReadBytes = 64;

// Decodes steps from `step` while kStepReadBytes may be read at job.words, which `readable_end` bounds. Returns the
// first step not decoded, or UINT32_MAX when the escapes ran out.
using DecodeRunFunction = uint32_t (*)(DecodeJob& job, uint32_t step, uint32_t last, const uint8_t* readable_end);

// LosslessKernels::decode by a vector decoder. The last words are decoded from a copy with room behind it, so that no
// load leaves the tile.
inline bool DecodeByRuns(DecodeRunFunction run, DecodeJob& job, uint32_t first, uint32_t last) {
  uint32_t step = run(job, first, last, job.words_end);
  if (step == UINT32_MAX) return false;
  if (step == last) return true;
  uint8_t tail[2 * kStepReadBytes] = {};
  const auto left = static_cast<size_t>(job.words_end - job.words);  // < kStepReadBytes: that is why the run ended
  const uint8_t* const words = job.words;
  std::memcpy(tail, words, left);
  job.words = tail;
  step = run(job, step, last, tail + left + kStepReadBytes);
  const auto used = static_cast<size_t>(job.words - tail);
  if (step != last || used > left) return false;
  job.words = words + used;
  return true;
}

// body.operator()<dtype>(), for a function compiled for each dtype; a value of no dtype gives the default result.
template <typename Body>
auto ForDType(DType dtype, Body body) {
  switch (dtype) {
    case DType::kBf16:
      return body.template operator()<DType::kBf16>();
    case DType::kFp16:
      return body.template operator()<DType::kFp16>();
    case DType::kFp8E4M3:
      return body.template operator()<DType::kFp8E4M3>();
    case DType::kFp8E5M2:
      return body.template operator()<DType::kFp8E5M2>();
    case DType::kFp32:
      return body.template operator()<DType::kFp32>();
  }
  return decltype(body.template operator()<DType::kBf16>())();
}

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_LOSSLESS_SIMD_H_
