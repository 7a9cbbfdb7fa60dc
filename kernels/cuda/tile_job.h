#ifndef KDN_KERNELS_CUDA_TILE_JOB_H_
#define KDN_KERNELS_CUDA_TILE_JOB_H_

#include <cstddef>
#include <cstdint>

#include "kernels/base/host_device.h"
#include "kernels/format/profile.h"
#include "kernels/layout/dtype.h"

// One tile to decode into a strided or paged cache: what a kernel reads of it. A launch takes an array of these, for
// tiles of any layers, heads, chunks and profiles.

namespace kdn {

// Where rows of one KV head go. Element (row i of those written, channel d) lies at
//   data + block * block_stride_bytes + place * token_stride_bytes + d * channel_stride_bytes
// where t = token + i, and without a block table block = 0 and place = t, with one block = blocks[t / block_tokens] and
// place = t % block_tokens (as KvPlane). Pointers are ones the decoding side can dereference.
struct TileDestination {
  uint8_t* data = nullptr;  // element (view token 0, this head, channel 0)
  int64_t token_stride_bytes = 0;
  int64_t channel_stride_bytes = 0;
  int64_t block_stride_bytes = 0;
  const int32_t* blocks = nullptr;
  uint32_t block_tokens = 0;  // 0 = no block table
  uint32_t token = 0;         // view token of the first row written
};

// The rotary embedding of K that is stored without it. cos_sin: [tile row][pairs cosines, then pairs sines], as
// RopeTable holds them.
struct TileRope {
  const float* cos_sin = nullptr;  // null: rows are stored as the cache holds them
  uint32_t offset = 0;             // first channel that rotates
  uint32_t pairs = 0;
  bool interleaved = false;  // pairs (2i, 2i + 1) instead of (i, i + pairs)
};

struct TileJob {
  const uint8_t* coded = nullptr;  // at a multiple of 16
  uint32_t coded_bytes = 0;
  uint32_t tokens = 0;
  uint32_t dim = 0;
  DType dtype = DType::kBf16;
  ProfileId profile = ProfileId::kRaw;
  KvKind kind = KvKind::kK;
  uint32_t row_begin = 0;  // rows of the tile to write
  uint32_t row_count = 0;
  TileDestination destination;
  TileRope rope;
  const uint32_t* lossless_table = nullptr;  // LosslessTables::DecodeTable of the tile's set
  uint32_t lossless_prob_bits = 0;
};

// What decoding a tile ended with. The bytes that a header check cannot judge (the entropy coder's) are judged by the
// decoder itself, which never reads or writes out of bounds whatever they are.
enum class TileOutcome : uint32_t {
  kDecoded = 0,
  kEndsEarly = 1,       // words or escapes do not suffice
  kLeftOver = 2,        // words or escapes are left over, or a lane ends in a wrong state
  kUnknownProfile = 3,  // not one of this decoder's
};

// Tiles to decode in one launch. All pointers are device memory, the caller's, and stay as they are until the stream
// has passed the launch.
struct TileBatch {
  const TileJob* jobs = nullptr;    // each accepted by CheckTileJob; their pointers are device memory too
  TileOutcome* outcomes = nullptr;  // written for each job
  uint32_t count = 0;               // 0: nothing is launched
  uint32_t widest_dim = 0;          // at least the dim of every job
};

// Rows that are decoded together before they are written: a whole number of steps of 32 elements, and whole rows.
inline constexpr uint32_t kStageElements = 512;

KDN_HD constexpr uint32_t StageRows(uint32_t dim) {
  const uint32_t unit = dim % 32 == 0 ? 1 : 2;
  const uint32_t units = kStageElements / (unit * dim);
  return unit * (units == 0 ? 1 : units);
}

// 32-bit words of scratch that one tile of this width needs.
KDN_HD constexpr uint32_t StageWords(uint32_t dim) { return StageRows(dim) * dim; }

// The most that a tile of at most this width needs: narrower ones may need more than the widest.
KDN_HD constexpr uint32_t MaxStageWords(uint32_t widest_dim) {
  return 2 * widest_dim > kStageElements ? 2 * widest_dim : kStageElements;
}

}  // namespace kdn

#endif  // KDN_KERNELS_CUDA_TILE_JOB_H_
