#include "client/kdn/span_plan.h"

#include <algorithm>

#include "kernels/base/status.h"

namespace kdn {
namespace {

const KvLayerView* FindLayer(const KvView& view, uint32_t layer) {
  const auto found = std::lower_bound(view.layers.begin(), view.layers.end(), layer,
                                      [](const KvLayerView& a, uint32_t b) { return a.layer < b; });
  return found != view.layers.end() && found->layer == layer ? &*found : nullptr;
}

enum class Quantor { kEvery, kSome };

CellSet CellsOfView(const ModelHandle& model, const KvView& view, Quantor quantor) {
  CellSet cells(model.cells().num_cells());
  for (const LayerBand& band : model.cells().bands()) {
    const auto held = [&view](uint32_t layer) { return FindLayer(view, layer) != nullptr; };
    const bool take = quantor == Quantor::kEvery ? std::all_of(band.layers.begin(), band.layers.end(), held)
                                                 : std::any_of(band.layers.begin(), band.layers.end(), held);
    if (!take) continue;
    const uint32_t end = std::min(band.num_kv_heads, view.head_begin + view.head_count);
    for (uint32_t head = view.head_begin; head < end; ++head) cells.Insert(band.first_cell + head);
  }
  return cells;
}

}  // namespace

absl::StatusOr<SpanPlan> PlanSpan(const ModelHandle& model, std::span<const uint32_t> token_ids,
                                  const SpanOptions& options, uint64_t view_tokens) {
  if (!model.valid()) return InvalidArgument("the model handle is empty");
  if (token_ids.empty() || token_ids.size() > kMaxTokensPerCall) {
    return InvalidArgument(token_ids.size(), " tokens, not in 1..", kMaxTokensPerCall);
  }
  if (options.first_token % model.chunk_tokens() != 0 || options.first_token > token_ids.size()) {
    return InvalidArgument("first_token ", options.first_token, " is no boundary of chunks of ", model.chunk_tokens(),
                           " tokens within ", token_ids.size());
  }
  if (view_tokens > token_ids.size() - options.first_token) {
    return InvalidArgument("the view has ", view_tokens, " tokens, token_ids only ",
                           token_ids.size() - options.first_token, " from first_token on");
  }
  const ChunkingContext context{model.fingerprint(), model.chunk_tokens(), options.extra_keys};
  KDN_RETURN_IF_ERROR(ValidateChunkingContext(context));
  std::vector<ChunkId> chunks = options.segment.has_value()
                                    ? SegmentChunks(context, ContextDigest(context, options.segment->context_token_ids),
                                                    options.segment->source_begin, token_ids)
                                    : PrefixChunks(context, token_ids);
  SpanPlan plan;
  plan.first_token = options.first_token;
  const size_t skipped = options.first_token / model.chunk_tokens();
  if (skipped > 0 && !options.segment.has_value()) plan.parent = chunks[skipped - 1].digest;
  uint64_t covered = 0;
  for (size_t i = skipped; i < chunks.size() && covered + chunks[i].num_tokens <= view_tokens; ++i) {
    covered += chunks[i].num_tokens;
    plan.chunks.push_back(chunks[i]);
  }
  if (plan.chunks.size() > kMaxChunksPerCall) {
    return InvalidArgument(plan.chunks.size(), " chunks in one call, at most ", kMaxChunksPerCall);
  }
  return plan;
}

absl::Status CheckWholeChunks(const SpanPlan& plan, uint32_t view_tokens) {
  const uint64_t covered = plan.NumTokens();
  if (covered == view_tokens) return absl::OkStatus();
  return InvalidArgument("the view has ", view_tokens, " tokens, whole chunks of token_ids end at ", covered,
                         ": a view must end at a chunk boundary or with token_ids");
}

absl::Status CheckView(const ModelHandle& model, const KvView& view) {
  if (!model.valid()) return InvalidArgument("the model handle is empty");
  if (view.memory == MemoryKind::kDevice) {
    return Unimplemented("the view lies in device memory: this build has no CUDA (KDN_WITH_CUDA)");
  }
  return ValidateKvView(model.spec(), view);
}

CellSet WholeCells(const ModelHandle& model, const KvView& view) { return CellsOfView(model, view, Quantor::kEvery); }

CellSet TouchedCells(const ModelHandle& model, const KvView& view) { return CellsOfView(model, view, Quantor::kSome); }

CellSet CellsOfHeads(const ModelHandle& model, uint32_t head_begin, uint32_t head_count) {
  if (head_count == 0) return CellSet::All(model.cells().num_cells());
  CellSet cells(model.cells().num_cells());
  for (const LayerBand& band : model.cells().bands()) {
    const uint64_t end = std::min<uint64_t>(band.num_kv_heads, uint64_t{head_begin} + head_count);
    for (uint64_t head = head_begin; head < end; ++head) cells.Insert(band.first_cell + static_cast<uint32_t>(head));
  }
  return cells;
}

absl::StatusOr<CellSet> CellsOfPart(const v1::PartBegin& begin, uint32_t num_cells) {
  if (begin.cells().bitmap().empty()) return CellSet::All(num_cells);
  return CellSet::FromBytes(AsBytes(begin.cells().bitmap()), num_cells);
}

uint32_t FirstHeldRow(const LayerBand& band, const KvView& view, uint32_t view_offset, uint32_t tokens) {
  uint32_t first_row = 0;
  for (const uint32_t layer : band.layers) {
    const KvLayerView* held = FindLayer(view, layer);
    if (held == nullptr || held->first_row <= view_offset) continue;
    first_row = std::max(first_row, std::min(tokens, held->first_row - view_offset));
  }
  return first_row;
}

bool HasWindows(const ModelSpec& spec) {
  return std::any_of(spec.layers.begin(), spec.layers.end(), [](const LayerSpec& layer) { return layer.window > 0; });
}

}  // namespace kdn
