#ifndef KDN_KERNELS_CODEC_TILE_CODEC_H_
#define KDN_KERNELS_CODEC_TILE_CODEC_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "kernels/codec/isa.h"
#include "kernels/codec/lossless_tables.h"
#include "kernels/codec/lossless_tile.h"
#include "kernels/codec/tile_geometry.h"
#include "kernels/format/profile.h"

// Encoding and decoding of single tiles at any profile that this build knows: raw and lossless. Both classes keep their
// scratch between calls and are not thread-safe: one per thread.

namespace kdn {

// The calibration objects a coder works with. Borrowed: they outlive the coder.
struct CodecTables {
  const LosslessTables* lossless = &LosslessTables::BuiltIn();
};

class TileEncoder {
 public:
  explicit TileEncoder(CodecTables tables = {}, Isa isa = BestIsa()) : tables_(tables), isa_(isa), lossless_(isa) {}

  // Codes `rows` ([token][channel], geometry.raw_bytes() bytes) and appends the result to `out`. Returns the profile
  // used: `wanted`, or raw where lossless does not gain at least raw_bytes / kMinGainDivisor. InvalidArgument on bad
  // geometry, a wrong size of `rows` or tables that do not cover the tile; Unimplemented, naming the profile, for other
  // profiles; FailedPrecondition when the machine cannot run the chosen instruction set. On an error `out` is
  // unchanged.
  absl::StatusOr<ProfileId> Encode(const TileGeometry& geometry, ByteSpan rows, ProfileId wanted,
                                   std::vector<uint8_t>& out);

  static constexpr size_t kMinGainDivisor = 64;

 private:
  CodecTables tables_;
  Isa isa_;
  LosslessTileEncoder lossless_;
};

class TileDecoder {
 public:
  explicit TileDecoder(CodecTables tables = {}, Isa isa = BestIsa()) : tables_(tables), isa_(isa), lossless_(isa) {}

  // Decodes the hostile bytes `coded` into `rows` (geometry.raw_bytes() bytes), without allocating. DataLoss when they
  // are no tile of this geometry and profile, and `rows` are then unspecified; other errors as TileEncoder::Encode.
  absl::Status Decode(const TileGeometry& geometry, ProfileId profile, ByteSpan coded, MutableByteSpan rows);

 private:
  CodecTables tables_;
  Isa isa_;
  LosslessTileDecoder lossless_;
};

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_TILE_CODEC_H_
