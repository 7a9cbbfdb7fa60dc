#ifndef KDN_CLIENT_KDN_SPAN_PLAN_H_
#define KDN_CLIENT_KDN_SPAN_PLAN_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "client/kdn/client.h"
#include "kdn/v1/kdn.pb.h"

// What a call is about, worked out from tokens and views without asking the server.

namespace kdn {

// Chunks that one call may name: keeps requests below the server's message limit.
inline constexpr size_t kMaxChunksPerCall = 65536;

struct SpanPlan {
  std::vector<ChunkId> chunks;   // those of the view, in order
  std::optional<Digest> parent;  // prefix chunks: the digest before chunks[0]
  uint64_t first_token = 0;

  // Index of chunk i's first token in the view.
  uint32_t ViewOffset(size_t i) const { return static_cast<uint32_t>(chunks[i].begin - chunks[0].begin); }
  uint64_t NumTokens() const {
    return chunks.empty() ? 0 : chunks.back().begin + chunks.back().num_tokens - chunks[0].begin;
  }
};

// Chunks of token_ids[options.first_token, +view_tokens) that lie in it whole. InvalidArgument on an invalid model, no
// or too many tokens, a first_token that is no chunk boundary, or extra keys beyond their bounds.
absl::StatusOr<SpanPlan> PlanSpan(const ModelHandle& model, std::span<const uint32_t> token_ids,
                                  const SpanOptions& options, uint64_t view_tokens);

// OK when the chunks of `plan` are all of the view; else InvalidArgument: rows that belong to no whole chunk would be
// left out in silence.
absl::Status CheckWholeChunks(const SpanPlan& plan, uint32_t view_tokens);

// A KvView that owns its block table. The view's span points into the vector: neither copyable nor movable.
struct OwnedView {
  explicit OwnedView(const KvView& from)
      : view(from), blocks(from.block_table.blocks.begin(), from.block_table.blocks.end()) {
    view.block_table.blocks = blocks;
  }
  OwnedView(const OwnedView&) = delete;
  OwnedView& operator=(const OwnedView&) = delete;

  KvView view;
  std::vector<int32_t> blocks;
};

// OK when the view fits the model and lies in memory this build can reach; Unimplemented, naming the build option, for
// device memory.
absl::Status CheckView(const ModelHandle& model, const KvView& view);

// Cells of which the view holds every layer (a writer offers these), or some layer (a reader wants these).
CellSet WholeCells(const ModelHandle& model, const KvView& view);
CellSet TouchedCells(const ModelHandle& model, const KvView& view);

// Cells of KV heads [head_begin, head_begin + head_count) at every layer; head_count 0 = all.
CellSet CellsOfHeads(const ModelHandle& model, uint32_t head_begin, uint32_t head_count);

// The cells that a part of a Retrieve is to be taken for. InvalidArgument on a bitmap of another model.
absl::StatusOr<CellSet> CellsOfPart(const v1::PartBegin& begin, uint32_t num_cells);

// First row of a chunk of `tokens` tokens, beginning at view token `view_offset`, that the view holds at every layer of
// the band it has: `tokens` when some layer holds none.
uint32_t FirstHeldRow(const LayerBand& band, const KvView& view, uint32_t view_offset, uint32_t tokens);

// Whether some layer of the model has a window.
bool HasWindows(const ModelSpec& spec);

}  // namespace kdn

#endif  // KDN_CLIENT_KDN_SPAN_PLAN_H_
