#ifndef KDN_TESTS_KERNELS_CODEC_TRANSFORM_OBJECTS_H_
#define KDN_TESTS_KERNELS_CODEC_TRANSFORM_OBJECTS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "kernels/base/bytes.h"
#include "kernels/codec/transform_object.h"
#include "kernels/layout/model_spec.h"
#include "tests/kernels/codec/test_tiles.h"

// Transform objects for tests: as plain values, as bytes, and with random orthogonal bases. IEEE operations only, so
// that every platform makes the same.

namespace kdn {

struct BasePlan {
  uint8_t kind = 0;
  uint16_t rank = 0;
  std::vector<float> means;    // [channel]
  std::vector<float> scales;   // [channel]
  std::vector<int8_t> sigmas;  // [coefficient]
  std::vector<int8_t> matrix;  // [channel][coefficient]
};

struct GroupPlan {
  uint16_t layer = 0;
  uint8_t layer_count = 1;
  uint16_t head_begin = 0;
  uint16_t head_count = 1;
  std::vector<BasePlan> bases;
  std::vector<uint16_t> queries;  // bf16
};

struct ObjectPlan {
  uint16_t queries = 0;
  std::vector<TransformLevel> levels = {{80, 0, 500}, {160, 24, kUnknownTransformKl}};
  std::vector<GroupPlan> groups;
};

inline std::vector<uint8_t> ObjectBytes(const ModelSpec& spec, const ObjectPlan& plan) {
  std::vector<uint8_t> bytes;
  ByteWriter out(bytes);
  out.U32(0x4f4e444b);
  out.U16(1);
  out.U8(2);
  out.U8(0);
  out.Bytes(FingerprintOf(spec).span());
  out.U16(static_cast<uint16_t>(plan.groups.size()));
  out.U16(static_cast<uint16_t>(plan.levels.size()));
  out.U16(plan.queries);
  out.U16(0);
  for (const TransformLevel& level : plan.levels) {
    out.U16(level.ratio_tenths);
    out.U16(static_cast<uint16_t>(level.step));
    out.U32(level.kl_micronats);
    out.U64(0);
  }
  for (const GroupPlan& group : plan.groups) {
    out.U16(group.layer);
    out.U8(group.layer_count);
    out.U8(static_cast<uint8_t>(group.bases.size()));
    out.U16(group.head_begin);
    out.U16(group.head_count);
    out.U64(0);
    for (const BasePlan& base : group.bases) {
      out.U8(base.kind);
      out.U8(0);
      out.U16(base.rank);
      out.U32(0);
      out.U64(0);
      for (const float mean : base.means) out.F32(mean);
      for (const float scale : base.scales) out.F32(scale);
      for (const int8_t sigma : base.sigmas) out.U8(static_cast<uint8_t>(sigma));
      for (const int8_t entry : base.matrix) out.U8(static_cast<uint8_t>(entry));
      out.PadTo(16);
    }
    for (const uint16_t element : group.queries) out.U16(element);
    out.PadTo(16);
  }
  return bytes;
}

// `columns` orthonormal vectors of `rows` numbers, [row][column].
inline std::vector<double> RandomOrthogonal(uint32_t rows, uint32_t columns, std::mt19937_64& random) {
  std::vector<double> vectors(size_t{rows} * columns);
  for (double& entry : vectors) entry = RoughNormal(random);
  for (uint32_t j = 0; j < columns; ++j) {
    for (uint32_t k = 0; k <= j; ++k) {
      double dot = 0;
      for (uint32_t i = 0; i < rows; ++i) dot += vectors[size_t{i} * columns + j] * vectors[size_t{i} * columns + k];
      for (uint32_t i = 0; i < rows; ++i) {
        double& entry = vectors[size_t{i} * columns + j];
        entry = k == j ? entry / std::sqrt(dot) : entry - dot * vectors[size_t{i} * columns + k];
      }
    }
  }
  return vectors;
}

// A base of `width` channels whose coefficients' sigmas fall from 2^(top / 4) by `fall` quarter octaves over the ranks.
inline BasePlan RandomBase(uint8_t kind, uint32_t width, uint32_t rank, int top, int fall, uint64_t seed) {
  std::mt19937_64 random(seed);
  BasePlan base;
  base.kind = kind;
  base.rank = static_cast<uint16_t>(rank);
  const std::vector<double> vectors = RandomOrthogonal(width, rank, random);
  for (uint32_t i = 0; i < width; ++i) {
    double largest = 0;
    for (uint32_t j = 0; j < rank; ++j) largest = std::max(largest, std::fabs(vectors[size_t{i} * rank + j]));
    const auto scale = static_cast<float>(largest / (127 * 32));
    base.scales.push_back(scale);
    base.means.push_back(RoughNormal(random));
    for (uint32_t j = 0; j < rank; ++j) {
      const double entry = vectors[size_t{i} * rank + j] / (32 * double{scale});
      base.matrix.push_back(static_cast<int8_t>(std::clamp(std::nearbyint(entry), -127.0, 127.0)));
    }
  }
  for (uint32_t j = 0; j < rank; ++j) {
    base.sigmas.push_back(static_cast<int8_t>(top - static_cast<int>(uint64_t{j} * fall / rank)));
  }
  return base;
}

// Rows [row][channel] that the base was made for: mean + sum of vectors, each by its sigma and a normal number.
inline std::vector<float> RowsOfBase(const BasePlan& base, uint32_t rows, uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto width = static_cast<uint32_t>(base.means.size());
  std::vector<float> out;
  std::vector<double> coefficients(base.rank);
  for (uint32_t row = 0; row < rows; ++row) {
    for (uint32_t j = 0; j < base.rank; ++j) coefficients[j] = RoughNormal(random) * std::exp2(base.sigmas[j] / 4.0);
    for (uint32_t i = 0; i < width; ++i) {
      double sum = 0;
      for (uint32_t j = 0; j < base.rank; ++j) sum += coefficients[j] * base.matrix[size_t{i} * base.rank + j];
      out.push_back(static_cast<float>(base.means[i] + sum * 32 * double{base.scales[i]}));
    }
  }
  return out;
}

// A model of `layers` layers: `heads` KV heads of `k_dim` and `v_dim` channels (0: latents), half of K's rotating.
inline ModelSpec TransformTestSpec(DType dtype, uint32_t layers, uint32_t heads, uint32_t k_dim, uint32_t v_dim) {
  ModelSpec spec;
  spec.weights_digest = Sha256::Of(AsBytes("weights"));
  spec.tokenizer_digest = Sha256::Of(AsBytes("tokenizer"));
  spec.dtype = dtype;
  RopeSpec rope;
  rope.style = RopeStyle::kHalfSplit;
  rope.rotary_dim = k_dim / 2;
  for (uint32_t i = 0; i < rope.rotary_dim / 2; ++i) rope.inv_freq.push_back(1.0f / static_cast<float>(1 + 7 * i));
  spec.ropes = {rope};
  spec.layers.assign(layers, {v_dim == 0 ? AttentionKind::kLatent : AttentionKind::kFull, 0, heads, k_dim, v_dim, 0});
  return spec;
}

// How the channels of a group are cut into bases.
enum class BaseCut { kSeparate, kJoint };

struct RandomGroup {
  uint32_t layer = 0;
  uint32_t layer_count = 1;
  uint32_t head_begin = 0;
  uint32_t head_count = 1;
  BaseCut cut = BaseCut::kSeparate;
  uint32_t dropped_ranks = 0;  // coefficients fewer than channels, in each base
  int top = 12;                // quarter octaves
  int fall = 30;
};

inline GroupPlan MakeGroup(const ModelSpec& spec, uint32_t queries, const RandomGroup& shape, uint64_t seed) {
  GroupPlan group;
  group.layer = static_cast<uint16_t>(shape.layer);
  group.layer_count = static_cast<uint8_t>(shape.layer_count);
  group.head_begin = static_cast<uint16_t>(shape.head_begin);
  group.head_count = static_cast<uint16_t>(shape.head_count);
  const LayerSpec& layer = spec.layers[shape.layer];
  const uint32_t planes = shape.layer_count * shape.head_count;
  const auto add = [&](uint8_t kind, uint32_t dim) {
    const uint32_t width = planes * dim;
    group.bases.push_back(RandomBase(kind, width, width - shape.dropped_ranks, shape.top, shape.fall, seed + kind));
  };
  if (layer.v_head_dim == 0) {
    add(0, layer.k_head_dim);
  } else if (shape.cut == BaseCut::kJoint) {
    add(2, layer.k_head_dim + layer.v_head_dim);
  } else {
    add(0, layer.k_head_dim);
    add(1, layer.v_head_dim);
  }
  std::mt19937_64 random(seed + 99);
  for (uint32_t i = 0; i < queries * planes * layer.k_head_dim; ++i)
    group.queries.push_back(ToBf16(RoughNormal(random)));
  return group;
}

}  // namespace kdn

#endif  // KDN_TESTS_KERNELS_CODEC_TRANSFORM_OBJECTS_H_
