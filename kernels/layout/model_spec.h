#ifndef KDN_KERNELS_LAYOUT_MODEL_SPEC_H_
#define KDN_KERNELS_LAYOUT_MODEL_SPEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"
#include "kernels/base/sha256.h"
#include "kernels/layout/dtype.h"

// Everything that makes KV valid, and its identity. Two processes may exchange KV exactly when their specs have the
// same fingerprint. Names of models are no part of it: only digests and numbers are.

namespace kdn {

// SHA-256 of the canonical encoding of a ModelSpec.
using Fingerprint = Digest;

// Persisted values.
enum class AttentionKind : uint8_t {
  kFull = 1,           // every earlier token is visible
  kSlidingWindow = 2,  // the query at position p sees keys in (p - window, p]
  kChunkedWindow = 3,  // the query at position p sees keys of its own block of `window` positions
  kLatent = 4,         // MLA: one latent per token, held as K; V is derived from it (v_head_dim = 0)
};

// Persisted values.
enum class RopeStyle : uint8_t {
  kNone = 0,         // position-free K
  kHalfSplit = 1,    // pairs (i, i + rotary_dim / 2)
  kInterleaved = 2,  // pairs (2i, 2i + 1)
};

// One rotary embedding. Frequencies travel explicitly, so that every scaling rule is one case; dynamic rules (whose
// frequencies depend on the length of the request) cannot be described and must not be registered.
struct RopeSpec {
  RopeStyle style = RopeStyle::kNone;
  uint32_t rotary_dim = 0;      // channels that rotate; even, at most the K head dim; 0 with kNone
  uint32_t rotary_offset = 0;   // first channel that rotates
  std::vector<float> inv_freq;  // rotary_dim / 2 frequencies in radians per position, all finite and >= 0
  float amplitude = 1.0f;  // attention factor multiplied into cos and sin (YaRN's mscale); kMin- to kMaxRopeAmplitude

  friend bool operator==(const RopeSpec&, const RopeSpec&) = default;
};

struct LayerSpec {
  AttentionKind attention = AttentionKind::kFull;
  uint32_t window = 0;        // tokens; > 0 exactly for the two windowed kinds
  uint32_t num_kv_heads = 0;  // 1 for latents
  uint32_t k_head_dim = 0;    // channels; a multiple of 16
  uint32_t v_head_dim = 0;    // channels; a multiple of 16; 0 exactly for latents
  uint32_t rope_index = 0;    // into ModelSpec::ropes

  friend bool operator==(const LayerSpec&, const LayerSpec&) = default;
};

struct ModelSpec {
  Digest weights_digest;           // SHA-256 over the weight files' bytes; never zero
  Digest tokenizer_digest;         // SHA-256 over the tokenizer's definition; never zero
  Digest adapter_digest;           // SHA-256 over the adapter's (LoRA's) bytes; zero without one
  DType dtype = DType::kBf16;      // element type of K and V
  std::vector<RopeSpec> ropes;     // at least one
  std::vector<LayerSpec> layers;   // in order of execution; at least one
  std::vector<float> k_scales;     // fp8 only: empty, one a layer, or one a (layer, KV head), layer-major
  std::vector<float> v_scales;     // as k_scales
  std::vector<std::string> extra;  // whatever else the engine says makes its KV differ, "key=value", sorted, unique

  friend bool operator==(const ModelSpec&, const ModelSpec&) = default;
};

// Bounds every valid spec keeps: a parser refuses more before it allocates.
inline constexpr uint32_t kMaxLayers = 1024;
inline constexpr uint32_t kMaxKvHeads = 1024;
inline constexpr uint32_t kMaxHeadDim = 1024;
inline constexpr uint32_t kMaxRopes = 64;
// Far beyond what models have (1 to 2): K is divided by it and multiplied again, which no dtype survives for any
// factor.
inline constexpr float kMinRopeAmplitude = 1.0f / 16;
inline constexpr float kMaxRopeAmplitude = 16.0f;
inline constexpr uint32_t kMaxExtraEntries = 64;
inline constexpr uint32_t kMaxExtraBytes = 1024;
inline constexpr size_t kMaxSpecBytes = size_t{1} << 20;

// OK when every field keeps the rules above; else InvalidArgument naming field, layer and value.
absl::Status ValidateModelSpec(const ModelSpec& spec);

// The canonical bytes of a valid spec (layout/README.md gives the layout byte by byte). Equal specs, equal bytes.
std::vector<uint8_t> EncodeModelSpec(const ModelSpec& spec);

// The spec encoded by `bytes`, which are hostile: InvalidArgument for anything that EncodeModelSpec would not have
// written from a valid spec (so that each spec has one encoding), Unimplemented for a later version.
absl::StatusOr<ModelSpec> DecodeModelSpec(ByteSpan bytes);

// SHA-256(EncodeModelSpec(spec)).
Fingerprint FingerprintOf(const ModelSpec& spec);

// Bytes of K and V of one token at one layer, over all its KV heads.
uint64_t LayerTokenBytes(const ModelSpec& spec, uint32_t layer);

// Bytes of K and V of one token over all layers.
uint64_t TokenBytes(const ModelSpec& spec);

}  // namespace kdn

#endif  // KDN_KERNELS_LAYOUT_MODEL_SPEC_H_
