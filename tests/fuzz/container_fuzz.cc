#include <cstdint>
#include <cstdlib>

#include "kernels/format/container.h"
#include "tests/kernels/layout/test_specs.h"

// Container headers are hostile: whatever parses must keep its own promises.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const kdn::ModelSpec spec = kdn::testing::SlidingSpec(6, 32, 64);
  static const kdn::CellMap cells(spec, 256);
  const kdn::ByteSpan input(data, size);
  const auto header = kdn::ParseContainerHeader(input);
  if (!header.ok()) return 0;
  uint64_t end = 0;
  for (const kdn::SectionEntry& section : header->sections) {
    if (section.offset < end || section.offset + section.length > header->body_bytes) std::abort();
    end = section.offset + section.length;
    for (const kdn::TileEntry& tile : header->TilesOf(section)) {
      if (uint64_t{tile.offset} + tile.length > section.length) std::abort();
    }
  }
  if (kdn::CheckAgainstModel(*header, spec, cells).ok()) {
    for (const kdn::SectionEntry& section : header->sections) {
      const kdn::CellRange range = kdn::CellsOfSection(section, cells);
      for (uint32_t cell = range.begin; cell < range.end; ++cell) {
        if (!header->cells.Contains(cell)) std::abort();
      }
    }
    for (const uint32_t cell : header->cells.ToVector()) {
      if (kdn::FirstRowOfCell(*header, cells, cell) >= header->num_tokens) std::abort();
      kdn::CellContentDigest(*header, cells, cell);
    }
  }
  return 0;
}
