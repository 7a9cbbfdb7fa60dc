#include "kernels/base/status.h"
#include "kernels/cuda/tile_decode.h"

namespace kdn {

absl::Status DeviceDecodeAvailable() {
  return Unimplemented("this build has no CUDA kernels: configure with -DKDN_WITH_CUDA=ON");
}

absl::Status LaunchTileDecode(const TileBatch&, DeviceStream) { return DeviceDecodeAvailable(); }

}  // namespace kdn
