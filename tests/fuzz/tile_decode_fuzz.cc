#include <cstdint>
#include <cstdlib>

#include "kernels/codec/tile_codec.h"
#include "kernels/cuda/tile_check.h"
#include "kernels/cuda/tile_decode_core.h"

namespace {

// What the device's kernel does, in loops; false where the host's check refuses the tile.
bool DecodeAsDevice(const kdn::TileGeometry& geometry, kdn::ProfileId profile, kdn::ByteSpan coded,
                    kdn::MutableByteSpan rows) {
  const kdn::LosslessTables& tables = kdn::LosslessTables::BuiltIn();
  kdn::TileJob job;
  job.coded = coded.data();
  job.coded_bytes = static_cast<uint32_t>(coded.size());
  job.tokens = geometry.tokens;
  job.dim = geometry.dim;
  job.dtype = geometry.dtype;
  job.profile = profile;
  job.kind = geometry.kind;
  job.row_count = geometry.tokens;
  job.destination.data = rows.data();
  job.destination.channel_stride_bytes = kdn::DTypeBytes(geometry.dtype);
  job.destination.token_stride_bytes = job.destination.channel_stride_bytes * geometry.dim;
  job.lossless_table = tables.DecodeTable(0);
  job.lossless_prob_bits = tables.prob_bits();
  if (!kdn::CheckTileJob(geometry, job, coded, tables).ok()) return false;
  std::vector<uint32_t> stage(kdn::StageWords(geometry.dim));
  return kdn::cuda_internal::DecodeTile<kdn::HostLanes>(job, stage.data()) == kdn::TileOutcome::kDecoded;
}

bool DeviceDecodes(kdn::ProfileId profile) { return profile <= kdn::ProfileId::kQ4; }

}  // namespace

// Tiles are hostile: the decoder answers with a status or some rows, the same on every instruction set and on a device.
// Input: dtype (and 128 for V), profile, tokens, dim / 16, then the tile.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  const kdn::TileGeometry geometry = {static_cast<kdn::DType>(data[0] & 127), data[2], uint32_t{16} * data[3], 0, 0,
                                      static_cast<kdn::KvKind>(data[0] >> 7)};
  const auto profile = static_cast<kdn::ProfileId>(data[1]);
  const kdn::ByteSpan coded(data + 4, size - 4);
  if (!kdn::ValidateTileGeometry(geometry).ok()) return 0;
  std::vector<uint8_t> reference(geometry.raw_bytes());
  const bool ok = kdn::TileDecoder({}, kdn::Isa::kScalar).Decode(geometry, profile, coded, reference).ok();
  for (const kdn::Isa isa : {kdn::Isa::kAvx2, kdn::Isa::kAvx512}) {
    if (!kdn::IsaSupported(isa)) continue;
    std::vector<uint8_t> rows(geometry.raw_bytes());
    if (kdn::TileDecoder({}, isa).Decode(geometry, profile, coded, rows).ok() != ok) std::abort();
    if (ok && rows != reference) std::abort();
  }
  if (!DeviceDecodes(profile)) return 0;
  std::vector<uint8_t> rows(geometry.raw_bytes());
  if (DecodeAsDevice(geometry, profile, coded, rows) != ok) std::abort();
  if (ok && rows != reference) std::abort();
  return 0;
}
