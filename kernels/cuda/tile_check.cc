#include "kernels/cuda/tile_check.h"

#include "kernels/base/status.h"
#include "kernels/codec/int8_tile.h"
#include "kernels/codec/lossless_tile.h"
#include "kernels/codec/q4_tile.h"

namespace kdn {
namespace {

absl::Status CheckJob(const TileGeometry& geometry, const TileJob& job, size_t coded_bytes) {
  KDN_RETURN_IF_ERROR(ValidateTileGeometry(geometry));
  if (job.tokens != geometry.tokens || job.dim != geometry.dim || job.dtype != geometry.dtype ||
      job.kind != geometry.kind || job.coded_bytes != coded_bytes) {
    return InvalidArgument("tile job: ", job.tokens, " x ", job.dim, " of ", job.coded_bytes, " bytes, the tile is ",
                           geometry.tokens, " x ", geometry.dim, " of ", coded_bytes);
  }
  if (uint64_t{job.row_begin} + job.row_count > job.tokens) {
    return InvalidArgument("tile job: rows [", job.row_begin, ", +", job.row_count, ") of ", job.tokens);
  }
  if (uint64_t{job.rope.offset} + uint64_t{2} * job.rope.pairs > job.dim) {
    return InvalidArgument("tile job: channels [", job.rope.offset, ", +", uint64_t{2} * job.rope.pairs,
                           ") rotate, of ", job.dim);
  }
  return absl::OkStatus();
}

absl::Status CheckLossless(const TileGeometry& geometry, const TileJob& job, ByteSpan coded,
                           const LosslessTables& tables) {
  if (tables.channel_source() == ChannelSource::kObject) {
    return Unimplemented("tile job: the kernels take channels from the tile, not from object ",
                         tables.digest().ToShortHex());
  }
  if (job.lossless_table == nullptr || job.lossless_prob_bits != tables.prob_bits()) {
    return InvalidArgument("tile job: tables of ", job.lossless_prob_bits, " probability bits, not ",
                           tables.prob_bits());
  }
  return CheckLosslessTile(tables, geometry, coded);
}

}  // namespace

absl::Status CheckTileJob(const TileGeometry& geometry, const TileJob& job, ByteSpan coded,
                          const LosslessTables& tables) {
  KDN_RETURN_IF_ERROR(CheckJob(geometry, job, coded.size()));
  switch (job.profile) {
    case ProfileId::kRaw:
      if (coded.size() == geometry.raw_bytes()) return absl::OkStatus();
      return DataLoss("raw tile: ", coded.size(), " bytes, not ", geometry.raw_bytes());
    case ProfileId::kLossless:
      return CheckLossless(geometry, job, coded, tables);
    case ProfileId::kInt8:
      return CheckInt8Tile(geometry, coded);
    case ProfileId::kQ4:
      return CheckQ4Tile(geometry, coded);
    default:
      return Unimplemented("tile job: the kernels do not have profile ", ProfileName(job.profile));
  }
}

}  // namespace kdn
