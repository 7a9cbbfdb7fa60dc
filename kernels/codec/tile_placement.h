#ifndef KDN_KERNELS_CODEC_TILE_PLACEMENT_H_
#define KDN_KERNELS_CODEC_TILE_PLACEMENT_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "kernels/codec/row_copy.h"
#include "kernels/codec/tile_geometry.h"
#include "kernels/format/container.h"
#include "kernels/layout/kv_view.h"
#include "kernels/layout/model_spec.h"

// Which tiles of a narrow section a target wants, and where their rows go: the same for decoders on the host and on a
// device.

namespace kdn {

// Which rows of a chunk go where: rows [row_begin, row_begin + row_count) to view tokens from view_token on. K that is
// stored unrotated gets its rotary embedding for positions counted from `position`.
struct DecodeTarget {
  const KvView* view = nullptr;
  uint32_t view_token = 0;
  uint32_t row_begin = 0;
  uint32_t row_count = 0;
  std::optional<uint64_t> position = std::nullopt;  // of the chunk's row 0; header.token_begin when not given
};

struct TilePlacement {
  TileGeometry geometry;
  const TileEntry* tile = nullptr;  // in the header
  codec_internal::HeadRows out;     // the view's rows of this layer, head and kind
  uint32_t tile_row = 0;            // chunk row of the tile's row 0
  uint32_t row_begin = 0;           // rows of the tile to write
  uint32_t row_count = 0;
  uint32_t token = 0;  // view token of the first of them
};

// InvalidArgument when the target leaves the chunk or the view, or the view holds another dtype; Unimplemented for
// another position than the header's of K that is stored rotated.
absl::Status CheckDecodeTarget(const ContainerHeader& header, const SectionEntry& section, const DecodeTarget& target);

// Replaces `placements` by those of the tiles that hold a row which the target asks for. Requires CheckAgainstModel and
// CheckDecodeTarget OK and a narrow section.
void PlaceTiles(const ModelSpec& spec, const ContainerHeader& header, const SectionEntry& section,
                const DecodeTarget& target, std::vector<TilePlacement>& placements);

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_TILE_PLACEMENT_H_
