#include "server/core/lookups.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "kernels/base/status.h"
#include "server/core/chunk_cells.h"
#include "storage/evict/chunk_rows.h"

namespace kdn {
namespace {

// Chunks asked of the index in one call: a lookup of a long prefix that is not there reads one batch.
constexpr size_t kRowsPerRead = 256;

// Finds the longest prefix of which a reader could load every row it needs, in one pass. For layers that attend to
// everything a chunk either has its cells or ends the prefix. For a windowed layer, the rows needed of the chunks start
// at a position that only grows with the prefix; the chunk whose held rows begin last therefore decides for all.
class PrefixJudge {
 public:
  PrefixJudge(const Model& model, const CellSet& wanted, std::optional<ProfileId> lossiest)
      : cells_(model.cells()), lossiest_(lossiest) {
    for (const LayerBand& band : cells_.bands()) AddBand(band, wanted);
  }

  // Adds the next chunk. False when it lacks a cell that any prefix containing it needs.
  bool Add(const v1::ChunkRecord& row) {
    const std::vector<HeldCell> held = HeldCells(row, cells_.num_cells(), lossiest_);
    for (const uint32_t cell : everywhere_) {
      if (!held[cell].held() || held[cell].first_row > 0) return false;
    }
    for (Window& window : windows_) {
      uint32_t first_row = 0;
      for (const uint32_t cell : window.wanted) {
        first_row = std::max(first_row, held[cell].held() ? held[cell].first_row : row.num_tokens());
      }
      // Positions grow along the prefix, so a later gap always begins later.
      if (first_row > 0) window.last_gap = Gap{row.token_begin(), row.num_tokens(), first_row};
    }
    return true;
  }

  // Whether a reader of a prefix of everything added, ending at this position, finds every row it needs.
  bool Suffices(uint64_t prefix_end) const {
    return std::all_of(windows_.begin(), windows_.end(), [&](const Window& window) {
      if (!window.last_gap.has_value()) return true;
      const Gap& gap = *window.last_gap;
      return FirstNeededRow(window.attention, window.tokens, prefix_end, gap.chunk_begin, gap.chunk_tokens) >=
             gap.first_row;
    });
  }

 private:
  // A chunk that does not hold all of its rows at a windowed layer.
  struct Gap {
    uint64_t chunk_begin = 0;
    uint32_t chunk_tokens = 0;
    uint32_t first_row = 0;
  };
  struct Window {
    AttentionKind attention = AttentionKind::kFull;
    uint32_t tokens = 0;
    std::vector<uint32_t> wanted;
    std::optional<Gap> last_gap;
  };

  void AddBand(const LayerBand& band, const CellSet& wanted) {
    std::vector<uint32_t> cells;
    for (uint32_t head = 0; head < band.num_kv_heads; ++head) {
      if (wanted.Contains(band.first_cell + head)) cells.push_back(band.first_cell + head);
    }
    if (cells.empty()) return;
    if (band.window == 0) {
      everywhere_.insert(everywhere_.end(), cells.begin(), cells.end());
      return;
    }
    auto window = std::find_if(windows_.begin(), windows_.end(), [&](const Window& w) {
      return w.attention == band.attention && w.tokens == band.window;
    });
    if (window == windows_.end()) window = windows_.insert(window, Window{band.attention, band.window, {}, {}});
    window->wanted.insert(window->wanted.end(), cells.begin(), cells.end());
  }

  const CellMap& cells_;
  const std::optional<ProfileId> lossiest_;
  std::vector<uint32_t> everywhere_;
  std::vector<Window> windows_;
};

absl::Status CheckQuery(const LookupQuery& query, const Model& model) {
  if (query.chunk_digests.size() > kMaxChunksPerCall) {
    return InvalidArgument("lookup of ", query.chunk_digests.size(), " chunks, at most ", kMaxChunksPerCall);
  }
  if (query.last_chunk_tokens > model.chunk_tokens()) {
    return InvalidArgument("last chunk of ", query.last_chunk_tokens, " tokens, chunks of this model have ",
                           model.chunk_tokens());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LookupResult> Lookups::Lookup(const Caller& caller, const LookupQuery& query) {
  KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
  KDN_ASSIGN_OR_RETURN(const ModelRef model, c_.registry().FindModel(tenant, query.fingerprint));
  KDN_RETURN_IF_ERROR(CheckQuery(query, *model));
  KDN_ASSIGN_OR_RETURN(const CellSet wanted, WantedCells(query.cells, model->cells().num_cells()));
  KDN_ASSIGN_OR_RETURN(const LookupResult result, query.mode == LookupMode::kPrefix
                                                      ? LongestPrefix(tenant, *model, query, wanted)
                                                      : WholeSegments(tenant, *model, query, wanted));
  uint64_t tokens = query.chunk_digests.size() * uint64_t{model->chunk_tokens()};
  if (tokens > 0 && query.last_chunk_tokens != 0) tokens += query.last_chunk_tokens - uint64_t{model->chunk_tokens()};
  c_.events().OnLookup(query.chunk_digests.size(), result.hit_chunks, tokens, result.hit_tokens);
  return result;
}

absl::StatusOr<Lookups::Rows> Lookups::ReadRows(const TenantRef& tenant, std::span<const Digest> digests) {
  std::vector<ChunkKey> keys;
  keys.reserve(digests.size());
  for (const Digest& digest : digests) keys.push_back(CoreContext::KeyOf(tenant, digest));
  return c_.index().GetChunks(keys);
}

absl::Status Lookups::VisitRows(const TenantRef& tenant, std::span<const Digest> digests, const RowVisitor& visit) {
  const int64_t now_ms = c_.NowMs();
  for (size_t begin = 0; begin < digests.size(); begin += kRowsPerRead) {
    KDN_ASSIGN_OR_RETURN(Rows rows,
                         ReadRows(tenant, digests.subspan(begin, std::min(kRowsPerRead, digests.size() - begin))));
    for (size_t i = 0; i < rows.size(); ++i) {
      if (rows[i].has_value() && IsExpired(*rows[i], now_ms)) rows[i].reset();
      if (!visit(begin + i, rows[i])) return absl::OkStatus();
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<LookupResult> Lookups::LongestPrefix(const TenantRef& tenant, const Model& model,
                                                    const LookupQuery& query, const CellSet& wanted) {
  PrefixJudge judge(model, wanted, query.lossiest);
  LookupResult result;
  const auto add = [&](size_t i, const std::optional<v1::ChunkRecord>& row) {
    const bool last = i + 1 == query.chunk_digests.size();
    const uint32_t tokens = last && query.last_chunk_tokens != 0 ? query.last_chunk_tokens : model.chunk_tokens();
    if (!row.has_value() || row->kind() != static_cast<uint32_t>(ChunkKind::kPrefix) || row->num_tokens() != tokens ||
        row->token_begin() != i * uint64_t{model.chunk_tokens()} || row->fingerprint() != model.fingerprint().view()) {
      return false;
    }
    if (!judge.Add(*row)) return false;
    const uint64_t prefix_end = row->token_begin() + tokens;
    if (judge.Suffices(prefix_end)) {
      result.hit_chunks = static_cast<uint32_t>(i + 1);
      result.hit_tokens = prefix_end;
    }
    return true;
  };
  KDN_RETURN_IF_ERROR(VisitRows(tenant, query.chunk_digests, add));
  for (uint32_t i = 0; i < result.hit_chunks; ++i) {
    c_.tracker().Touch(CoreContext::KeyOf(tenant, query.chunk_digests[i]));  // its ancestors are hits before it
  }
  return result;
}

absl::StatusOr<LookupResult> Lookups::WholeSegments(const TenantRef& tenant, const Model& model,
                                                    const LookupQuery& query, const CellSet& wanted) {
  LookupResult result;
  result.present.resize(query.chunk_digests.size());
  const std::vector<uint32_t> wanted_cells = wanted.ToVector();
  const auto judge = [&](size_t i, const std::optional<v1::ChunkRecord>& row) {
    if (!row.has_value() || row->fingerprint() != model.fingerprint().view()) return true;
    const bool last = i + 1 == query.chunk_digests.size();
    if (last && query.last_chunk_tokens != 0 && row->num_tokens() != query.last_chunk_tokens) return true;
    const std::vector<HeldCell> held = HeldCells(*row, model.cells().num_cells(), query.lossiest);
    result.present[i] = std::all_of(wanted_cells.begin(), wanted_cells.end(),
                                    [&](uint32_t cell) { return held[cell].held() && held[cell].first_row == 0; });
    if (!result.present[i]) return true;
    ++result.hit_chunks;
    result.hit_tokens += row->num_tokens();
    c_.Touch(CoreContext::KeyOf(tenant, query.chunk_digests[i]), *row);
    return true;
  };
  KDN_RETURN_IF_ERROR(VisitRows(tenant, query.chunk_digests, judge));
  return result;
}

absl::StatusOr<std::vector<CellSet>> Lookups::FindMissing(const Caller& caller, const Fingerprint& fingerprint,
                                                          std::span<const ChunkOffer> offers,
                                                          std::optional<OfferedCoding> coding) {
  KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
  KDN_ASSIGN_OR_RETURN(const ModelRef model, c_.registry().FindModel(tenant, fingerprint));
  if (offers.size() > kMaxChunksPerCall) {
    return InvalidArgument("offer of ", offers.size(), " chunks, at most ", kMaxChunksPerCall);
  }
  const uint32_t num_cells = model->cells().num_cells();
  std::optional<ProfileId> lossiest;
  if (coding.has_value()) lossiest = RequiredProfile(coding->profile, coding->rope_state, model->spec());
  const int64_t now_ms = c_.NowMs();
  std::vector<CellSet> missing;
  missing.reserve(offers.size());
  for (size_t begin = 0; begin < offers.size(); begin += kRowsPerRead) {
    const std::span<const ChunkOffer> batch = offers.subspan(begin, std::min(kRowsPerRead, offers.size() - begin));
    std::vector<Digest> digests;
    for (const ChunkOffer& offer : batch) digests.push_back(offer.chunk_digest);
    KDN_ASSIGN_OR_RETURN(const Rows rows, ReadRows(tenant, digests));
    for (size_t i = 0; i < batch.size(); ++i) {
      const ChunkOffer& offer = batch[i];
      const absl::StatusOr<CellSet> offered = WantedCells(offer.cells, num_cells);
      if (!offered.ok()) {
        return Annotate(offered.status(), StrCat("offer of chunk ", offer.chunk_digest.ToShortHex()));
      }
      std::vector<uint32_t> first_rows(num_cells);
      for (const ChunkOffer::CellRows& partial : offer.partial) {
        if (partial.cell >= num_cells) {
          return InvalidArgument("offer of chunk ", offer.chunk_digest.ToShortHex(), " names cell ", partial.cell,
                                 ", this model has ", num_cells);
        }
        first_rows[partial.cell] = partial.first_row;
      }
      const bool live = rows[i].has_value() && !IsExpired(*rows[i], now_ms);
      const std::vector<HeldCell> held =
          live ? HeldCells(*rows[i], num_cells, lossiest) : std::vector<HeldCell>(num_cells);
      CellSet& lacking = missing.emplace_back(num_cells);
      for (const uint32_t cell : offered->ToVector()) {
        if (!held[cell].held() || held[cell].first_row > first_rows[cell]) lacking.Insert(cell);
      }
      if (live) c_.Touch(CoreContext::KeyOf(tenant, offer.chunk_digest), *rows[i]);
    }
  }
  return missing;
}

}  // namespace kdn
