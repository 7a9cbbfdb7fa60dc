#include "server/core/admin.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "kernels/base/status.h"
#include "server/core/chunk_cells.h"
#include "storage/evict/chunk_rows.h"
#include "storage/index/value_metadata.h"

namespace kdn {
namespace {

constexpr uint32_t kDefaultListLimit = 100;
// Rows that one page may look at when most of them are filtered out; the page's token then says where to go on.
constexpr uint32_t kMaxRowsPerPage = 100000;
// Of a chunk or a model in a page, beside its documents, name and spec: digests, numbers, field headers.
constexpr size_t kSummaryBytes = 256;
constexpr size_t kFieldHeaderBytes = 4;
constexpr int64_t kNanosPerMicro = 1000;
// Owner of what a probe writes: no tenant has this number.
constexpr TenantId kProbeTenant = 0xffffffffu;

bool Matches(const ChunkFilter& filter, const v1::ChunkRecord& row) {
  if (row.has_object()) return false;
  if (filter.fingerprint.has_value() && row.fingerprint() != filter.fingerprint->view()) return false;
  return filter.document.empty() ||
         std::find(row.documents().begin(), row.documents().end(), filter.document) != row.documents().end();
}

// The index counts objects' rows among the chunks'.
uint64_t ChunksOf(const IndexCounts& counts, const Objects::Totals& objects) {
  return counts.chunks - std::min(counts.chunks, objects.objects);
}

// Where the page before ended; unset for the first.
absl::StatusOr<std::optional<Digest>> ReadPageToken(const std::string& token) {
  if (token.empty()) return std::nullopt;
  const std::optional<Digest> after = Digest::FromHex(token);
  if (!after.has_value()) return InvalidArgument("page token of ", token.size(), " characters is not one");
  return after;
}

uint32_t ClampLimit(uint32_t limit) { return std::min(limit == 0 ? kDefaultListLimit : limit, kMaxListLimit); }

KState KStateOf(const v1::ChunkRecord& row) {
  std::optional<KState> all;
  for (const v1::PartRecord& part : row.parts()) {
    KState state = KState::kUnknown;
    if (part.rope_state() == static_cast<uint32_t>(RopeState::kRotated)) state = KState::kRotated;
    if (part.rope_state() == static_cast<uint32_t>(RopeState::kUnrotated)) state = KState::kUnrotated;
    if (state == KState::kUnknown) return state;
    all = all.value_or(state) == state ? state : KState::kMixed;
  }
  return all.value_or(KState::kUnknown);
}

size_t SummaryBytes(const v1::ChunkRecord& row) {
  size_t bytes = kSummaryBytes;
  for (const std::string& document : row.documents()) bytes += document.size() + kFieldHeaderBytes;
  return bytes;
}

}  // namespace

ChunkInfo Admin::InfoOf(const TenantRef& tenant, const v1::ChunkRecord& row) {
  ChunkInfo info;
  info.chunk_digest = Digest::FromBytes(AsBytes(row.chunk_digest())).value_or(Digest{});
  info.fingerprint = Digest::FromBytes(AsBytes(row.fingerprint())).value_or(Digest{});
  info.kind = static_cast<ChunkKind>(row.kind());
  info.token_begin = row.token_begin();
  info.num_tokens = row.num_tokens();
  info.stored_bytes = StoredBytes(row);
  uint32_t profile = 0;
  for (const v1::PartRecord& part : row.parts()) {
    info.raw_bytes += part.raw_bytes();
    info.in_ram |= c_.ram().Contains(LocationOf(part));
    info.cells_present += static_cast<uint32_t>(part.cells_size());
    profile = std::max(profile, part.profile());
  }
  info.profile = static_cast<ProfileId>(profile);
  info.k_state = KStateOf(row);
  const absl::StatusOr<ModelRef> model = c_.registry().FindModel(tenant, info.fingerprint);
  if (model.ok()) {
    info.cells_total = (*model)->cells().num_cells();
    const HeldKv held = HeldKvOf(**model, row);
    info.cells_present = held.cells;
    info.raw_bytes = held.raw_bytes;
  }
  info.created_ms = row.created_ms();
  info.expires_ms = row.expires_ms();
  info.pinned = IsPinned(row, c_.NowMs());
  if (info.pinned) info.pinned_until_ms = row.pinned_until_ms();
  info.documents.assign(row.documents().begin(), row.documents().end());
  return info;
}

absl::StatusOr<ChunkPage> Admin::ListChunks(const Caller& caller, const ChunkFilter& filter) {
  KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
  KDN_ASSIGN_OR_RETURN(std::optional<Digest> after, ReadPageToken(filter.page_token));
  const uint32_t limit = ClampLimit(filter.limit);
  const int64_t now_ms = c_.NowMs();
  ChunkPage page;
  std::vector<v1::ChunkRecord> rows;
  uint32_t seen = 0;
  size_t page_bytes = 0;
  const auto visit = [&](const ChunkKey& key, const v1::ChunkRecord& row) {
    const bool wanted = Matches(filter, row) && !IsExpired(row, now_ms);
    const size_t bytes = wanted ? SummaryBytes(row) : 0;
    const bool is_full = rows.size() == limit || (!rows.empty() && page_bytes + bytes > kMaxPageBytes);
    if (is_full || seen == kMaxRowsPerPage) {
      page.next_page_token = after->ToHex();
      return false;
    }
    ++seen;
    after = key.key;
    page_bytes += bytes;
    if (wanted) rows.push_back(row);
    return true;
  };
  absl::Status visited;
  if (!filter.document.empty()) {
    visited = c_.index().VisitChunksOfDocument(tenant->id, filter.document, after, visit);
  } else if (filter.fingerprint.has_value()) {
    visited = c_.index().VisitChunksOfModel(tenant->id, *filter.fingerprint, after, visit);
  } else {
    visited = c_.index().VisitChunks(tenant->id, after, visit);
  }
  KDN_RETURN_IF_ERROR(visited);
  for (const v1::ChunkRecord& row : rows) page.chunks.push_back(InfoOf(tenant, row));
  return page;
}

absl::StatusOr<ChunkDetails> Admin::InspectChunk(const Caller& caller, const Digest& chunk_digest,
                                                 ChunkStore::Verify verify) {
  KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
  KDN_ASSIGN_OR_RETURN(const auto row, c_.index().GetChunk(CoreContext::KeyOf(tenant, chunk_digest)));
  if (!row.has_value() || IsExpired(*row, c_.NowMs())) {
    return NotFound("chunk ", chunk_digest.ToShortHex(), " is not stored");
  }
  ChunkDetails details;
  details.info = InfoOf(tenant, *row);
  for (const v1::PartRecord& part : row->parts()) {
    const absl::Status inspected = InspectPart(part, verify, details);
    if (inspected.ok()) continue;
    if (absl::IsUnavailable(inspected)) return inspected;
    if (absl::IsDataLoss(inspected)) c_.NoteCorruption("values", inspected);
    details.verified.Update(inspected);
  }
  return details;
}

absl::Status Admin::InspectPart(const v1::PartRecord& part, ChunkStore::Verify verify, ChunkDetails& details) {
  const ValueLocation location = LocationOf(part);
  PartInfo& info = details.parts.emplace_back();
  info.container_bytes = location.length;
  info.value_group = location.group;
  info.value_offset = location.offset;
  for (const v1::CellRecord& cell : part.cells()) info.cells.push_back(cell.cell());
  // From disk in any case: what is asked is whether the stored bytes are whole.
  const uint64_t length = verify == ChunkStore::Verify::kEveryByte ? location.length : part.header_bytes();
  KDN_ASSIGN_OR_RETURN(const SharedBytes bytes, c_.values().Get(location, {0, length}));
  KDN_ASSIGN_OR_RETURN(info.header, ParseContainerHeader(bytes.span()));
  if (info.header.chunk_digest != details.info.chunk_digest || info.header.fingerprint != details.info.fingerprint ||
      info.header.header_bytes + info.header.body_bytes != location.length) {
    return DataLoss("the value at group ", location.group, " offset ", location.offset, " is another container");
  }
  if (verify == ChunkStore::Verify::kNo) return absl::OkStatus();
  const ByteSpan body = bytes.span().subspan(info.header.header_bytes);
  for (const SectionEntry& section : info.header.sections) {
    KDN_RETURN_IF_ERROR(VerifySection(section, body.subspan(section.offset, section.length)));
  }
  return absl::OkStatus();
}

absl::Status Admin::Pin(const Caller& caller, const Digest& chunk_digest, ChunkStore::PinChange change,
                        uint64_t ttl_ms) {
  if (ttl_ms > kMaxTtlMs) return InvalidArgument("time to live of ", ttl_ms, " ms, at most ", kMaxTtlMs);
  KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
  const ChunkKey key = CoreContext::KeyOf(tenant, chunk_digest);
  absl::MutexLock lock(&c_.locks().For(key));
  KDN_ASSIGN_OR_RETURN(const auto row, c_.ReadRow(key));
  if (!row.has_value() || IsExpired(*row, c_.NowMs())) {
    return NotFound("chunk ", chunk_digest.ToShortHex(), " is not stored");
  }
  const bool pin = change == ChunkStore::PinChange::kPin;
  v1::ChunkRecord changed = *row;
  changed.set_pinned(pin);
  changed.set_pinned_until_ms(pin && ttl_ms != 0 ? c_.NowMs() + static_cast<int64_t>(ttl_ms) : 0);
  IndexBatch batch;
  batch.chunk_puts.push_back({key, std::move(changed), *row});
  return c_.NoteWrite(c_.index().Commit(batch, c_.AckDurability()));
}

absl::StatusOr<ModelPage> Admin::ListModels(const Caller& caller, const ModelFilter& filter) {
  KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
  KDN_ASSIGN_OR_RETURN(const std::optional<Digest> after, ReadPageToken(filter.page_token));
  const uint32_t limit = ClampLimit(filter.limit);
  ModelPage page;
  size_t page_bytes = 0;
  const auto visit = [&](const Digest& fingerprint, const v1::ModelRecord& record) {
    if (after.has_value() && fingerprint <= *after) return true;  // at most kMaxModelsPerTenant
    const size_t bytes = kSummaryBytes + record.display_name().size() + record.canonical_spec().size();
    if (page.models.size() == limit || (!page.models.empty() && page_bytes + bytes > kMaxPageBytes)) {
      page.next_page_token = page.models.back().fingerprint.ToHex();
      return false;
    }
    page_bytes += bytes;
    ModelInfo& info = page.models.emplace_back();
    info.fingerprint = fingerprint;
    info.display_name = record.display_name();
    info.chunk_tokens = record.chunk_tokens();
    info.canonical_spec.assign(record.canonical_spec().begin(), record.canonical_spec().end());
    info.created_ms = record.created_ms();
    return true;
  };
  KDN_RETURN_IF_ERROR(c_.index().VisitModels(tenant->id, visit));
  return page;
}

absl::StatusOr<ChunkStore::CompactResult> Admin::Compact() {
  ChunkStore::CompactResult result;
  result.bytes_before = c_.evictor().MeasureBytes();
  KDN_RETURN_IF_ERROR(c_.evictor().Compact());
  KDN_RETURN_IF_ERROR(c_.index().Compact());
  result.bytes_after = c_.evictor().MeasureBytes();
  return result;
}

absl::StatusOr<ChunkStore::ProbeResult> Admin::Probe() {
  ChunkStore::ProbeResult result;
  const Digest key = Sha256::Of(AsBytes("kdn probe"));
  v1::TextRecord record;
  record.set_text_digest(std::string(key.view()));
  record.set_fingerprint(std::string(key.view()));
  record.set_created_ms(c_.NowMs());

  const int64_t index_start = c_.NowNanos();
  {
    absl::MutexLock lock(&c_.locks().For({kProbeTenant, key}));
    IndexBatch put;
    put.text_puts.push_back({kProbeTenant, key, record});
    KDN_RETURN_IF_ERROR(c_.index().Commit(put, Durability::kUnsynced));
    KDN_ASSIGN_OR_RETURN(const auto read, c_.index().GetText(kProbeTenant, key));
    if (!read.has_value() || read->created_ms() != record.created_ms()) {
      return DataLoss("probe: the index does not return the row just written");
    }
    IndexBatch remove;
    remove.text_deletes.push_back({kProbeTenant, key, record});
    KDN_RETURN_IF_ERROR(c_.index().Commit(remove, Durability::kUnsynced));
  }
  result.index_micros = static_cast<uint64_t>((c_.NowNanos() - index_start) / kNanosPerMicro);

  // An empty tombstone: nothing to a rebuild.
  v1::ValueMetadata metadata;
  metadata.set_format(kValueMetadataFormat);
  metadata.set_tenant("kdn.probe");
  metadata.mutable_tombstone();
  const int64_t values_start = c_.NowNanos();
  KDN_ASSIGN_OR_RETURN(const ValueLocation location,
                       c_.values().Put(AsBytes(metadata.SerializeAsString()), key.span()));
  const absl::StatusOr<SharedBytes> payload = c_.values().Get(location, {0, location.length});
  c_.values().MarkDead(location);
  KDN_RETURN_IF_ERROR(payload);
  if (!ConstantTimeEqual(payload->span(), key.span())) {
    return DataLoss("probe: the value store does not return the bytes just written");
  }
  result.values_micros = static_cast<uint64_t>((c_.NowNanos() - values_start) / kNanosPerMicro);
  return result;
}

std::vector<TierInfo> Admin::Tiers() {
  const RamTierStats ram = c_.ram().Stats();
  TierInfo ram_tier{.tier = "ram",
                    .chunks = ram.objects,
                    .bytes = ram.used_bytes,
                    .stored_bytes = ram.used_bytes,
                    .raw_bytes = 0,
                    .capacity_bytes = ram.capacity_bytes,
                    .hits = ram.hits,
                    .misses = ram.misses};
  const absl::StatusOr<IndexCounts> counts = c_.index().Counts();
  const absl::StatusOr<Objects::Totals> objects = objects_.Count();
  const LiveBytes live = c_.live().Get();
  TierInfo disk_tier{.tier = "disk",
                     .chunks = counts.ok() && objects.ok() ? ChunksOf(*counts, *objects) : 0,
                     .bytes = c_.evictor().UsedBytes(),
                     .stored_bytes = live.stored_bytes,
                     .raw_bytes = live.raw_bytes,
                     .capacity_bytes = c_.evictor().capacity_bytes(),
                     .hits = c_.disk_hits.load(std::memory_order_relaxed),
                     .misses = c_.misses.load(std::memory_order_relaxed)};
  return {ram_tier, disk_tier};
}

absl::StatusOr<ChunkStore::Totals> Admin::GetTotals() {
  KDN_ASSIGN_OR_RETURN(const IndexCounts counts, c_.index().Counts());
  KDN_ASSIGN_OR_RETURN(const Objects::Totals objects, objects_.Count());
  KDN_ASSIGN_OR_RETURN(const uint64_t free_bytes, c_.disk_space().FreeBytes());
  return ChunkStore::Totals{.chunks = ChunksOf(counts, objects),
                            .models = counts.models,
                            .texts = counts.texts,
                            .objects = objects.objects,
                            .object_bytes = objects.object_bytes,
                            .disk_free_bytes = free_bytes,
                            .read_only = c_.read_only(),
                            .refusal = c_.refusal()};
}

}  // namespace kdn
