#ifndef KDN_KERNELS_CUDA_TILE_CHECK_H_
#define KDN_KERNELS_CUDA_TILE_CHECK_H_

#include "absl/status/status.h"
#include "kernels/base/bytes.h"
#include "kernels/codec/lossless_tables.h"
#include "kernels/codec/tile_geometry.h"
#include "kernels/cuda/tile_job.h"

namespace kdn {

// What must be checked on the host before a tile's bytes reach a kernel, which takes its header for granted. `coded`
// are the tile's bytes in memory the host can read, equal to those behind job.coded; the section's CRC was checked.
// OK when DecodeTile may run the job: it then neither reads nor writes out of bounds, whatever the entropy-coded part
// holds. DataLoss when the bytes are no tile of this geometry and profile, saying why; InvalidArgument when job and
// geometry disagree or the job's rows leave the tile; Unimplemented for profiles the kernels do not have, and for
// lossless objects that hold the channels themselves.
absl::Status CheckTileJob(const TileGeometry& geometry, const TileJob& job, ByteSpan coded,
                          const LosslessTables& tables);

}  // namespace kdn

#endif  // KDN_KERNELS_CUDA_TILE_CHECK_H_
