#ifndef KDN_KERNELS_CODEC_CHUNK_CODEC_H_
#define KDN_KERNELS_CODEC_CHUNK_CODEC_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "kernels/codec/rope.h"
#include "kernels/codec/tile_codec.h"
#include "kernels/codec/tile_placement.h"
#include "kernels/format/container.h"
#include "kernels/layout/cell_map.h"
#include "kernels/layout/kv_view.h"
#include "kernels/layout/model_spec.h"

// Between an engine's KV in host memory and containers: gather by strides and block table, code tile by tile, and back.
// The unit of work is a section (one layer, one KV head, K or V; a wide one: a group of them), so that callers can
// spread sections over threads; the whole-chunk functions do them in order. Specs are valid (ValidateModelSpec) and
// views fit them (ValidateKvView) wherever a function takes them; coders borrow spec and tables.

namespace kdn {

namespace codec_internal {
class WideSectionEncoder;
class WideSectionDecoder;
}  // namespace codec_internal

// Tile tokens for a container of `profile`. Entropy-coded tiles of a full chunk get 16 Ki symbols or more where the
// chunk has them: a multiple of 16, for the narrowest head of the spec. int8, q4 and transform tiles get 256 tokens
// whatever the head dim: that many share a channel's scale or mean, or the states of an entropy coder.
uint32_t DefaultTileTokens(const ModelSpec& spec, ProfileId profile = ProfileId::kLossless);

// The RoPE state to store K in for `profile`: before its rotary embedding where that makes it smaller (q4, transform).
RopeState StoredRopeState(ProfileId profile);

// The cells that `view` holds in full for a chunk of `num_tokens` whose row 0 is the view's token `view_token`: heads
// and all layers of the band are there, and at least the chunk's last row.
CellSet CellsOfView(const CellMap& cells, const KvView& view, uint32_t view_token, uint32_t num_tokens);

// ---- Encoding ----

// What profile transform codes with. Borrowed.
struct TransformChoice {
  const TransformObject* object = nullptr;
  int32_t step = 0;  // D of one of the object's levels, or any
  // [group of the object][view token]: how much finer than the step, as row_importance.h chooses. Empty: all rows
  // alike.
  std::span<const std::vector<uint8_t>> row_classes = {};
};

// Where a chunk lies in the view that it is encoded from, and what with.
struct EncodeSource {
  const KvView* view = nullptr;
  uint32_t view_token = 0;                     // token of the view that is the chunk's row 0
  const TransformChoice* transform = nullptr;  // profile transform only, which needs it
};

struct EncodedSection {
  SectionEntry scope;
  std::vector<TileEntry> tiles;  // offsets count from the start of `bytes`
  std::vector<uint8_t> bytes;    // tiles, each padded to kContainerAlignment
};

// Scopes of the sections that make up header.cells, in container order, with the first row the view holds of each cell.
// With a transform object in the source, a wide section for each of its groups whose cells the header claims, and
// narrow ones, which profile transform codes at q4, for the rest. InvalidArgument when the view lacks a layer, a head
// or every row of a claimed cell, the chunk leaves the view, or a group of the object lies in several bands of layers.
absl::StatusOr<std::vector<SectionEntry>> PlanSections(const ModelSpec& spec, const CellMap& cells,
                                                       const ContainerHeader& header, EncodeSource source);

// Encodes single sections; keeps its scratch. One per thread.
class SectionEncoder {
 public:
  explicit SectionEncoder(const ModelSpec& spec, CodecTables tables = {}, Isa isa = BestIsa());
  ~SectionEncoder();

  // Codes the rows [scope.first_row, header.num_tokens) of a scope of PlanSections into `section`, whose memory is used
  // again and whose content is replaced. Reads token_begin, num_tokens, tile_tokens and rope_state of `header`: with
  // kUnrotated, K of whatever profile is stored before its rotary embedding, which is taken off for the source
  // positions token_begin + row. With profile transform also reads its calibration digests, which name the source's
  // object. InvalidArgument for device memory, and for a wide scope that is no group of the source's object or not to
  // be coded at transform; FailedPrecondition for transform without an object; else as TileEncoder::Encode.
  absl::Status Encode(const ContainerHeader& header, const SectionEntry& scope, EncodeSource source, ProfileId profile,
                      EncodedSection& section);

 private:
  const ModelSpec& spec_;
  const Isa isa_;
  TileEncoder encoder_;
  RopeTableCache ropes_;
  std::vector<uint8_t> rows_;
  std::unique_ptr<codec_internal::WideSectionEncoder> wide_;  // made when first needed
};

// The container of one chunk, coded with the built-in objects and the source's transform object: identity, num_tokens,
// tile_tokens, rope_state and cells from `header`. Names transform and lossless object when the profile is transform.
absl::StatusOr<std::vector<uint8_t>> EncodeChunk(const ModelSpec& spec, const CellMap& cells,
                                                 const ContainerHeader& header, EncodeSource source, ProfileId profile);

// ---- Decoding ----

// Decodes single sections into a view; keeps its scratch. One per thread.
class SectionDecoder {
 public:
  explicit SectionDecoder(const ModelSpec& spec, CodecTables tables = {}, Isa isa = BestIsa());
  ~SectionDecoder();

  // Writes what `target` asks for of `section`: layers and heads that the view lacks, rows outside the range, rows that
  // the section or the view's layer does not hold are left alone. Requires CheckAgainstModel OK for (header, spec).
  // The bytes are hostile. DataLoss when the section's CRC or a tile is wrong; Unimplemented for a profile this build
  // does not know, and for another position than the header's of K that is stored rotated; FailedPrecondition when the
  // header names calibration objects that the tables are not or do not have; InvalidArgument for device memory or a
  // target beyond chunk or view. After an error the target's rows are unspecified.
  absl::Status Decode(const ContainerHeader& header, const SectionEntry& section, ByteSpan section_bytes,
                      const DecodeTarget& target);

 private:
  absl::Status DecodeTile(const ContainerHeader& header, const TilePlacement& placed, ByteSpan section_bytes,
                          uint64_t position);

  const ModelSpec& spec_;
  CodecTables tables_;
  const Isa isa_;
  TileDecoder decoder_;
  RopeTableCache ropes_;
  std::vector<TilePlacement> placements_;
  std::vector<uint8_t> rows_;
  std::unique_ptr<codec_internal::WideSectionDecoder> wide_;  // made when first needed
};

// OK when the lossless tiles of a container are coded with `tables`: its header names them, or no object at all, which
// means the built-in ones. Else FailedPrecondition.
absl::Status CheckLosslessObject(const ContainerHeader& header, const LosslessTables& tables);

// Whether the target's view holds any layer and head of the section: others need not be fetched.
bool SectionTouchesView(const SectionEntry& section, const KvView& view);

// Decodes every section that touches the view. `body` is the whole body (header.body_bytes). Errors of
// SectionDecoder::Decode, naming the section.
absl::Status DecodeContainer(const ModelSpec& spec, const ContainerHeader& header, ByteSpan body,
                             const DecodeTarget& target, CodecTables tables = {});

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_CHUNK_CODEC_H_
