#include <cstdint>
#include <cstdlib>

#include "kernels/codec/tile_codec.h"

// Tiles are hostile: the decoder answers with a status or some rows, the same on every instruction set. Input: dtype
// (and 128 for V), profile, tokens, dim / 16, then the tile.
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
  return 0;
}
