#include <cuda_runtime_api.h>

#include "kernels/base/status.h"
#include "kernels/codec/tile_geometry.h"
#include "kernels/cuda/tile_decode.h"
#include "kernels/cuda/tile_decode_kernel.h"

namespace kdn {
namespace {

absl::Status FromCuda(int error, const char* what) {
  if (error == cudaSuccess) return absl::OkStatus();
  return Internal(what, ": ", cudaGetErrorString(static_cast<cudaError_t>(error)));
}

}  // namespace

absl::Status DeviceDecodeAvailable() {
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaSuccess && devices > 0) return absl::OkStatus();
  return FailedPrecondition("no CUDA device: ", cudaGetErrorString(error));
}

absl::Status LaunchTileDecode(const TileBatch& batch, DeviceStream stream) {
  if (batch.widest_dim == 0 || batch.widest_dim > kMaxTileDim || batch.widest_dim % 16 != 0) {
    return InvalidArgument("tile batch: widest dim ", batch.widest_dim, ", a multiple of 16 up to ", kMaxTileDim);
  }
  if (batch.count == 0) return absl::OkStatus();
  return FromCuda(cuda_internal::LaunchTileDecodeKernel(batch, stream), "launch of the tile decoder");
}

}  // namespace kdn
