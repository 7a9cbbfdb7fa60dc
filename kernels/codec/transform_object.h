#ifndef KDN_KERNELS_CODEC_TRANSFORM_OBJECT_H_
#define KDN_KERNELS_CODEC_TRANSFORM_OBJECT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "kernels/base/bytes.h"
#include "kernels/base/sha256.h"
#include "kernels/codec/transform_core.h"
#include "kernels/layout/model_spec.h"

// The calibration object of profile transform: bases, levels and queries of one model. Named by the SHA-256 of its
// bytes, which TILE_FORMATS.md specifies.

namespace kdn {

inline constexpr uint32_t kMaxTransformObjectBytes = uint32_t{64} << 20;
inline constexpr uint32_t kMaxTransformGroups = 4096;
inline constexpr uint32_t kMaxTransformLevels = 16;
inline constexpr uint32_t kMaxTransformQueries = 256;
inline constexpr uint32_t kUnknownTransformKl = 0xffffffff;

// A named quality: what the step `step` gave on held-out text.
struct TransformLevel {
  uint16_t ratio_tenths = 0;  // 80: eight times smaller
  int16_t step = 0;           // sixteenths of an octave, |step| <= kTransformMaxStep
  uint32_t kl_micronats = kUnknownTransformKl;
};

// Channels of a base that belong to one layer, head and kind.
struct TransformSlice {
  uint32_t layer = 0;
  uint32_t head = 0;  // global KV head
  KvKind kind = KvKind::kK;
  uint32_t channel = 0;  // first one in the base
  uint32_t dim = 0;
};

enum class TransformBaseKind : uint8_t { kK = 0, kV = 1, kJoint = 2 };

// A synthesis basis: x_i = mean_i + step * scale_i * sum over j of matrix[i][j] * value_j.
struct TransformBase {
  TransformBaseKind kind = TransformBaseKind::kK;
  uint32_t width = 0;                  // channels n, a multiple of 16
  uint32_t rank = 0;                   // coefficients r, 1..n
  std::vector<float> means;            // [channel]
  std::vector<float> scales;           // [channel]
  std::span<const int8_t> sigmas;      // [coefficient], quarter octaves, descending
  std::span<const int8_t> matrix;      // [channel][coefficient]
  std::vector<int16_t> pairs;          // [coefficient / 2][channel][2]: the matrix for vectors, zero where r is odd
  std::vector<TransformSlice> slices;  // ascending channel

  // Coefficients that are coded under step exponent `exponent`: a prefix.
  uint32_t CodedCoefficients(int32_t exponent) const;
};

struct TransformGroup {
  uint32_t layer = 0;
  uint32_t layer_count = 0;
  uint32_t head_begin = 0;
  uint32_t head_count = 0;
  uint32_t k_dim = 0;  // of a head
  uint32_t v_dim = 0;  // 0 for latents
  std::vector<TransformBase> bases;
  ByteSpan queries;  // [layer][head][query][k channel] bf16, before their rotary embedding, softmax scale folded in

  // Channels of all bases: those of a token.
  uint32_t width() const;
};

// Immutable, thread-safe.
class TransformObject {
 public:
  // The object of these hostile bytes. InvalidArgument when they break a rule of the format or do not fit `spec` (which
  // is valid); FailedPrecondition for another model's object; Unimplemented for another version, kind or shape.
  static absl::StatusOr<std::shared_ptr<const TransformObject>> Parse(ByteSpan bytes, const ModelSpec& spec);

  TransformObject(const TransformObject&) = delete;
  TransformObject& operator=(const TransformObject&) = delete;
  ~TransformObject();

  const Digest& digest() const { return digest_; }
  const Fingerprint& fingerprint() const { return fingerprint_; }  // of the model it is for
  ByteSpan canonical_bytes() const { return bytes_; }
  std::span<const TransformLevel> levels() const { return levels_; }  // ascending ratio
  std::span<const TransformGroup> groups() const { return groups_; }  // ascending layer, then head
  uint32_t queries_per_head() const { return queries_per_head_; }

  // The group that holds (layer, head), null without one.
  const TransformGroup* FindGroup(uint32_t layer, uint32_t head) const;

  // What an encoder multiplies with, [channel][AnalysisStride(base)] fp32: coefficient j = sum over i of analysis[i][j]
  // * (x_i - mean_i), in steps of 1. The inverse of the synthesis, by least squares where it has none; zeros behind the
  // rank. Computed when first asked for (tenths of a second for a wide base), then kept.
  std::span<const float> Analysis(uint32_t group, uint32_t base) const;
  static uint32_t AnalysisStride(const TransformBase& base) { return static_cast<uint32_t>(AlignUp(base.rank, 16)); }

 private:
  class Parser;
  struct LazyAnalysis;
  TransformObject();

  std::vector<uint8_t> bytes_;
  Digest digest_;
  Fingerprint fingerprint_;
  uint32_t queries_per_head_ = 0;
  std::vector<TransformLevel> levels_;
  std::vector<TransformGroup> groups_;
  std::unique_ptr<LazyAnalysis[]> analysis_;  // [group][2]
};

// Objects by digest: what decoders look for the ones that containers name. Thread-safe.
class TransformObjects {
 public:
  // Keeps the object; one of the same digest that is there stays.
  void Add(std::shared_ptr<const TransformObject> object);
  // Null when there is none of this digest. Shared with the callers, so that an object outlives its removal here.
  std::shared_ptr<const TransformObject> Find(const Digest& digest) const;

 private:
  mutable absl::Mutex mutex_;
  std::map<Digest, std::shared_ptr<const TransformObject>> objects_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kdn

#endif  // KDN_KERNELS_CODEC_TRANSFORM_OBJECT_H_
