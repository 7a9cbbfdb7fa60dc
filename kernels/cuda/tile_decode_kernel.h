#ifndef KDN_KERNELS_CUDA_TILE_DECODE_KERNEL_H_
#define KDN_KERNELS_CUDA_TILE_DECODE_KERNEL_H_

#include "kernels/cuda/tile_job.h"

// Between the host compiler's code and nvcc's: no header of Abseil crosses it.

namespace kdn::cuda_internal {

// A cudaError_t.
int LaunchTileDecodeKernel(const TileBatch& batch, void* stream);

}  // namespace kdn::cuda_internal

#endif  // KDN_KERNELS_CUDA_TILE_DECODE_KERNEL_H_
