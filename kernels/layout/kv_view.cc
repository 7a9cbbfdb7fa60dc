#include "kernels/layout/kv_view.h"

#include <algorithm>

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
