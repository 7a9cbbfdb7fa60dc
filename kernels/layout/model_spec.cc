#include "kernels/layout/model_spec.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "kernels/base/status.h"

namespace kdn {
namespace {

constexpr std::string_view kMagic = "KDNMODEL";
constexpr uint16_t kVersion = 1;
constexpr uint32_t kHeadDimMultiple = 16;

// Tags of the canonical encoding, written in this order, each exactly once.
enum Tag : uint8_t {
  kWeights = 1,
  kTokenizer = 2,
  kAdapter = 3,
  kDType = 4,
  kRopes = 5,
  kLayers = 6,
  kKScales = 7,
  kVScales = 8,
  kExtra = 9,
};

bool IsWindowed(AttentionKind kind) {
  return kind == AttentionKind::kSlidingWindow || kind == AttentionKind::kChunkedWindow;
}

absl::Status ValidateRope(const RopeSpec& rope, size_t index) {
  const std::string where = StrCat("ropes[", index, "]");
  if (static_cast<uint8_t>(rope.style) > static_cast<uint8_t>(RopeStyle::kInterleaved)) {
    return InvalidArgument(where, ".style is ", static_cast<int>(rope.style), ", known are 0 to 2");
  }
  if ((rope.style == RopeStyle::kNone) != (rope.rotary_dim == 0)) {
    return InvalidArgument(where, ".rotary_dim is ", rope.rotary_dim, ": 0 exactly when nothing rotates");
  }
  if (rope.rotary_dim % 2 != 0 || rope.rotary_dim > kMaxHeadDim || rope.rotary_offset > kMaxHeadDim) {
    return InvalidArgument(where, " rotates ", rope.rotary_dim, " channels from ", rope.rotary_offset,
                           ": must be even and at most ", kMaxHeadDim);
  }
  if (rope.inv_freq.size() != rope.rotary_dim / 2) {
    return InvalidArgument(where, ".inv_freq has ", rope.inv_freq.size(), " values, rotary_dim / 2 is ",
                           rope.rotary_dim / 2);
  }
  for (const float freq : rope.inv_freq) {
    if (!std::isfinite(freq) || std::signbit(freq)) {
      return InvalidArgument(where, ".inv_freq holds ", freq, ": must be finite and >= 0");
    }
  }
  if (!(rope.amplitude >= kMinRopeAmplitude && rope.amplitude <= kMaxRopeAmplitude)) {
    return InvalidArgument(where, ".amplitude is ", rope.amplitude, ": must be ", kMinRopeAmplitude, " to ",
                           kMaxRopeAmplitude);
  }
  return absl::OkStatus();
}

absl::Status ValidateHeadDims(const LayerSpec& layer, const std::string& where) {
  const bool latent = layer.attention == AttentionKind::kLatent;
  if (layer.num_kv_heads == 0 || layer.num_kv_heads > kMaxKvHeads || (latent && layer.num_kv_heads != 1)) {
    return InvalidArgument(where, ".num_kv_heads is ", layer.num_kv_heads, ": must be 1 to ", kMaxKvHeads,
                           ", and 1 for latents");
  }
  const auto fits = [](uint32_t dim) { return dim > 0 && dim <= kMaxHeadDim && dim % kHeadDimMultiple == 0; };
  if (!fits(layer.k_head_dim)) {
    return InvalidArgument(where, ".k_head_dim is ", layer.k_head_dim, ": must be a multiple of ", kHeadDimMultiple,
                           " up to ", kMaxHeadDim);
  }
  if (latent ? layer.v_head_dim != 0 : !fits(layer.v_head_dim)) {
    return InvalidArgument(where, ".v_head_dim is ", layer.v_head_dim, ": must be a multiple of ", kHeadDimMultiple,
                           " up to ", kMaxHeadDim, ", and 0 for latents");
  }
  return absl::OkStatus();
}

absl::Status ValidateLayer(const ModelSpec& spec, size_t index) {
  const LayerSpec& layer = spec.layers[index];
  const std::string where = StrCat("layers[", index, "]");
  const uint8_t kind = static_cast<uint8_t>(layer.attention);
  if (kind < 1 || kind > 4)
    return InvalidArgument(where, ".attention is ", static_cast<int>(kind), ", known are 1 to 4");
  if (IsWindowed(layer.attention) != (layer.window > 0)) {
    return InvalidArgument(where, ".window is ", layer.window, ": > 0 exactly for windowed attention");
  }
  KDN_RETURN_IF_ERROR(ValidateHeadDims(layer, where));
  if (layer.rope_index >= spec.ropes.size()) {
    return InvalidArgument(where, ".rope_index is ", layer.rope_index, ", there are ", spec.ropes.size(), " ropes");
  }
  const RopeSpec& rope = spec.ropes[layer.rope_index];
  if (rope.rotary_offset + rope.rotary_dim > layer.k_head_dim) {
    return InvalidArgument(where, " rotates channels up to ", rope.rotary_offset + rope.rotary_dim,
                           ", its K heads have ", layer.k_head_dim);
  }
  return absl::OkStatus();
}

absl::Status ValidateScales(const ModelSpec& spec, const std::vector<float>& scales, std::string_view name) {
  if (scales.empty()) return absl::OkStatus();
  if (DTypeBytes(spec.dtype) != 1) {
    return InvalidArgument(name, " has ", scales.size(), " values, but only fp8 KV has scales");
  }
  size_t per_head = 0;
  for (const LayerSpec& layer : spec.layers) per_head += layer.num_kv_heads;
  if (scales.size() != spec.layers.size() && scales.size() != per_head) {
    return InvalidArgument(name, " has ", scales.size(), " values: must be one a layer (", spec.layers.size(),
                           ") or one a layer and KV head (", per_head, ")");
  }
  for (const float scale : scales) {
    if (!std::isfinite(scale) || scale <= 0) return InvalidArgument(name, " holds ", scale, ": must be finite and > 0");
  }
  return absl::OkStatus();
}

absl::Status ValidateExtra(const std::vector<std::string>& extra) {
  if (extra.size() > kMaxExtraEntries) {
    return InvalidArgument("extra has ", extra.size(), " entries, at most ", kMaxExtraEntries);
  }
  for (size_t i = 0; i < extra.size(); ++i) {
    if (extra[i].size() > kMaxExtraBytes) {
      return InvalidArgument("extra[", i, "] has ", extra[i].size(), " bytes, at most ", kMaxExtraBytes);
    }
    if (i > 0 && extra[i - 1] >= extra[i]) return InvalidArgument("extra[", i, "] is not above extra[", i - 1, "]");
  }
  return absl::OkStatus();
}

template <typename WriteValue>
void WriteField(std::vector<uint8_t>& out, Tag tag, WriteValue write_value) {
  std::vector<uint8_t> value;
  ByteWriter value_writer(value);
  write_value(value_writer);
  ByteWriter writer(out);
  writer.U8(tag);
  writer.U32(static_cast<uint32_t>(value.size()));
  writer.Bytes(value);
}

void WriteFloats(ByteWriter& writer, const std::vector<float>& values) {
  writer.U32(static_cast<uint32_t>(values.size()));
  for (const float value : values) writer.F32(value);
}

std::vector<float> ReadFloats(ByteReader& reader, uint32_t count) {
  std::vector<float> values;
  if (count > reader.remaining() / sizeof(float)) {
    reader.Bytes(reader.remaining() + 1);  // makes the reader fail before anything is allocated
    return values;
  }
  values.reserve(count);
  for (uint32_t i = 0; i < count; ++i) values.push_back(reader.F32());
  return values;
}

void ReadRopes(ByteReader& reader, ModelSpec& spec) {
  const uint32_t count = reader.U32();
  for (uint32_t i = 0; i < count && reader.ok() && i < kMaxRopes + 1; ++i) {
    RopeSpec rope;
    rope.style = static_cast<RopeStyle>(reader.U8());
    rope.rotary_dim = reader.U32();
    rope.rotary_offset = reader.U32();
    rope.amplitude = reader.F32();
    rope.inv_freq = ReadFloats(reader, reader.U32());
    spec.ropes.push_back(std::move(rope));
  }
}

void ReadLayers(ByteReader& reader, ModelSpec& spec) {
  const uint32_t count = reader.U32();
  for (uint32_t i = 0; i < count && reader.ok() && i < kMaxLayers + 1; ++i) {
    LayerSpec layer;
    layer.attention = static_cast<AttentionKind>(reader.U8());
    layer.window = reader.U32();
    layer.num_kv_heads = reader.U32();
    layer.k_head_dim = reader.U32();
    layer.v_head_dim = reader.U32();
    layer.rope_index = reader.U32();
    spec.layers.push_back(layer);
  }
}

void ReadExtra(ByteReader& reader, ModelSpec& spec) {
  const uint32_t count = reader.U32();
  for (uint32_t i = 0; i < count && reader.ok() && i < kMaxExtraEntries + 1; ++i) {
    spec.extra.emplace_back(AsStringView(reader.Bytes(reader.U32())));
  }
}

void ReadDigest(ByteReader& reader, Digest& digest) {
  if (const auto read = Digest::FromBytes(reader.Bytes(Digest::kBytes))) digest = *read;
}

void ReadField(Tag tag, ByteReader& reader, ModelSpec& spec) {
  switch (tag) {
    case kWeights:
      return ReadDigest(reader, spec.weights_digest);
    case kTokenizer:
      return ReadDigest(reader, spec.tokenizer_digest);
    case kAdapter:
      return ReadDigest(reader, spec.adapter_digest);
    case kDType:
      spec.dtype = static_cast<DType>(reader.U8());
      return;
    case kRopes:
      return ReadRopes(reader, spec);
    case kLayers:
      return ReadLayers(reader, spec);
    case kKScales:
      spec.k_scales = ReadFloats(reader, reader.U32());
      return;
    case kVScales:
      spec.v_scales = ReadFloats(reader, reader.U32());
      return;
    case kExtra:
      return ReadExtra(reader, spec);
  }
}

}  // namespace

absl::Status ValidateModelSpec(const ModelSpec& spec) {
  if (spec.weights_digest.IsZero())
    return InvalidArgument("weights_digest is zero: give the digest of the weight files");
  if (spec.tokenizer_digest.IsZero()) return InvalidArgument("tokenizer_digest is zero: give the tokenizer's digest");
  if (!IsKnownDType(static_cast<uint8_t>(spec.dtype))) {
    return InvalidArgument("dtype is ", static_cast<int>(spec.dtype), ", known are 1 to 5");
  }
  if (spec.ropes.empty() || spec.ropes.size() > kMaxRopes) {
    return InvalidArgument("ropes has ", spec.ropes.size(), " entries: must be 1 to ", kMaxRopes);
  }
  if (spec.layers.empty() || spec.layers.size() > kMaxLayers) {
    return InvalidArgument("layers has ", spec.layers.size(), " entries: must be 1 to ", kMaxLayers);
  }
  for (size_t i = 0; i < spec.ropes.size(); ++i) KDN_RETURN_IF_ERROR(ValidateRope(spec.ropes[i], i));
  for (size_t i = 0; i < spec.layers.size(); ++i) KDN_RETURN_IF_ERROR(ValidateLayer(spec, i));
  KDN_RETURN_IF_ERROR(ValidateScales(spec, spec.k_scales, "k_scales"));
  KDN_RETURN_IF_ERROR(ValidateScales(spec, spec.v_scales, "v_scales"));
  return ValidateExtra(spec.extra);
}

std::vector<uint8_t> EncodeModelSpec(const ModelSpec& spec) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.Bytes(AsBytes(kMagic));
  writer.U16(kVersion);
  WriteField(out, kWeights, [&](ByteWriter& w) { w.Bytes(spec.weights_digest.span()); });
  WriteField(out, kTokenizer, [&](ByteWriter& w) { w.Bytes(spec.tokenizer_digest.span()); });
  WriteField(out, kAdapter, [&](ByteWriter& w) { w.Bytes(spec.adapter_digest.span()); });
  WriteField(out, kDType, [&](ByteWriter& w) { w.U8(static_cast<uint8_t>(spec.dtype)); });
  WriteField(out, kRopes, [&](ByteWriter& w) {
    w.U32(static_cast<uint32_t>(spec.ropes.size()));
    for (const RopeSpec& rope : spec.ropes) {
      w.U8(static_cast<uint8_t>(rope.style));
      w.U32(rope.rotary_dim);
      w.U32(rope.rotary_offset);
      w.F32(rope.amplitude);
      WriteFloats(w, rope.inv_freq);
    }
  });
  WriteField(out, kLayers, [&](ByteWriter& w) {
    w.U32(static_cast<uint32_t>(spec.layers.size()));
    for (const LayerSpec& layer : spec.layers) {
      w.U8(static_cast<uint8_t>(layer.attention));
      for (const uint32_t value :
           {layer.window, layer.num_kv_heads, layer.k_head_dim, layer.v_head_dim, layer.rope_index}) {
        w.U32(value);
      }
    }
  });
  WriteField(out, kKScales, [&](ByteWriter& w) { WriteFloats(w, spec.k_scales); });
  WriteField(out, kVScales, [&](ByteWriter& w) { WriteFloats(w, spec.v_scales); });
  WriteField(out, kExtra, [&](ByteWriter& w) {
    w.U32(static_cast<uint32_t>(spec.extra.size()));
    for (const std::string& entry : spec.extra) {
      w.U32(static_cast<uint32_t>(entry.size()));
      w.Bytes(AsBytes(entry));
    }
  });
  return out;
}

absl::StatusOr<ModelSpec> DecodeModelSpec(ByteSpan bytes) {
  if (bytes.size() > kMaxSpecBytes) {
    return InvalidArgument("model spec has ", bytes.size(), " bytes, at most ", kMaxSpecBytes);
  }
  ByteReader reader(bytes);
  if (AsStringView(reader.Bytes(kMagic.size())) != kMagic) {
    return InvalidArgument("not a model spec: it does not start with ", kMagic);
  }
  if (const uint16_t version = reader.U16(); version != kVersion) {
    return Unimplemented("model spec version ", version, ", this build knows ", kVersion);
  }
  ModelSpec spec;
  for (uint8_t tag = kWeights; tag <= kExtra; ++tag) {
    if (const uint8_t found = reader.U8(); found != tag) {
      return InvalidArgument("model spec has tag ", static_cast<int>(found), " where ", static_cast<int>(tag),
                             " belongs");
    }
    ByteReader field(reader.Bytes(reader.U32()));
    ReadField(static_cast<Tag>(tag), field, spec);
    if (!reader.ok() || !field.ok() || field.remaining() != 0) {
      return InvalidArgument("model spec field ", static_cast<int>(tag), " does not have the length it declares");
    }
  }
  if (reader.remaining() != 0) return InvalidArgument("model spec is followed by ", reader.remaining(), " stray bytes");
  KDN_RETURN_IF_ERROR(ValidateModelSpec(spec));
  return spec;
}

Fingerprint FingerprintOf(const ModelSpec& spec) { return Sha256::Of(EncodeModelSpec(spec)); }

uint64_t LayerTokenBytes(const ModelSpec& spec, uint32_t layer) {
  const LayerSpec& l = spec.layers[layer];
  return uint64_t{l.num_kv_heads} * (l.k_head_dim + l.v_head_dim) * DTypeBytes(spec.dtype);
}

uint64_t TokenBytes(const ModelSpec& spec) {
  uint64_t bytes = 0;
  for (uint32_t layer = 0; layer < spec.layers.size(); ++layer) bytes += LayerTokenBytes(spec, layer);
  return bytes;
}

}  // namespace kdn
