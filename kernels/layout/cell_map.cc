#include "kernels/layout/cell_map.h"

#include <algorithm>
#include <bit>

#include "kernels/base/status.h"

namespace kdn {
namespace {

bool SameClass(const LayerBand& band, const LayerSpec& layer) {
  return band.attention == layer.attention && band.window == layer.window && band.num_kv_heads == layer.num_kv_heads;
}

}  // namespace

CellMap::CellMap(const ModelSpec& spec, uint32_t chunk_tokens) : chunk_tokens_(chunk_tokens) {
  std::vector<uint64_t> band_bytes;
  band_of_layer_.resize(spec.layers.size());
  for (uint32_t i = 0; i < spec.layers.size(); ++i) {
    const LayerSpec& layer = spec.layers[i];
    const uint64_t bytes = uint64_t{layer.k_head_dim + layer.v_head_dim} * DTypeBytes(spec.dtype) * chunk_tokens;
    // Only the newest band of a class may have room: an older one was left because it was full.
    size_t band = bands_.size();
    while (band > 0 && !SameClass(bands_[band - 1], layer)) --band;
    if (band == 0 || band_bytes[band - 1] + bytes > kMaxCellRawBytes) {
      bands_.push_back({{}, layer.attention, layer.window, layer.num_kv_heads, 0});
      band_bytes.push_back(0);
      band = bands_.size();
    }
    bands_[band - 1].layers.push_back(i);
    band_bytes[band - 1] += bytes;
    band_of_layer_[i] = static_cast<uint32_t>(band - 1);
  }
  for (LayerBand& band : bands_) {
    band.first_cell = num_cells_;
    num_cells_ += band.num_kv_heads;
  }
}

const LayerBand& CellMap::BandOfCell(uint32_t cell) const {
  const auto after = std::upper_bound(bands_.begin(), bands_.end(), cell,
                                      [](uint32_t id, const LayerBand& band) { return id < band.first_cell; });
  return *(after - 1);
}

CellSet CellSet::All(uint32_t num_cells) {
  CellSet all(num_cells);
  for (uint32_t cell = 0; cell < num_cells; ++cell) all.Insert(cell);
  return all;
}

absl::StatusOr<CellSet> CellSet::FromBytes(ByteSpan bitmap, uint32_t num_cells) {
  if (bitmap.size() != CeilDiv(num_cells, 8)) {
    return InvalidArgument("cell bitmap has ", bitmap.size(), " bytes, ", num_cells, " cells need ",
                           CeilDiv(num_cells, 8));
  }
  CellSet set(num_cells);
  for (uint32_t bit = 0; bit < bitmap.size() * 8; ++bit) {
    if ((bitmap[bit / 8] >> (bit % 8) & 1) == 0) continue;
    if (bit >= num_cells) return InvalidArgument("cell bitmap names cell ", bit, ", there are ", num_cells);
    set.Insert(bit);
  }
  return set;
}

uint32_t CellSet::Count() const {
  uint32_t count = 0;
  for (const uint64_t word : words_) count += std::popcount(word);
  return count;
}

std::vector<uint32_t> CellSet::ToVector() const {
  std::vector<uint32_t> cells;
  for (uint32_t cell = 0; cell < num_cells_; ++cell) {
    if (Contains(cell)) cells.push_back(cell);
  }
  return cells;
}

std::vector<uint8_t> CellSet::ToBytes() const {
  std::vector<uint8_t> bitmap(CeilDiv(num_cells_, 8));
  for (const uint32_t cell : ToVector()) bitmap[cell / 8] |= static_cast<uint8_t>(1u << (cell % 8));
  return bitmap;
}

uint32_t FirstNeededRow(AttentionKind attention, uint32_t window, uint64_t prefix_end, uint64_t chunk_begin,
                        uint32_t chunk_tokens) {
  uint64_t first_position = 0;
  if (attention == AttentionKind::kSlidingWindow && prefix_end >= window) {
    first_position = prefix_end - window + 1;
  } else if (attention == AttentionKind::kChunkedWindow) {
    first_position = prefix_end / window * window;
  }
  if (first_position <= chunk_begin) return 0;
  return static_cast<uint32_t>(std::min<uint64_t>(first_position - chunk_begin, chunk_tokens));
}

}  // namespace kdn
