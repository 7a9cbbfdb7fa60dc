#include "kernels/codec/tile_codec.h"

#include <algorithm>
#include <cstring>

#include "kernels/base/status.h"
#include "kernels/codec/int8_choice.h"
#include "kernels/codec/int8_core.h"
#include "kernels/codec/row_kernels.h"

namespace kdn {
namespace {

constexpr ProfileId kEncodable[] = {ProfileId::kRaw, ProfileId::kLossless, ProfileId::kInt8, ProfileId::kQ4,
                                    ProfileId::kTransform};

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

// Below this a coded tile is worth its decoding.
size_t WorthwhileBytes(size_t raw_bytes) { return raw_bytes - raw_bytes / TileEncoder::kMinGainDivisor; }

// A q4 tile that saves less than a quarter is better stored exactly.
constexpr size_t kQ4MinGainDivisor = 4;

}  // namespace

std::string EncodableProfileNames() {
  std::string names;
  for (const ProfileId profile : kEncodable) names += StrCat(names.empty() ? "" : ", ", ProfileName(profile));
  return names;
}

absl::Status CheckEncodable(ProfileId profile) {
  if (std::find(std::begin(kEncodable), std::end(kEncodable), profile) != std::end(kEncodable)) return absl::OkStatus();
  return Unimplemented("profile ", ProfileName(profile), " cannot be encoded by this build; it has ",
                       EncodableProfileNames());
}

absl::Status CheckEncodable(ProfileId profile, DType dtype) {
  KDN_RETURN_IF_ERROR(CheckEncodable(profile));
  const bool narrow = profile == ProfileId::kInt8 || profile == ProfileId::kQ4 || profile == ProfileId::kTransform;
  if (narrow && dtype == DType::kFp32) {
    return InvalidArgument("profile ", ProfileName(profile), " is not for ", DTypeName(dtype), " KV: raw or lossless");
  }
  return absl::OkStatus();
}

absl::StatusOr<ProfileId> TileEncoder::Encode(const TileGeometry& geometry, ByteSpan rows, ProfileId wanted,
                                              std::vector<uint8_t>& out, TileContext context) {
  KDN_RETURN_IF_ERROR(CheckCall(geometry, rows.size(), isa_));
  KDN_RETURN_IF_ERROR(CheckEncodable(wanted, geometry.dtype));
  if (wanted == ProfileId::kTransform) return InvalidArgument("tile: profile transform codes wide sections only");
  if (wanted == ProfileId::kQ4) return EncodeQ4(geometry, rows, out, context);
  if (context.rope != nullptr) {
    LoadValues(geometry, rows, context);
    rows = StoredRows(geometry);
  }
  if (wanted == ProfileId::kInt8 && Int8Codes(geometry.dtype)) return EncodeInt8(geometry, rows, out);
  return EncodeExactly(geometry, rows, wanted, out);
}

void TileEncoder::LoadValues(const TileGeometry& geometry, ByteSpan rows, TileContext context) {
  values_.resize(geometry.elements());
  codec_internal::RowKernelsFor(isa_).widen(geometry.dtype, rows.data(), geometry.elements(), values_.data());
  if (context.rope == nullptr) return;
  context.rope->Apply(isa_, context.rope_row, geometry.tokens, geometry.dim, values_.data());
}

ByteSpan TileEncoder::StoredRows(const TileGeometry& geometry) {
  stored_rows_.resize(geometry.raw_bytes());
  codec_internal::RowKernelsFor(isa_).narrow(geometry.dtype, values_.data(), geometry.elements(), stored_rows_.data());
  return stored_rows_;
}

absl::StatusOr<ProfileId> TileEncoder::EncodeQ4(const TileGeometry& geometry, ByteSpan rows, std::vector<uint8_t>& out,
                                                TileContext context) {
  if (context.sink_rows > geometry.tokens) {
    return InvalidArgument("tile: ", context.sink_rows, " sink rows of ", geometry.tokens);
  }
  LoadValues(geometry, rows, context);
  const bool gains = Q4TileBytes(geometry, context.sink_rows) <= rows.size() - rows.size() / kQ4MinGainDivisor;
  if (gains && q4_.Encode(geometry, values_, context.sink_rows, out)) return ProfileId::kQ4;
  if (context.rope != nullptr) rows = StoredRows(geometry);
  return EncodeExactly(geometry, rows, ProfileId::kLossless, out);
}

absl::StatusOr<ProfileId> TileEncoder::EncodeExactly(const TileGeometry& geometry, ByteSpan rows, ProfileId wanted,
                                                     std::vector<uint8_t>& out) {
  if (wanted != ProfileId::kRaw) {
    KDN_ASSIGN_OR_RETURN(const bool gained,
                         lossless_.Encode(*tables_.lossless, geometry, rows, WorthwhileBytes(rows.size()), out));
    if (gained) return ProfileId::kLossless;
  }
  out.insert(out.end(), rows.begin(), rows.end());
  return ProfileId::kRaw;
}

absl::StatusOr<ProfileId> TileEncoder::EncodeInt8(const TileGeometry& geometry, ByteSpan rows,
                                                  std::vector<uint8_t>& out) {
  const size_t int8_bytes = Int8TileLayout(geometry).tile_bytes;
  if (int8_bytes >= WorthwhileBytes(rows.size())) return EncodeExactly(geometry, rows, ProfileId::kInt8, out);
  const size_t lossless_fixed_bytes = LosslessTileLayout(geometry, *tables_.lossless).words_offset;
  if (!codec_internal::LosslessIsLarger(geometry, rows, lossless_fixed_bytes, int8_bytes)) {
    KDN_ASSIGN_OR_RETURN(const bool as_small, lossless_.Encode(*tables_.lossless, geometry, rows, int8_bytes + 1, out));
    if (as_small) return ProfileId::kLossless;
  }
  if (int8_.Encode(geometry, rows, out)) return ProfileId::kInt8;
  return EncodeExactly(geometry, rows, ProfileId::kInt8, out);
}

absl::Status TileDecoder::Decode(const TileGeometry& geometry, ProfileId profile, ByteSpan coded, MutableByteSpan rows,
                                 TileContext context) {
  KDN_RETURN_IF_ERROR(CheckCall(geometry, rows.size(), isa_));
  if (profile == ProfileId::kQ4) return DecodeQ4(geometry, coded, rows, context);
  KDN_RETURN_IF_ERROR(DecodeStored(geometry, profile, coded, rows));
  if (context.rope != nullptr) RotateStored(geometry, context, rows);
  return absl::OkStatus();
}

float* TileDecoder::BlockValues() {
  if (block_values_ == nullptr) block_values_.reset(new float[size_t{kBlockRows} * kMaxTileDim]);
  return block_values_.get();
}

void TileDecoder::RotateStored(const TileGeometry& geometry, TileContext context, MutableByteSpan rows) {
  const codec_internal::RowKernels& kernels = codec_internal::RowKernelsFor(isa_);
  float* const values = BlockValues();
  uint8_t* at = rows.data();
  for (uint32_t row = 0; row < geometry.tokens; row += kBlockRows) {
    const uint32_t count = std::min(kBlockRows, geometry.tokens - row);
    const size_t elements = size_t{count} * geometry.dim;
    kernels.widen(geometry.dtype, at, elements, values);
    context.rope->Apply(isa_, context.rope_row + row, count, geometry.dim, values);
    kernels.narrow(geometry.dtype, values, elements, at);
    at += elements * DTypeBytes(geometry.dtype);
  }
}

absl::Status TileDecoder::DecodeQ4(const TileGeometry& geometry, ByteSpan coded, MutableByteSpan rows,
                                   TileContext context) {
  KDN_RETURN_IF_ERROR(q4_.Open(geometry, coded));
  const codec_internal::RowKernels& kernels = codec_internal::RowKernelsFor(isa_);
  float* const values = BlockValues();
  uint8_t* at = rows.data();
  for (uint32_t row = 0; row < geometry.tokens; row += kBlockRows) {
    const uint32_t count = std::min(kBlockRows, geometry.tokens - row);
    const size_t elements = size_t{count} * geometry.dim;
    q4_.Rows(row, count, values);
    if (context.rope != nullptr) context.rope->Apply(isa_, context.rope_row + row, count, geometry.dim, values);
    kernels.narrow(geometry.dtype, values, elements, at);
    at += elements * DTypeBytes(geometry.dtype);
  }
  return absl::OkStatus();
}

absl::Status TileDecoder::DecodeStored(const TileGeometry& geometry, ProfileId profile, ByteSpan coded,
                                       MutableByteSpan rows) {
  switch (profile) {
    case ProfileId::kRaw:
      if (coded.size() != rows.size()) {
        return DataLoss("raw tile: ", coded.size(), " bytes, not ", rows.size());
      }
      std::memcpy(rows.data(), coded.data(), coded.size());
      return absl::OkStatus();
    case ProfileId::kLossless:
      return lossless_.Decode(*tables_.lossless, geometry, coded, rows);
    case ProfileId::kInt8:
      return int8_.Decode(geometry, coded, rows);
    default:
      return UnknownProfile(profile);
  }
}

}  // namespace kdn
