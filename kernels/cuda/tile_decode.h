#ifndef KDN_KERNELS_CUDA_TILE_DECODE_H_
#define KDN_KERNELS_CUDA_TILE_DECODE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/cuda/tile_job.h"

// Decoding tiles on a CUDA device. Available when KDN was built with KDN_WITH_CUDA; otherwise every call is
// Unimplemented, naming that option.

namespace kdn {

// A cudaStream_t.
using DeviceStream = void*;

// Whether this build has the kernels and a device answers.
absl::Status DeviceDecodeAvailable();

// Launches one kernel on `stream`, which decodes every job of the batch; a warp takes a tile. Neither synchronises nor
// allocates. The rows of a tile whose outcome is not kDecoded are unspecified. Returns the launch's own error only
// (Internal, with CUDA's words; InvalidArgument for a batch that leaves the limits): what the kernel did is known when
// the stream has passed it. Thread-safe.
absl::Status LaunchTileDecode(const TileBatch& batch, DeviceStream stream);

}  // namespace kdn

#endif  // KDN_KERNELS_CUDA_TILE_DECODE_H_
