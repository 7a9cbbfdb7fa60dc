#include "kernels/codec/row_importance.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "kernels/base/status.h"
#include "kernels/codec/rope.h"
#include "kernels/codec/row_kernels.h"
#include "kernels/codec/section_rows.h"
#include "kernels/codec/transform_kernels.h"

namespace kdn {
namespace {

using codec_internal::kTransformBlockRows;

constexpr uint32_t kQueriesAtOnce = codec_internal::kMaxAttentionStride;  // bounds the memory for scores
constexpr double kLeastImportance = 1e-30;

// Adds the attention to one layer's rows, head by head.
class LayerAttention {
 public:
  LayerAttention(const ModelSpec& spec, const KvView& view, const RopeTable& rope, Isa isa)
      : spec_(spec), view_(view), rope_(rope), isa_(isa) {}

  // `queries` [query][channel] bf16 of a head that the view holds; importance[row] for the rows from the layer's first.
  void Add(const KvLayerView& layer, uint32_t head, ByteSpan queries, std::span<float> importance) {
    const codec_internal::HeadRows rows = codec_internal::RowsOfHead(spec_, view_, layer, head, KvKind::kK);
    const auto count = static_cast<uint32_t>(queries.size() / (2 * size_t{rows.dim}));
    placed_.resize(size_t{count} * rows.dim);
    codec_internal::RowKernelsFor(isa_).widen(DType::kBf16, queries.data(), placed_.size(), placed_.data());
    rope_.Apply(isa_, 0, count, rows.dim, placed_.data());
    for (uint32_t first = 0; first < count; first += kQueriesAtOnce) {
      AddQueries(rows, layer.first_row, {first, std::min(count, first + kQueriesAtOnce)}, importance);
    }
  }

 private:
  struct QueryRange {
    uint32_t begin = 0;
    uint32_t end = 0;
  };

  void AddQueries(const codec_internal::HeadRows& rows, uint32_t first_row, QueryRange queries,
                  std::span<float> importance) {
    const codec_internal::TransformKernels& kernels = codec_internal::TransformKernelsFor(isa_);
    codec_internal::TransformAnalysisJob product;
    product.width = rows.dim;
    product.coefficients = static_cast<uint32_t>(AlignUp(queries.end - queries.begin, 16));
    product.matrix_stride = product.coefficients;
    matrix_.assign(size_t{rows.dim} * product.matrix_stride, 0.0f);
    for (uint32_t q = queries.begin; q < queries.end; ++q) {
      for (uint32_t i = 0; i < rows.dim; ++i) {
        matrix_[size_t{i} * product.matrix_stride + (q - queries.begin)] = placed_[size_t{q} * rows.dim + i];
      }
    }
    product.matrix = matrix_.data();
    scores_.resize(importance.size() * product.matrix_stride);
    elements_.resize(kTransformBlockRows * rows.row_bytes());
    keys_.resize(size_t{kTransformBlockRows} * rows.dim);
    product.values = keys_.data();
    const auto tokens = static_cast<uint32_t>(importance.size());
    for (uint32_t row = 0; row < tokens; row += kTransformBlockRows) {
      product.rows = std::min(kTransformBlockRows, tokens - row);
      codec_internal::GatherRows(rows, first_row + row, product.rows, {elements_.data(), rows.row_bytes()});
      codec_internal::RowKernelsFor(isa_).widen(view_.dtype, elements_.data(), size_t{product.rows} * rows.dim,
                                                keys_.data());
      product.out = scores_.data() + size_t{row} * product.matrix_stride;
      kernels.analyse(product);
    }
    codec_internal::TransformAttentionJob job;
    job.scores = scores_.data();
    job.tokens = tokens;
    job.queries = queries.end - queries.begin;
    job.stride = product.matrix_stride;
    job.importance = importance.data();
    kernels.attend(job);
  }

  const ModelSpec& spec_;
  const KvView& view_;
  const RopeTable& rope_;
  const Isa isa_;
  std::vector<float> placed_;  // [query][channel]
  std::vector<float> matrix_;  // [channel][query]
  std::vector<float> scores_;  // [row][query]
  std::vector<uint8_t> elements_;
  std::vector<float> keys_;  // [row][channel]
};

// Importance of a group's rows, layer after layer, and the classes that follow.
class GroupClasses {
 public:
  GroupClasses(uint32_t num_tokens, uint32_t first_row)
      : num_tokens_(num_tokens), first_row_(first_row), logs_(num_tokens - first_row) {}

  // importance[token], of which the first ones may be absent.
  void AddLayer(std::span<const float> importance) {
    for (size_t i = 0; i < logs_.size(); ++i) {
      const double share = importance[first_row_ + i];
      logs_[i] += std::log2(share > kLeastImportance && std::isfinite(share) ? share : kLeastImportance);
    }
    ++layers_;
  }

  std::vector<uint8_t> Make() const {
    std::vector<uint8_t> classes(num_tokens_, 0);
    if (logs_.empty() || layers_ == 0) return classes;
    std::vector<double> sorted = logs_;
    std::sort(sorted.begin(), sorted.end());
    const size_t middle = sorted.size() / 2;
    const double upper = std::exp2(sorted[middle] / layers_);
    const double lower = std::exp2(sorted[(sorted.size() - 1) / 2] / layers_);
    const double median = std::log2((upper + lower) / 2);
    for (size_t i = 0; i < logs_.size(); ++i) {
      const double octaves = std::clamp(std::nearbyint(logs_[i] / layers_ - median), 0.0, kTransformClasses - 1.0);
      classes[first_row_ + i] = static_cast<uint8_t>(octaves);
    }
    return classes;
  }

 private:
  uint32_t num_tokens_;
  uint32_t first_row_;
  std::vector<double> logs_;  // [row]: sum over layers
  int layers_ = 0;
};

// First row that all layers of the group hold, or nullopt when the view lacks one of them or a head.
std::optional<uint32_t> FirstRowOfGroup(const TransformGroup& group, const KvView& view) {
  if (!codec_internal::HoldsHead(view, group.head_begin) ||
      !codec_internal::HoldsHead(view, group.head_begin + group.head_count - 1)) {
    return std::nullopt;
  }
  uint32_t first_row = 0;
  for (uint32_t layer = group.layer; layer < group.layer + group.layer_count; ++layer) {
    const KvLayerView* held = codec_internal::FindLayer(view, layer);
    if (held == nullptr) return std::nullopt;
    first_row = std::max(first_row, held->first_row);
  }
  return first_row;
}

}  // namespace

absl::StatusOr<RowClasses> ClassesFromQueries(const ModelSpec& spec, const TransformObject& object, const KvView& view,
                                              uint64_t position, Isa isa) {
  if (view.memory == MemoryKind::kDevice) return InvalidArgument("device memory cannot be read on the host");
  const uint32_t per_head = object.queries_per_head();
  RopeTableCache ropes;
  RowClasses classes;
  std::vector<float> importance(view.num_tokens);
  for (const TransformGroup& group : object.groups()) {
    const std::optional<uint32_t> first_row = FirstRowOfGroup(group, view);
    classes.emplace_back();
    if (!first_row.has_value()) continue;
    GroupClasses rows(view.num_tokens, *first_row);
    const size_t head_bytes = size_t{2} * per_head * group.k_dim;
    for (uint32_t i = 0; i < group.layer_count && per_head > 0; ++i) {
      const KvLayerView& layer = *codec_internal::FindLayer(view, group.layer + i);
      static const RopeTable none;
      const RopeTable* rope =
          ropes.Find(spec, group.layer + i, RopeDirection::kRotate, position + view.num_tokens, per_head);
      LayerAttention attention(spec, view, rope == nullptr ? none : *rope, isa);
      std::fill(importance.begin(), importance.end(), 0.0f);
      for (uint32_t h = 0; h < group.head_count; ++h) {
        attention.Add(layer, group.head_begin + h,
                      group.queries.subspan((size_t{i} * group.head_count + h) * head_bytes, head_bytes),
                      std::span(importance).subspan(layer.first_row));
      }
      rows.AddLayer(importance);
    }
    classes.back() = rows.Make();
  }
  return classes;
}

absl::StatusOr<RowClasses> ClassesFromColumnSums(const TransformObject& object, const KvView& view,
                                                 std::span<const std::vector<float>> column_sums) {
  for (size_t layer = 0; layer < column_sums.size(); ++layer) {
    if (!column_sums[layer].empty() && column_sums[layer].size() != view.num_tokens) {
      return InvalidArgument("column sums of ", column_sums[layer].size(), " tokens at layer ", layer,
                             ", the view has ", view.num_tokens);
    }
  }
  RowClasses classes;
  for (const TransformGroup& group : object.groups()) {
    const std::optional<uint32_t> first_row = FirstRowOfGroup(group, view);
    classes.emplace_back();
    const uint32_t end = group.layer + group.layer_count;
    const bool given =
        end <= column_sums.size() && std::none_of(column_sums.begin() + group.layer, column_sums.begin() + end,
                                                  [](const std::vector<float>& layer) { return layer.empty(); });
    if (!first_row.has_value() || !given) continue;
    GroupClasses rows(view.num_tokens, *first_row);
    for (uint32_t layer = group.layer; layer < end; ++layer) rows.AddLayer(column_sums[layer]);
    classes.back() = rows.Make();
  }
  return classes;
}

}  // namespace kdn
