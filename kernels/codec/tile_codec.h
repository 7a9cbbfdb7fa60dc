#ifndef KDN_KERNELS_CODEC_TILE_CODEC_H_
#define KDN_KERNELS_CODEC_TILE_CODEC_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "kernels/codec/int8_tile.h"
#include "kernels/codec/isa.h"
#include "kernels/codec/lossless_tables.h"
#include "kernels/codec/lossless_tile.h"
#include "kernels/codec/q4_tile.h"
#include "kernels/codec/rope.h"
#include "kernels/codec/tile_geometry.h"
#include "kernels/codec/transform_object.h"
#include "kernels/format/profile.h"

// Encoding and decoding of single tiles of one head at any profile that has them: raw, lossless, int8, q4 (transform
// codes several heads together: chunk_codec.h). Both classes keep their scratch between calls and are not thread-safe:
// one per thread.

namespace kdn {

// OK when this build encodes at `profile`; else Unimplemented, naming it and those there are.
absl::Status CheckEncodable(ProfileId profile);
// Besides, InvalidArgument when the profile is not for KV of `dtype`: int8, q4 and transform for fp32.
absl::Status CheckEncodable(ProfileId profile, DType dtype);

// The profiles that this build encodes, for messages: "raw, lossless, int8, q4, transform".
std::string EncodableProfileNames();

// The calibration objects a coder works with. Borrowed: they outlive the coder.
struct CodecTables {
  const LosslessTables* lossless = &LosslessTables::BuiltIn();
  const TransformObjects* transforms = nullptr;  // null: none
};

// What a tile's place in its sequence says about its coding.
struct TileContext {
  // K that is stored before its rotary embedding: the table with which the encoder takes it off (RopeDirection::
  // kUnrotate) or the decoder puts it on (kRotate), and the table's row that belongs to the tile's row 0. Null: rows
  // are stored as the cache holds them.
  const RopeTable* rope = nullptr;
  uint32_t rope_row = 0;
  // Encoder: how many of the tile's first rows are attention sinks, which q4 keeps at 16 bits. At most the tile's rows.
  uint32_t sink_rows = 0;
};

class TileEncoder {
 public:
  explicit TileEncoder(CodecTables tables = {}, Isa isa = BestIsa())
      : tables_(tables), isa_(isa), lossless_(isa), int8_(isa), q4_(isa) {}

  // Codes `rows` ([token][channel], geometry.raw_bytes() bytes) and appends the result to `out`. With a rope in the
  // context what is stored is unrotated in fp32, and rounded once by profiles that store elements. Returns the profile
  // used: `wanted`; or lossless where int8 is wanted and the tile holds NaN, an infinity or a magnitude too large for
  // it, or its lossless tile is as small, or the dtype is fp8; or where q4 is wanted and the tile holds NaN, an
  // infinity or is so short that q4 takes more than 3/4 of its bytes; or raw where neither gains at least raw_bytes /
  // kMinGainDivisor. Errors of CheckEncodable; InvalidArgument for transform, on bad geometry, a wrong size of `rows`
  // or tables that do not cover the tile; FailedPrecondition when the machine cannot run the chosen instruction set. On
  // an error `out` is unchanged.
  absl::StatusOr<ProfileId> Encode(const TileGeometry& geometry, ByteSpan rows, ProfileId wanted,
                                   std::vector<uint8_t>& out, TileContext context = {});

  static constexpr size_t kMinGainDivisor = 64;

 private:
  absl::StatusOr<ProfileId> EncodeExactly(const TileGeometry& geometry, ByteSpan rows, ProfileId wanted,
                                          std::vector<uint8_t>& out);
  absl::StatusOr<ProfileId> EncodeInt8(const TileGeometry& geometry, ByteSpan rows, std::vector<uint8_t>& out);
  absl::StatusOr<ProfileId> EncodeQ4(const TileGeometry& geometry, ByteSpan rows, std::vector<uint8_t>& out,
                                     TileContext context);
  void LoadValues(const TileGeometry& geometry, ByteSpan rows, TileContext context);
  ByteSpan StoredRows(const TileGeometry& geometry);

  CodecTables tables_;
  Isa isa_;
  LosslessTileEncoder lossless_;
  Int8TileEncoder int8_;
  Q4TileEncoder q4_;
  std::vector<float> values_;         // rows in fp32, unrotated
  std::vector<uint8_t> stored_rows_;  // unrotated and rounded to the dtype
};

class TileDecoder {
 public:
  explicit TileDecoder(CodecTables tables = {}, Isa isa = BestIsa())
      : tables_(tables), isa_(isa), lossless_(isa), int8_(isa), q4_(isa) {}

  // Decodes the hostile bytes `coded` into `rows` (geometry.raw_bytes() bytes), allocating nothing of their size.
  // DataLoss when they are no tile of this geometry and profile, and `rows` are then unspecified; Unimplemented for
  // profiles this build does not know; other errors as TileEncoder::Encode. With a rope in the context the values are
  // rotated in fp32 and rounded once to the dtype.
  absl::Status Decode(const TileGeometry& geometry, ProfileId profile, ByteSpan coded, MutableByteSpan rows,
                      TileContext context = {});

 private:
  static constexpr uint32_t kBlockRows = 16;  // rows in fp32 at a time, which stay in the first-level cache

  absl::Status DecodeStored(const TileGeometry& geometry, ProfileId profile, ByteSpan coded, MutableByteSpan rows);
  absl::Status DecodeQ4(const TileGeometry& geometry, ByteSpan coded, MutableByteSpan rows, TileContext context);
  void RotateStored(const TileGeometry& geometry, TileContext context, MutableByteSpan rows);
  float* BlockValues();

  CodecTables tables_;
  Isa isa_;
  LosslessTileDecoder lossless_;
  Int8TileDecoder int8_;
  Q4TileDecoder q4_;
  std::unique_ptr<float[]> block_values_;  // [kBlockRows][kMaxTileDim], made when first needed
};

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_TILE_CODEC_H_
