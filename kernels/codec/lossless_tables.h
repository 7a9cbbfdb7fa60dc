#ifndef KDN_KERNELS_CODEC_LOSSLESS_TABLES_H_
#define KDN_KERNELS_CODEC_LOSSLESS_TABLES_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "kernels/base/sha256.h"
#include "kernels/codec/lossless_channels_core.h"
#include "kernels/codec/rans_core.h"
#include "kernels/layout/dtype.h"

// The calibration object of the lossless profile: static frequency tables over the 16 symbols "how far below the
// channel's top exponent". Immutable and content-addressed by the SHA-256 of its canonical bytes, which TILE_FORMATS.md
// specifies.

namespace kdn {

// A table: frequencies of the 16 symbols, each >= 1, their sum 2^prob_bits.
using LosslessShape = std::array<uint16_t, kRansSymbols>;

// Where a tile's channels find their offset (top exponent) and shape.
enum class ChannelSource : uint8_t {
  kTile = 0,    // one byte a channel in every tile
  kObject = 1,  // fixed in the calibration object, per (layer, K/V, head, channel)
};

// What an object says, as plain values.
struct LosslessObjectSpec {
  uint8_t prob_bits = 10;      // kRansMinProbBits..kRansMaxProbBits
  uint8_t shapes_per_set = 8;  // 1..16; at most 8 with kTile
  ChannelSource channel_source = ChannelSource::kTile;
  DType dtype{};                       // kObject only: the dtype that the offsets are for; 0 with kTile
  uint16_t layers = 0;                 // 0: every layer uses set 0 (kTile only); else 1..1024
  uint16_t kv_heads = 0;               // kObject only: heads a layer
  uint16_t k_dim = 0;                  // kObject only
  uint16_t v_dim = 0;                  // kObject only
  std::vector<uint16_t> set_of;        // [layer][K, V]: table set; empty when layers is 0
  std::vector<LosslessShape> shapes;   // [set][shape]
  std::vector<ChannelClass> channels;  // kObject only: [layer][K heads x k_dim, then V heads x v_dim]
};

// The tables ready for coding. Immutable, thread-safe.
class LosslessTables {
 public:
  static constexpr uint32_t kMaxSets = 512;
  static constexpr uint32_t kMaxShapesInTile = 8;
  static constexpr uint32_t kMaxShapes = 16;
  static constexpr uint32_t kMaxObjectBytes = uint32_t{64} << 20;

  // The object every build of KDN carries: eight shapes for any model and dtype. What a container means when it names
  // no calibration object; it never changes.
  static const LosslessTables& BuiltIn();

  // The object whose canonical bytes these are; they are hostile. InvalidArgument on anything that Create would not
  // write, Unimplemented on another version or kind.
  static absl::StatusOr<LosslessTables> Parse(ByteSpan bytes);

  // The object that `spec` describes. InvalidArgument naming the field that breaks a rule above.
  static absl::StatusOr<LosslessTables> Create(const LosslessObjectSpec& spec);

  const Digest& digest() const { return digest_; }
  ByteSpan canonical_bytes() const { return bytes_; }
  uint32_t prob_bits() const { return spec_.prob_bits; }
  uint32_t shapes_per_set() const { return spec_.shapes_per_set; }
  ChannelSource channel_source() const { return spec_.channel_source; }
  DType dtype() const { return spec_.dtype; }

  // The table set of a layer's K or V. InvalidArgument when the object does not cover the layer.
  absl::StatusOr<uint32_t> SetOf(uint32_t layer, KvKind kind) const;

  // Classes of the `dim` channels of one head. Requires ChannelSource::kObject. InvalidArgument when the object does
  // not cover (layer, head) or has another head dim.
  absl::StatusOr<std::span<const ChannelClass>> ChannelsOf(uint32_t layer, KvKind kind, uint32_t head,
                                                           uint32_t dim) const;

  // [shape][slot] entries of PackDecodeEntry: shapes_per_set << prob_bits of them.
  const uint32_t* DecodeTable(uint32_t set) const {
    return decode_.data() + (static_cast<size_t>(set) * spec_.shapes_per_set << spec_.prob_bits);
  }
  // [shape][symbol] entries of PackEncodeEntry.
  const uint32_t* EncodeTable(uint32_t set) const {
    return encode_.data() + static_cast<size_t>(set) * spec_.shapes_per_set * kRansSymbols;
  }
  // [symbol][kMaxShapesInTile] cost in 1/256 bit, escapes with their byte; shapes the set lacks cost kNoShapeCost.
  const uint32_t* CostTable(uint32_t set) const {
    return cost_.data() + static_cast<size_t>(set) * kRansSymbols * kMaxShapesInTile;
  }
  static constexpr uint32_t kNoShapeCost = uint32_t{1} << 16;

 private:
  LosslessTables() = default;
  void BuildTables();

  LosslessObjectSpec spec_;
  std::vector<uint8_t> bytes_;
  Digest digest_;
  std::vector<uint32_t> decode_;
  std::vector<uint32_t> encode_;
  std::vector<uint32_t> cost_;
};

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_LOSSLESS_TABLES_H_
