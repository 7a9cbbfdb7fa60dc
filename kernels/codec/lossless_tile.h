#ifndef KDN_KERNELS_CODEC_LOSSLESS_TILE_H_
#define KDN_KERNELS_CODEC_LOSSLESS_TILE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "kernels/codec/isa.h"
#include "kernels/codec/lossless_kernels.h"
#include "kernels/codec/lossless_tables.h"
#include "kernels/codec/tile_geometry.h"

// The lossless tile (profile P1). TILE_FORMATS.md specifies its bytes.

namespace kdn {

// Fixed parts of a lossless tile of `geometry` under `tables`, in order of their place.
struct LosslessTileLayout {
  static constexpr uint32_t kHeaderBytes = 4;
  static constexpr uint32_t kStatesOffset = kHeaderBytes;
  static constexpr uint32_t kStatesBytes = 4 * kRansLanes;
  static constexpr uint32_t kChannelsOffset = kStatesOffset + kStatesBytes;

  uint32_t channels_bytes = 0;
  uint32_t raw_offset = 0;
  uint32_t raw_bytes = 0;
  uint32_t words_offset = 0;  // the smallest tile has this many bytes
  uint32_t steps = 0;

  LosslessTileLayout(const TileGeometry& geometry, const LosslessTables& tables);
};

// OK when the header and the channel bytes of the hostile `coded` suit a lossless tile of this geometry; whether its
// entropy-coded part is one, decoding tells. DataLoss, saying what is wrong, else; InvalidArgument when `tables` do not
// cover the geometry.
absl::Status CheckLosslessTile(const LosslessTables& tables, const TileGeometry& geometry, ByteSpan coded);

// Encodes tiles. Keeps its scratch between calls; not thread-safe.
class LosslessTileEncoder {
 public:
  explicit LosslessTileEncoder(Isa isa) : isa_(isa) {}

  // Codes `rows` (geometry.raw_bytes() of them; geometry valid) and appends the tile to `out`. False when the tile
  // would not be smaller than `max_bytes`; `out` is then as before. InvalidArgument when `tables` do not cover the
  // geometry.
  absl::StatusOr<bool> Encode(const LosslessTables& tables, const TileGeometry& geometry, ByteSpan rows,
                              size_t max_bytes, std::vector<uint8_t>& out);

 private:
  void Split(const TileGeometry& geometry, ByteSpan rows);
  void CountExponents(const TileGeometry& geometry);
  void ChooseChannels(const uint32_t* costs, const TileGeometry& geometry);
  void BuildSymbols(const TileGeometry& geometry);

  const Isa isa_;
  std::vector<uint16_t> histogram_;  // [channel][exponent]; valid between lowest_ and highest_
  uint32_t lowest_ = 0;              // exponents of the tile
  uint32_t highest_ = 0;
  std::vector<uint8_t> symbols_;  // [element]: exponents, then symbols
  std::vector<uint8_t> records_;
  std::vector<uint8_t> escapes_;
  size_t escape_count_ = 0;
  std::vector<uint16_t> words_;
  std::vector<ChannelClass> channels_;
  std::vector<uint8_t> channel_bytes_;
  uint8_t base_ = 0;
  std::array<uint32_t, codec_internal::kMaxPatternEntries> pattern_;
  std::array<uint8_t, codec_internal::kMaxPatternEntries> offsets_;
};

// Decodes tiles without allocating. Not thread-safe.
class LosslessTileDecoder {
 public:
  explicit LosslessTileDecoder(Isa isa) : isa_(isa) {}

  // Decodes the hostile bytes `coded` into `rows` (geometry.raw_bytes() of them; geometry valid). DataLoss when they
  // are no lossless tile of this geometry, and `rows` are then unspecified; InvalidArgument when `tables` do not cover
  // it.
  absl::Status Decode(const LosslessTables& tables, const TileGeometry& geometry, ByteSpan coded, MutableByteSpan rows);

 private:
  const Isa isa_;
  std::array<uint32_t, codec_internal::kMaxPatternEntries> pattern_;
};

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_LOSSLESS_TILE_H_
