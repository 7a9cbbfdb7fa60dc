#include "kernels/codec/lossless_tables.h"

#include <utility>

#include "kernels/base/status.h"
#include "kernels/format/calibration_object.h"

namespace kdn {
namespace {

constexpr uint8_t kObjectKindLossless = static_cast<uint8_t>(CalibrationKind::kLossless);
constexpr uint32_t kMaxObjectLayers = 1024;
constexpr uint32_t kMaxObjectHeads = 1024;
constexpr uint32_t kMaxObjectDim = 1024;

// Eight shapes found by k-means on coding cost over exponents of a real model's K and V (three texts) mixed with
// Gaussian and Laplacian channels of varying mean, ordered by mean symbol. README.md tells how they fare elsewhere.
constexpr LosslessShape kBuiltInShapes[] = {
    {14, 975, 22, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
    {26, 404, 328, 136, 63, 31, 16, 8, 4, 2, 1, 1, 1, 1, 1, 1},
    {43, 261, 307, 197, 105, 54, 27, 13, 7, 3, 2, 1, 1, 1, 1, 1},
    {2, 178, 421, 221, 101, 49, 24, 12, 6, 3, 2, 1, 1, 1, 1, 1},
    {17, 182, 307, 236, 136, 71, 36, 18, 9, 5, 2, 1, 1, 1, 1, 1},
    {1, 1, 31, 682, 264, 27, 7, 3, 1, 1, 1, 1, 1, 1, 1, 1},
    {1, 1, 1, 304, 634, 62, 10, 3, 1, 1, 1, 1, 1, 1, 1, 1},
    {1, 3, 100, 301, 274, 165, 88, 45, 23, 11, 6, 3, 1, 1, 1, 1},
};

// floor(256 * log2(value)) for value >= 1, in integers so that every machine chooses alike.
uint32_t Log2Q8(uint32_t value) {
  uint32_t whole = 31 - static_cast<uint32_t>(__builtin_clz(value));
  uint64_t mantissa = (static_cast<uint64_t>(value) << 30) >> whole;  // in [2^30, 2^31)
  uint32_t result = whole;
  for (int bit = 0; bit < 8; ++bit) {
    mantissa = (mantissa * mantissa) >> 30;
    result <<= 1;
    if (mantissa >= (uint64_t{1} << 31)) {
      mantissa >>= 1;
      ++result;
    }
  }
  return result;
}

size_t ChannelsPerLayer(const LosslessObjectSpec& spec) {
  return static_cast<size_t>(spec.kv_heads) * (static_cast<size_t>(spec.k_dim) + spec.v_dim);
}

absl::Status CheckScalars(const LosslessObjectSpec& spec) {
  if (spec.prob_bits < kRansMinProbBits || spec.prob_bits > kRansMaxProbBits) {
    return InvalidArgument("lossless object: prob_bits is ", spec.prob_bits, ", not 9..11");
  }
  const bool in_object = spec.channel_source == ChannelSource::kObject;
  if (!in_object && spec.channel_source != ChannelSource::kTile) {
    return InvalidArgument("lossless object: channel source ", static_cast<uint32_t>(spec.channel_source));
  }
  const uint32_t max_shapes = in_object ? LosslessTables::kMaxShapes : LosslessTables::kMaxShapesInTile;
  if (spec.shapes_per_set < 1 || spec.shapes_per_set > max_shapes) {
    return InvalidArgument("lossless object: ", spec.shapes_per_set, " shapes a set, not 1..", max_shapes);
  }
  if (spec.layers > kMaxObjectLayers || (in_object && spec.layers == 0)) {
    return InvalidArgument("lossless object: ", spec.layers, " layers");
  }
  if (!in_object) {
    if (spec.kv_heads != 0 || spec.k_dim != 0 || spec.v_dim != 0 || static_cast<uint8_t>(spec.dtype) != 0) {
      return InvalidArgument("lossless object: heads, dims and dtype must be 0 when tiles carry their channels");
    }
    return absl::OkStatus();
  }
  if (!IsKnownDType(static_cast<uint8_t>(spec.dtype))) {
    return InvalidArgument("lossless object: dtype ", static_cast<uint32_t>(spec.dtype));
  }
  if (spec.kv_heads < 1 || spec.kv_heads > kMaxObjectHeads) {
    return InvalidArgument("lossless object: ", spec.kv_heads, " KV heads, not 1..", kMaxObjectHeads);
  }
  const bool dims_ok = spec.k_dim >= 16 && spec.k_dim <= kMaxObjectDim && spec.k_dim % 16 == 0 &&
                       spec.v_dim <= kMaxObjectDim && spec.v_dim % 16 == 0;
  if (!dims_ok) return InvalidArgument("lossless object: head dims ", spec.k_dim, " and ", spec.v_dim);
  return absl::OkStatus();
}

absl::Status CheckTables(const LosslessObjectSpec& spec) {
  if (spec.shapes.empty() || spec.shapes.size() % spec.shapes_per_set != 0 ||
      spec.shapes.size() / spec.shapes_per_set > LosslessTables::kMaxSets) {
    return InvalidArgument("lossless object: ", spec.shapes.size(), " shapes in sets of ", spec.shapes_per_set);
  }
  const size_t sets = spec.shapes.size() / spec.shapes_per_set;
  for (size_t i = 0; i < spec.shapes.size(); ++i) {
    uint32_t sum = 0;
    for (const uint16_t frequency : spec.shapes[i]) {
      if (frequency == 0) return InvalidArgument("lossless object: shape ", i, " has a zero frequency");
      sum += frequency;
    }
    if (sum != uint32_t{1} << spec.prob_bits) {
      return InvalidArgument("lossless object: shape ", i, " sums to ", sum, ", not 2^", spec.prob_bits);
    }
  }
  if (spec.set_of.size() != size_t{2} * spec.layers) {
    return InvalidArgument("lossless object: set map of ", spec.set_of.size(), " for ", spec.layers, " layers");
  }
  for (size_t i = 0; i < spec.set_of.size(); ++i) {
    if (spec.set_of[i] >= sets) return InvalidArgument("lossless object: layer ", i / 2, " uses set ", spec.set_of[i]);
  }
  const size_t expected = spec.channel_source == ChannelSource::kObject ? spec.layers * ChannelsPerLayer(spec) : 0;
  if (spec.channels.size() != expected) {
    return InvalidArgument("lossless object: ", spec.channels.size(), " channels, expected ", expected);
  }
  for (size_t i = 0; i < spec.channels.size(); ++i) {
    if (spec.channels[i].shape >= spec.shapes_per_set) {
      return InvalidArgument("lossless object: channel ", i, " uses shape ", spec.channels[i].shape);
    }
  }
  return absl::OkStatus();
}

std::vector<uint8_t> Serialize(const LosslessObjectSpec& spec) {
  std::vector<uint8_t> bytes;
  ByteWriter out(bytes);
  out.U32(kCalibrationMagic);
  out.U16(kCalibrationVersion);
  out.U8(kObjectKindLossless);
  out.U8(spec.prob_bits);
  out.U16(static_cast<uint16_t>(spec.shapes.size() / spec.shapes_per_set));
  out.U8(spec.shapes_per_set);
  out.U8(static_cast<uint8_t>(spec.channel_source));
  out.U8(static_cast<uint8_t>(spec.dtype));
  out.U8(0);
  out.U16(spec.layers);
  out.U16(spec.kv_heads);
  out.U16(spec.k_dim);
  out.U16(spec.v_dim);
  out.U16(0);
  for (const uint16_t set : spec.set_of) out.U16(set);
  for (const LosslessShape& shape : spec.shapes) {
    for (const uint16_t frequency : shape) out.U16(frequency);
  }
  for (const ChannelClass& channel : spec.channels) {
    out.U8(channel.offset);
    out.U8(channel.shape);
  }
  return bytes;
}

LosslessObjectSpec BuiltInSpec() {
  LosslessObjectSpec spec;
  spec.shapes.assign(std::begin(kBuiltInShapes), std::end(kBuiltInShapes));
  return spec;
}

}  // namespace

absl::StatusOr<LosslessTables> LosslessTables::Create(const LosslessObjectSpec& spec) {
  KDN_RETURN_IF_ERROR(CheckScalars(spec));
  KDN_RETURN_IF_ERROR(CheckTables(spec));
  LosslessTables tables;
  tables.spec_ = spec;
  tables.bytes_ = Serialize(spec);
  tables.digest_ = Sha256::Of(tables.bytes_);
  tables.BuildTables();
  return tables;
}

absl::StatusOr<LosslessTables> LosslessTables::Parse(ByteSpan bytes) {
  if (bytes.size() > kMaxObjectBytes) return InvalidArgument("lossless object: ", bytes.size(), " bytes");
  ByteReader in(bytes);
  if (in.U32() != kCalibrationMagic) return InvalidArgument("lossless object: wrong magic");
  const uint16_t version = in.U16();
  const uint8_t kind = in.U8();
  if (!in.ok()) return InvalidArgument("lossless object: truncated after ", bytes.size(), " bytes");
  if (version != kCalibrationVersion || kind != kObjectKindLossless) {
    return Unimplemented("calibration object of version ", version, ", kind ", kind);
  }
  LosslessObjectSpec spec;
  spec.prob_bits = in.U8();
  const size_t sets = in.U16();
  spec.shapes_per_set = in.U8();
  spec.channel_source = static_cast<ChannelSource>(in.U8());
  spec.dtype = static_cast<DType>(in.U8());
  uint32_t reserved = in.U8();
  spec.layers = in.U16();
  spec.kv_heads = in.U16();
  spec.k_dim = in.U16();
  spec.v_dim = in.U16();
  reserved |= in.U16();
  if (!in.ok()) return InvalidArgument("lossless object: truncated after ", bytes.size(), " bytes");
  if (reserved != 0) return InvalidArgument("lossless object: reserved bytes are set");
  KDN_RETURN_IF_ERROR(CheckScalars(spec));

  const size_t shapes = sets * spec.shapes_per_set;
  const size_t channels = spec.channel_source == ChannelSource::kObject ? spec.layers * ChannelsPerLayer(spec) : 0;
  const size_t body = size_t{4} * spec.layers + shapes * sizeof(LosslessShape) + 2 * channels;
  if (sets > kMaxSets || in.remaining() != body) {
    return InvalidArgument("lossless object: ", sets, " sets, ", in.remaining(), " bytes after the header, not ", body);
  }
  spec.set_of.resize(size_t{2} * spec.layers);
  for (uint16_t& set : spec.set_of) set = in.U16();
  spec.shapes.resize(shapes);
  for (LosslessShape& shape : spec.shapes) {
    for (uint16_t& frequency : shape) frequency = in.U16();
  }
  spec.channels.resize(channels);
  for (ChannelClass& channel : spec.channels) {
    channel.offset = in.U8();
    channel.shape = in.U8();
  }
  return Create(spec);
}

const LosslessTables& LosslessTables::BuiltIn() {
  static const LosslessTables* const tables = new LosslessTables(Create(BuiltInSpec()).value());
  return *tables;
}

absl::StatusOr<uint32_t> LosslessTables::SetOf(uint32_t layer, KvKind kind) const {
  if (spec_.layers == 0) return 0;
  if (layer >= spec_.layers) {
    return InvalidArgument("lossless object ", digest_.ToShortHex(), " has ", spec_.layers, " layers, not layer ",
                           layer);
  }
  return spec_.set_of[size_t{2} * layer + static_cast<size_t>(kind)];
}

absl::StatusOr<std::span<const ChannelClass>> LosslessTables::ChannelsOf(uint32_t layer, KvKind kind, uint32_t head,
                                                                         uint32_t dim) const {
  const uint32_t expected_dim = kind == KvKind::kK ? spec_.k_dim : spec_.v_dim;
  if (layer >= spec_.layers || head >= spec_.kv_heads || dim != expected_dim) {
    return InvalidArgument("lossless object ", digest_.ToShortHex(), " does not cover layer ", layer, ", head ", head,
                           ", dim ", dim);
  }
  size_t at = layer * ChannelsPerLayer(spec_);
  if (kind == KvKind::kV) at += static_cast<size_t>(spec_.kv_heads) * spec_.k_dim;
  return std::span(spec_.channels).subspan(at + static_cast<size_t>(head) * dim, dim);
}

void LosslessTables::BuildTables() {
  const size_t shapes = spec_.shapes.size();
  decode_.resize(shapes << spec_.prob_bits);
  encode_.resize(shapes * kRansSymbols);
  cost_.assign(shapes / spec_.shapes_per_set * kRansSymbols * kMaxShapesInTile, kNoShapeCost);
  for (size_t i = 0; i < shapes; ++i) {
    uint32_t* slots = decode_.data() + (i << spec_.prob_bits);
    uint32_t* costs = cost_.data() + i / spec_.shapes_per_set * kRansSymbols * kMaxShapesInTile;
    const size_t shape = i % spec_.shapes_per_set;
    uint32_t cumulative = 0;
    for (uint32_t symbol = 0; symbol < kRansSymbols; ++symbol) {
      const uint32_t frequency = spec_.shapes[i][symbol];
      for (uint32_t bias = 0; bias < frequency; ++bias) {
        slots[cumulative + bias] = PackDecodeEntry(frequency, bias, symbol);
      }
      encode_[i * kRansSymbols + symbol] = PackEncodeEntry(frequency, cumulative);
      cumulative += frequency;
      if (shape >= kMaxShapesInTile) continue;
      const uint32_t escape_cost = symbol == kRansEscape ? 8 * 256 : 0;
      costs[symbol * kMaxShapesInTile + shape] = spec_.prob_bits * 256u - Log2Q8(frequency) + escape_cost;
    }
  }
}

}  // namespace kdn
