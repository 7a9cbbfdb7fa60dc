#ifndef KDN_KERNELS_CODEC_WIDE_SECTION_H_
#define KDN_KERNELS_CODEC_WIDE_SECTION_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "kernels/codec/chunk_codec.h"
#include "kernels/codec/transform_tile.h"

// Wide sections, which profile transform codes: between tiles of all layers, heads and kinds of a scope and the places
// of a view. Internal to kernels/codec: SectionEncoder and SectionDecoder are the interface, and check what these take
// for granted (host memory, CRC, a target inside chunk and view).

namespace kdn::codec_internal {

// Keeps its scratch. One per thread.
class WideSectionEncoder {
 public:
  WideSectionEncoder(const ModelSpec& spec, Isa isa) : spec_(spec), isa_(isa), encoder_(isa) {}

  // SectionEncoder::Encode for a wide scope.
  absl::Status Encode(const ContainerHeader& header, const SectionEntry& scope, const EncodeSource& source,
                      EncodedSection& section);

 private:
  // Rows [row, row + rows) of the chunk: those of a tile.
  struct TileRows {
    const ContainerHeader& header;
    const EncodeSource& source;
    uint32_t row = 0;
    uint32_t rows = 0;
  };

  absl::Status LoadBase(const TileRows& tile, const TransformBase& base, std::vector<float>& values);

  const ModelSpec& spec_;
  const Isa isa_;
  TransformTileEncoder encoder_;
  RopeTableCache ropes_;
  std::vector<uint8_t> elements_;  // [row][channel] of a base
  std::vector<float> values_[2];   // [base]: the same in fp32, K unrotated
};

// Keeps its scratch. One per thread.
class WideSectionDecoder {
 public:
  WideSectionDecoder(const ModelSpec& spec, CodecTables tables, Isa isa)
      : spec_(spec), tables_(tables), isa_(isa), decoder_(isa) {}

  // SectionDecoder::Decode for a wide section.
  absl::Status Decode(const ContainerHeader& header, const SectionEntry& section, ByteSpan section_bytes,
                      const DecodeTarget& target);

 private:
  // Neighbouring slices of a base that the view holds: channels [first_channel, +channels).
  struct Run {
    uint32_t base = 0;
    std::span<const TransformSlice> slices;
    uint32_t first_channel = 0;
    uint32_t channels = 0;
  };
  // Rows [begin, end) of the chunk, to be written from the tile that starts at row `tile_row`.
  struct RowRange {
    uint32_t tile_row = 0;
    uint32_t begin = 0;
    uint32_t end = 0;
  };

  absl::StatusOr<const TransformGroup*> FindGroup(const ContainerHeader& header, const SectionEntry& section,
                                                  const TransformTileHeader& tile);
  void WriteRun(const ContainerHeader& header, const DecodeTarget& target, const Run& run, const RowRange& range);

  const ModelSpec& spec_;
  const CodecTables tables_;
  const Isa isa_;
  TransformTileDecoder decoder_;
  RopeTableCache ropes_;
  std::shared_ptr<const TransformObject> object_;  // the last one used
  std::vector<float> values_;                      // [row][channel] of a run
  std::vector<uint8_t> elements_;
};

}  // namespace kdn::codec_internal

#endif  // KDN_KERNELS_CODEC_WIDE_SECTION_H_
