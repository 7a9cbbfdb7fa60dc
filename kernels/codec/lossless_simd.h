#ifndef KDN_KERNELS_CODEC_LOSSLESS_SIMD_H_
#define KDN_KERNELS_CODEC_LOSSLESS_SIMD_H_

#include <array>
#include <cstdint>
#include <cstring>

#include "kernels/codec/lossless_kernels.h"

// What the vector implementations of lossless_kernels.h have in common. Nothing here carries a target attribute: the
// instructions are in the functions that are passed in.

namespace kdn::codec_internal {

// Bytes that one step of a vector decoder may read from DecodeJob::words on: a word for each lane.
inline constexpr size_t kStepReadBytes = 64;

// Decodes steps from `step` while a step's bytes may be read at job.words, which `readable_end` bounds. Returns the
// first step not decoded, or UINT32_MAX when the escapes ran out.
template <typename Job>
using DecodeRunFunction = uint32_t (*)(Job& job, uint32_t step, uint32_t last, const uint8_t* readable_end);

// The decode of a set of kernels by a vector decoder that reads at most kReadBytes in a step. The last words are
// decoded from a copy with room behind it, so that no load leaves the tile.
template <size_t kReadBytes, typename Job>
bool DecodeByRuns(DecodeRunFunction<Job> run, Job& job, uint32_t first, uint32_t last) {
  uint32_t step = run(job, first, last, job.words_end);
  if (step == UINT32_MAX) return false;
  if (step == last) return true;
  uint8_t tail[2 * kReadBytes] = {};
  const auto left = static_cast<size_t>(job.words_end - job.words);  // < kReadBytes: that is why the run ended
  const uint8_t* const words = job.words;
  std::memcpy(tail, words, left);
  job.words = tail;
  step = run(job, step, last, tail + left + kReadBytes);
  const auto used = static_cast<size_t>(job.words - tail);
  if (step != last || used > left) return false;
  job.words = words + used;
  return true;
}

// Permutations by an 8-bit lane mask, one byte an index. kExpand: lane i takes the next word where bit i is set.
// kCompressTop: the lanes whose bits are set, in order, at the top.
struct LanePermutations {
  std::array<std::array<uint8_t, 8>, 256> expand{};
  std::array<std::array<uint8_t, 8>, 256> compress_top{};

  constexpr LanePermutations() {
    for (uint32_t mask = 0; mask < 256; ++mask) {
      uint8_t count = 0;
      for (uint8_t lane = 0; lane < 8; ++lane) {
        expand[mask][lane] = count;
        count = static_cast<uint8_t>(count + (mask >> lane & 1));
      }
      auto at = static_cast<uint8_t>(8 - count);
      for (uint8_t lane = 0; lane < 8; ++lane) {
        if (mask >> lane & 1) compress_top[mask][at++] = lane;
      }
    }
  }
};
inline constexpr LanePermutations kLanePermutations;

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
