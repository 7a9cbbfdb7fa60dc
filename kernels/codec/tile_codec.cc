#include "kernels/codec/tile_codec.h"

#include <cstring>

#include "kernels/base/status.h"

namespace kdn {
namespace {

absl::Status CheckCall(const TileGeometry& geometry, size_t rows_bytes, Isa isa) {
  KDN_RETURN_IF_ERROR(ValidateTileGeometry(geometry));
  if (rows_bytes != geometry.raw_bytes()) {
    return InvalidArgument("tile: rows of ", rows_bytes, " bytes, not ", geometry.raw_bytes());
  }
  if (!IsaSupported(isa)) return FailedPrecondition("tile: this machine does not run ", IsaName(isa));
  return absl::OkStatus();
}

absl::Status UnknownProfile(ProfileId profile) {
  return Unimplemented("tile: profile ", static_cast<uint32_t>(profile), " (", ProfileName(profile),
                       ") is not known to this build");
}

}  // namespace

absl::StatusOr<ProfileId> TileEncoder::Encode(const TileGeometry& geometry, ByteSpan rows, ProfileId wanted,
                                              std::vector<uint8_t>& out) {
  KDN_RETURN_IF_ERROR(CheckCall(geometry, rows.size(), isa_));
  if (wanted != ProfileId::kRaw && wanted != ProfileId::kLossless) return UnknownProfile(wanted);
  if (wanted == ProfileId::kLossless) {
    const size_t max_bytes = rows.size() - rows.size() / kMinGainDivisor;
    KDN_ASSIGN_OR_RETURN(const bool gained, lossless_.Encode(*tables_.lossless, geometry, rows, max_bytes, out));
    if (gained) return ProfileId::kLossless;
  }
  out.insert(out.end(), rows.begin(), rows.end());
  return ProfileId::kRaw;
}

absl::Status TileDecoder::Decode(const TileGeometry& geometry, ProfileId profile, ByteSpan coded,
                                 MutableByteSpan rows) {
  KDN_RETURN_IF_ERROR(CheckCall(geometry, rows.size(), isa_));
  switch (profile) {
    case ProfileId::kRaw:
      if (coded.size() != rows.size()) {
        return DataLoss("raw tile: ", coded.size(), " bytes, not ", rows.size());
      }
      std::memcpy(rows.data(), coded.data(), coded.size());
      return absl::OkStatus();
    case ProfileId::kLossless:
      return lossless_.Decode(*tables_.lossless, geometry, coded, rows);
    default:
      return UnknownProfile(profile);
  }
}

}  // namespace kdn
