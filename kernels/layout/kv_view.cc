#include "kernels/layout/kv_view.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "kernels/base/status.h"

namespace kdn {
namespace {

absl::Status ValidateLayerView(const ModelSpec& spec, const KvView& view, const KvLayerView& layer) {
  const LayerSpec& model = spec.layers[layer.layer];
  if (uint64_t{view.head_begin} + view.head_count > model.num_kv_heads) {
    return InvalidArgument("view holds KV heads [", view.head_begin, ", ", view.head_begin + view.head_count,
                           "), layer ", layer.layer, " has ", model.num_kv_heads);
  }
  if (layer.first_row > view.num_tokens) {
    return InvalidArgument("view's first_row at layer ", layer.layer, " is ", layer.first_row, ", it has ",
                           view.num_tokens, " tokens");
  }
  if (layer.first_row == view.num_tokens) return absl::OkStatus();
  if (layer.k.data == nullptr) return InvalidArgument("view has no K plane at layer ", layer.layer);
  if ((layer.v.data == nullptr) != (model.v_head_dim == 0)) {
    return InvalidArgument("view's V plane at layer ", layer.layer, " is ",
                           layer.v.data == nullptr ? "missing" : "given, but the model has latents only");
  }
  return absl::OkStatus();
}

absl::Status ValidateBlockTable(const KvView& view) {
  const BlockTable& table = view.block_table;
  if (table.block_tokens == 0) return absl::OkStatus();
  const uint64_t needed = CeilDiv(view.num_tokens, table.block_tokens);
  if (table.blocks.size() < needed) {
    return InvalidArgument("block table has ", table.blocks.size(), " blocks of ", table.block_tokens, " tokens, ",
                           view.num_tokens, " tokens need ", needed);
  }
  const auto negative = std::find_if(table.blocks.begin(), table.blocks.end(), [](int32_t block) { return block < 0; });
  if (negative != table.blocks.end()) {
    return InvalidArgument("block table entry ", negative - table.blocks.begin(), " is ", *negative);
  }
  return absl::OkStatus();
}

// One axis of a plane.
struct Axis {
  uint64_t stride_bytes = 0;
  uint64_t size = 0;
};

uint64_t Magnitude(int64_t stride) {
  return stride < 0 ? uint64_t{0} - static_cast<uint64_t>(stride) : static_cast<uint64_t>(stride);
}

// Whether all elements have memory of their own: from the smallest stride up, each step must go past what the axes
// before it reach.
bool Nest(std::vector<Axis> axes, uint64_t element_bytes) {
  std::sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) { return a.stride_bytes < b.stride_bytes; });
  uint64_t reach_bytes = element_bytes;
  for (const Axis& axis : axes) {
    if (axis.size <= 1) continue;
    if (axis.stride_bytes < reach_bytes || axis.stride_bytes > (UINT64_MAX - reach_bytes) / axis.size) return false;
    reach_bytes += axis.stride_bytes * (axis.size - 1);
  }
  return true;
}

// `blocks` are those that hold rows: empty without a block table.
absl::Status CheckPlaneApart(const KvView& view, std::span<const int32_t> blocks, const KvPlane& plane, uint32_t dim,
                             uint64_t rows) {
  std::vector<Axis> axes = {{Magnitude(plane.channel_stride_bytes), dim},
                            {Magnitude(plane.head_stride_bytes), view.head_count},
                            {Magnitude(plane.token_stride_bytes), rows}};
  if (!blocks.empty()) {
    const auto [least, most] = std::minmax_element(blocks.begin(), blocks.end());
    axes[2].size = std::min<uint64_t>(view.num_tokens, view.block_table.block_tokens);
    axes.push_back({Magnitude(plane.block_stride_bytes), static_cast<uint64_t>(*most - *least) + 1});
  }
  if (Nest(std::move(axes), DTypeBytes(view.dtype))) return absl::OkStatus();
  return InvalidArgument("its strides (token ", plane.token_stride_bytes, ", head ", plane.head_stride_bytes,
                         ", channel ", plane.channel_stride_bytes, ", block ", plane.block_stride_bytes,
                         ") put elements on top of each other");
}

}  // namespace

absl::Status ValidateKvView(const ModelSpec& spec, const KvView& view) {
  if (view.dtype != spec.dtype) {
    return InvalidArgument("view holds ", DTypeName(view.dtype), ", the model is registered with ",
                           DTypeName(spec.dtype));
  }
  if (view.head_count == 0 || view.layers.empty()) {
    return InvalidArgument("view holds ", view.head_count, " heads of ", view.layers.size(), " layers: nothing");
  }
  for (size_t i = 0; i < view.layers.size(); ++i) {
    const uint32_t layer = view.layers[i].layer;
    if (layer >= spec.layers.size()) {
      return InvalidArgument("view names layer ", layer, ", the model has ", spec.layers.size());
    }
    if (i > 0 && layer <= view.layers[i - 1].layer) {
      return InvalidArgument("view's layers do not ascend: ", layer, " after ", view.layers[i - 1].layer);
    }
    KDN_RETURN_IF_ERROR(ValidateLayerView(spec, view, view.layers[i]));
  }
  return ValidateBlockTable(view);
}

absl::Status ValidateDestination(const ModelSpec& spec, const KvView& view) {
  const BlockTable& table = view.block_table;
  std::span<const int32_t> blocks;
  if (table.block_tokens > 0) {
    // Engines may fill the table up with any block where every layer has dropped its rows.
    uint32_t first_row = view.num_tokens;
    for (const KvLayerView& layer : view.layers) first_row = std::min(first_row, layer.first_row);
    const size_t unused = first_row / table.block_tokens;
    blocks = table.blocks.subspan(unused, CeilDiv(view.num_tokens, table.block_tokens) - unused);
  }
  std::vector<int32_t> sorted(blocks.begin(), blocks.end());
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) return InvalidArgument("block table of a destination has block ", *twice, " twice");
  std::vector<const uint8_t*> planes;
  for (const KvLayerView& layer : view.layers) {
    const LayerSpec& model = spec.layers[layer.layer];
    const uint64_t rows = view.num_tokens - layer.first_row;
    if (rows == 0) continue;
    for (const auto& [plane, dim, name] :
         {std::tuple(&layer.k, model.k_head_dim, "K"), std::tuple(&layer.v, model.v_head_dim, "V")}) {
      if (dim == 0) continue;
      const absl::Status apart = CheckPlaneApart(view, blocks, *plane, dim, rows);
      if (!apart.ok()) return Annotate(apart, StrCat(name, " plane of layer ", layer.layer));
      planes.push_back(ElementAddress(*plane, table, layer.first_row, 0));
    }
  }
  std::sort(planes.begin(), planes.end());
  if (std::adjacent_find(planes.begin(), planes.end()) != planes.end()) {
    return InvalidArgument("two planes of a destination begin at one address");
  }
  return absl::OkStatus();
}

uint64_t ViewBytes(const ModelSpec& spec, const KvView& view, uint32_t token_begin, uint32_t tokens) {
  uint64_t bytes = 0;
  for (const KvLayerView& layer : view.layers) {
    const uint64_t begin = std::max<uint64_t>(token_begin, layer.first_row);
    const uint64_t end = uint64_t{token_begin} + tokens;
    if (begin >= end) continue;
    const LayerSpec& model = spec.layers[layer.layer];
    bytes += (end - begin) * view.head_count * (model.k_head_dim + model.v_head_dim) * DTypeBytes(spec.dtype);
  }
  return bytes;
}

}  // namespace kdn
