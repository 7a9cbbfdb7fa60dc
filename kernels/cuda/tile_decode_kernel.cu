#include <cuda_runtime_api.h>

#include "kernels/cuda/tile_decode_core.h"
#include "kernels/cuda/tile_decode_kernel.h"

namespace kdn::cuda_internal {
namespace {

constexpr uint32_t kWarpsPerBlock = 4;

// A warp decodes a tile, through its own part of the block's shared memory.
__global__ void __launch_bounds__(kWarpsPerBlock* kLanes)
    DecodeTiles(const TileJob* jobs, TileOutcome* outcomes, uint32_t count, uint32_t stage_words) {
  extern __shared__ uint32_t stages[];
  const uint32_t warp = threadIdx.x / kLanes;
  const uint32_t tile = blockIdx.x * kWarpsPerBlock + warp;
  if (tile >= count) return;  // whole warps leave
  const TileOutcome outcome = DecodeTile<WarpLanes>(jobs[tile], stages + warp * stage_words);
  if (WarpLanes::Lane() == 0) outcomes[tile] = outcome;
}

}  // namespace

int LaunchTileDecodeKernel(const TileBatch& batch, void* stream) {
  const uint32_t stage_words = MaxStageWords(batch.widest_dim);
  const uint32_t blocks = (batch.count + kWarpsPerBlock - 1) / kWarpsPerBlock;
  const size_t shared_bytes = size_t{kWarpsPerBlock} * stage_words * sizeof(uint32_t);
  DecodeTiles<<<blocks, kWarpsPerBlock * kLanes, shared_bytes, static_cast<cudaStream_t>(stream)>>>(
      batch.jobs, batch.outcomes, batch.count, stage_words);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace kdn::cuda_internal
