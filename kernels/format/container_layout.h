#ifndef KDN_KERNELS_FORMAT_CONTAINER_LAYOUT_H_
#define KDN_KERNELS_FORMAT_CONTAINER_LAYOUT_H_

#include <cstdint>

#include "kernels/format/container.h"

// Sizes and derived numbers that reader and builder share. FORMAT.md is the specification.

namespace kdn {

inline constexpr size_t kHeaderCrcOffset = 20;  // of the u32 that holds the header's CRC
inline constexpr size_t kIdentityBytes = 96;    // fixed fields after the prelude
inline constexpr size_t kSectionEntryBytes = 28;
inline constexpr size_t kMinTileEntryBytes = 2;
inline constexpr uint32_t kKnownRequiredFeatures = kFeatureWideSections;
inline constexpr uint8_t kWideSectionBit = 0x80;  // of the section directory's kind

// Tiles a section of this scope has in a container of these token counts. Requires first_row < num_tokens, tile_tokens
// > 0.
constexpr uint64_t TileCountOf(const SectionEntry& section, uint32_t num_tokens, uint32_t tile_tokens) {
  const uint64_t row_groups = CeilDiv(num_tokens - section.first_row, tile_tokens);
  if (section.wide) return row_groups;
  const uint64_t kinds = section.kind == SectionKind::kJointKv ? 2 : 1;
  return row_groups * section.head_count * section.layer_count * kinds;
}

// The kind as the section directory has it.
constexpr uint8_t StoredKind(const SectionEntry& section) {
  return static_cast<uint8_t>(static_cast<uint8_t>(section.kind) | (section.wide ? kWideSectionBit : 0));
}

}  // namespace kdn

#endif  // KDN_KERNELS_FORMAT_CONTAINER_LAYOUT_H_
