#ifndef KDN_KERNELS_LAYOUT_CELL_MAP_H_
#define KDN_KERNELS_LAYOUT_CELL_MAP_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/layout/model_spec.h"

// Cells: the canonical units that a chunk's KV is cut into, whatever rank writes or reads it. A cell is one KV head of
// one band of layers, K and V together. Bands depend on the spec and the chunk length alone, so every writer and reader
// of a fingerprint cuts alike.

namespace kdn {

inline constexpr uint64_t kMaxCellRawBytes = uint64_t{4} << 20;

// A band: layers that share attention kind, window and number of KV heads, in ascending order, not always contiguous
// (Gemma's sliding layers form bands of their own), and few enough that one head of them over a full chunk takes at
// most kMaxCellRawBytes raw (one layer makes a band even where it alone exceeds that).
struct LayerBand {
  std::vector<uint32_t> layers;
  AttentionKind attention = AttentionKind::kFull;
  uint32_t window = 0;  // tokens; 0 for full attention
  uint32_t num_kv_heads = 0;
  uint32_t first_cell = 0;  // id of the cell of head 0; head h has id first_cell + h
};

// The cut of one (spec, chunk length). Immutable after construction, thread-safe, copyable.
class CellMap {
 public:
  // `spec` must be valid and `chunk_tokens` > 0.
  CellMap(const ModelSpec& spec, uint32_t chunk_tokens);

  uint32_t chunk_tokens() const { return chunk_tokens_; }
  uint32_t num_cells() const { return num_cells_; }
  std::span<const LayerBand> bands() const { return bands_; }
  // The band that holds `layer` (< number of layers of the spec).
  const LayerBand& BandOfLayer(uint32_t layer) const { return bands_[band_of_layer_[layer]]; }
  // The band of `cell` (< num_cells()).
  const LayerBand& BandOfCell(uint32_t cell) const;
  uint32_t CellOf(uint32_t layer, uint32_t head) const { return BandOfLayer(layer).first_cell + head; }
  uint32_t HeadOfCell(uint32_t cell) const { return cell - BandOfCell(cell).first_cell; }

 private:
  std::vector<LayerBand> bands_;
  std::vector<uint32_t> band_of_layer_;
  uint32_t chunk_tokens_ = 0;
  uint32_t num_cells_ = 0;
};

// A set of cell ids below a fixed size. Value type.
class CellSet {
 public:
  CellSet() = default;
  explicit CellSet(uint32_t num_cells) : num_cells_(num_cells), words_(CeilDiv(num_cells, 64)) {}
  // The set of all ids below num_cells.
  static CellSet All(uint32_t num_cells);
  // From the bitmap of ToBytes. InvalidArgument when the size does not match or bits at or above num_cells are set.
  static absl::StatusOr<CellSet> FromBytes(ByteSpan bitmap, uint32_t num_cells);

  uint32_t num_cells() const { return num_cells_; }
  bool Contains(uint32_t cell) const { return cell < num_cells_ && (words_[cell / 64] >> (cell % 64) & 1) != 0; }
  // Requires cell < num_cells().
  void Insert(uint32_t cell) { words_[cell / 64] |= uint64_t{1} << (cell % 64); }
  void Erase(uint32_t cell) { words_[cell / 64] &= ~(uint64_t{1} << (cell % 64)); }
  uint32_t Count() const;
  bool Empty() const { return Count() == 0; }
  // Ids in ascending order.
  std::vector<uint32_t> ToVector() const;
  // Bit i of byte i / 8 is cell i; ceil(num_cells / 8) bytes.
  std::vector<uint8_t> ToBytes() const;

  friend bool operator==(const CellSet&, const CellSet&) = default;

 private:
  uint32_t num_cells_ = 0;
  std::vector<uint64_t> words_;
};

// First row of a chunk that a reader needs at a layer of this attention, when the prefix it loads ends at position
// `prefix_end` (exclusive) and the chunk covers [chunk_begin, chunk_begin + chunk_tokens): 0 for full attention and
// latents; for a sliding window rows at positions >= prefix_end - window + 1; for a chunked window those in
// prefix_end's own block. Returns chunk_tokens when the reader needs no row of it.
uint32_t FirstNeededRow(AttentionKind attention, uint32_t window, uint64_t prefix_end, uint64_t chunk_begin,
                        uint32_t chunk_tokens);

}  // namespace kdn

#endif  // KDN_KERNELS_LAYOUT_CELL_MAP_H_
