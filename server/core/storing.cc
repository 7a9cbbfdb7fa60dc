#include "server/core/storing.h"

#include <algorithm>
#include <cctype>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/status.h"
#include "server/core/upload.h"
#include "storage/evict/chunk_rows.h"
#include "storage/index/value_metadata.h"

namespace kdn {
namespace {

// A store that finds its chunk there prolongs its life only when that adds at least this share of the time to live, so
// that a busy chunk is not rewritten by every store.
constexpr int64_t kProlongShare = 8;

std::string CodeLabel(const absl::Status& status) {
  std::string label = absl::StatusCodeToString(status.code());
  std::transform(label.begin(), label.end(), label.begin(), [](unsigned char c) { return std::tolower(c); });
  return label;
}

bool HasDocument(const v1::ChunkRecord& row, const std::string& document) {
  return std::find(row.documents().begin(), row.documents().end(), document) != row.documents().end();
}

// Names beyond the bound, and those for which a value's metadata has no room, are not recorded (server/core/README.md):
// a row that no value can carry could not be moved by eviction.
bool AddDocument(const std::string& tenant, const std::string& document, v1::ChunkRecord& row) {
  if (document.empty() || HasDocument(row, document)) return false;
  if (static_cast<size_t>(row.documents_size()) >= kMaxDocumentsPerChunk) return false;
  row.add_documents(document);
  if (ChunkMetadataFits(tenant, row)) return true;
  row.mutable_documents()->RemoveLast();
  return false;
}

// The later of two expiries, of which 0 is never.
int64_t LaterExpiry(int64_t a, int64_t b) { return a == 0 || b == 0 ? 0 : std::max(a, b); }

}  // namespace

struct Storing::Upload {
  TenantRef tenant;
  ModelRef model;
  const StoreRequest& request;
  const SharedBytes& container;
  const ContainerHeader& header;
  ChunkKey key;
  int64_t expires_ms = 0;
  int64_t now_ms = 0;

  // The row of a chunk stored for the first time.
  v1::ChunkRecord NewRow() const {
    v1::ChunkRecord row;
    row.set_fingerprint(std::string(request.fingerprint.view()));
    row.set_chunk_digest(std::string(request.chunk_digest.view()));
    row.set_kind(static_cast<uint32_t>(request.kind));
    row.set_token_begin(header.token_begin);
    row.set_num_tokens(header.num_tokens);
    if (request.parent_digest.has_value()) {
      row.set_parent_key(std::string(CoreContext::KeyOf(tenant, *request.parent_digest).key.view()));
    }
    row.set_created_ms(now_ms);
    row.set_expires_ms(expires_ms);
    return row;
  }

  // The same digest means the same tokens at the same place: who says otherwise is wrong.
  absl::Status CheckAgainstRow(const v1::ChunkRecord& row) const {
    const v1::ChunkRecord mine = NewRow();
    if (row.fingerprint() != mine.fingerprint() || row.chunk_digest() != mine.chunk_digest() ||
        row.kind() != mine.kind() || row.token_begin() != mine.token_begin() || row.num_tokens() != mine.num_tokens() ||
        (row.parent_key() != mine.parent_key() && !row.parent_key().empty() && !mine.parent_key().empty())) {
      return InvalidArgument("chunk ", request.chunk_digest.ToShortHex(), " is stored as tokens [", row.token_begin(),
                             ", +", row.num_tokens(), ") of kind ", row.kind(), "; this container has [",
                             header.token_begin, ", +", header.num_tokens, ") of kind ",
                             static_cast<uint32_t>(request.kind), ", or another model or parent");
    }
    return absl::OkStatus();
  }
};

absl::StatusOr<RegisteredModel> Storing::RegisterModel(const Caller& caller, ByteSpan canonical_spec,
                                                       uint32_t chunk_tokens, std::string_view display_name) {
  KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
  KDN_ASSIGN_OR_RETURN(const ModelRef wanted,
                       Registry::MakeModel(canonical_spec, chunk_tokens == 0 ? kDefaultChunkTokens : chunk_tokens,
                                           display_name, c_.NowMs()));
  const Fingerprint& fingerprint = wanted->fingerprint();
  const auto existing = [&]() -> absl::StatusOr<std::optional<RegisteredModel>> {
    absl::StatusOr<ModelRef> model = c_.registry().FindModel(tenant, fingerprint);
    if (absl::IsNotFound(model.status()) || absl::IsDataLoss(model.status())) return std::nullopt;
    KDN_RETURN_IF_ERROR(model);
    if (chunk_tokens != 0 && chunk_tokens != (*model)->chunk_tokens()) {
      return FailedPrecondition("model ", fingerprint.ToShortHex(), " is registered with chunks of ",
                                (*model)->chunk_tokens(), " tokens, not ", chunk_tokens);
    }
    return RegisteredModel{fingerprint, (*model)->chunk_tokens(), false};
  };
  KDN_ASSIGN_OR_RETURN(std::optional<RegisteredModel> known, existing());
  if (known.has_value()) return *known;
  KDN_ASSIGN_OR_RETURN(const Admission admission, c_.Admit(canonical_spec.size()));
  {
    absl::MutexLock registration(&c_.registry().registration_mutex());
    absl::StatusOr<std::optional<v1::ModelRecord>> row = c_.index().GetModel(tenant->id, fingerprint);
    const bool absent = absl::IsDataLoss(row.status()) || (row.ok() && !row->has_value());
    if (!absent) KDN_RETURN_IF_ERROR(row);
    if (absent) {
      KDN_RETURN_IF_ERROR(c_.registry().CheckRoomForModel(tenant));
      KDN_RETURN_IF_ERROR(c_.NoteWrite(WriteModel(tenant, wanted)));
      c_.registry().Remember(tenant, wanted);
      return RegisteredModel{fingerprint, wanted->chunk_tokens(), true};
    }
  }
  // Another call registered it meanwhile.
  KDN_ASSIGN_OR_RETURN(known, existing());
  if (!known.has_value()) return Aborted("model ", fingerprint.ToShortHex(), " was deleted while being registered");
  return *known;
}

absl::Status Storing::WriteModel(const TenantRef& tenant, const ModelRef& model) {
  absl::MutexLock lock(&c_.locks().For({tenant->id, model->fingerprint()}));
  KDN_RETURN_IF_ERROR(
      PutModelValue(c_.values(), tenant->record.name(), model->record(), model->fingerprint()).status());
  IndexBatch batch;
  batch.model_puts.push_back({tenant->id, model->fingerprint(), model->record()});
  return c_.index().Commit(batch, c_.AckDurability());
}

absl::StatusOr<StoreOutcome> Storing::Store(const Caller& caller, const StoreRequest& request,
                                            const SharedBytes& container) {
  const auto store = [&]() -> absl::StatusOr<StoreOutcome> {
    if (request.document.size() > kMaxDocumentNameBytes) {
      return InvalidArgument("document name of ", request.document.size(), " bytes, at most ", kMaxDocumentNameBytes);
    }
    KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
    KDN_ASSIGN_OR_RETURN(const ModelRef model, c_.registry().FindModel(tenant, request.fingerprint));
    KDN_ASSIGN_OR_RETURN(const int64_t expires_ms, c_.ExpiryOf(request.ttl_ms));
    KDN_ASSIGN_OR_RETURN(const ContainerHeader header,
                         CheckUpload(request, *model, container.span(), c_.options().max_container_bytes));
    return StoreChecked({.tenant = tenant,
                         .model = model,
                         .request = request,
                         .container = container,
                         .header = header,
                         .key = CoreContext::KeyOf(tenant, request.chunk_digest),
                         .expires_ms = expires_ms,
                         .now_ms = c_.NowMs()});
  };
  absl::StatusOr<StoreOutcome> outcome = store();
  if (!outcome.ok()) {
    if (absl::IsDataLoss(outcome.status())) c_.events().OnCorruption("upload");
    c_.events().OnStoreRejected(CodeLabel(outcome.status()));
  }
  return outcome;
}

absl::StatusOr<StoreOutcome> Storing::StoreChecked(const Upload& upload) {
  absl::ReaderMutexLock use(&upload.model->use_mutex());
  if (upload.model->deleted()) {
    return NotFound("model ", upload.request.fingerprint.ToShortHex(), " is not registered");
  }
  std::optional<Admission> admission;
  KDN_ASSIGN_OR_RETURN(std::optional<StoreOutcome> outcome, StoreLocked(upload, admission));
  if (outcome.has_value()) return *outcome;
  // Room is made with no row locked, since that locks other rows.
  KDN_ASSIGN_OR_RETURN(admission, c_.Admit(upload.container.size() + kMaxValueMetadataBytes));
  KDN_ASSIGN_OR_RETURN(outcome, StoreLocked(upload, admission));
  return *outcome;
}

absl::StatusOr<std::optional<StoreOutcome>> Storing::StoreLocked(const Upload& upload,
                                                                 std::optional<Admission>& admission) {
  absl::MutexLock lock(&c_.locks().For(upload.key));
  KDN_ASSIGN_OR_RETURN(std::optional<v1::ChunkRecord> row, c_.ReadRow(upload.key));
  if (row.has_value()) {
    KDN_RETURN_IF_ERROR(upload.CheckAgainstRow(*row));
    if (IsExpired(*row, upload.now_ms)) {
      KDN_RETURN_IF_ERROR(c_.RemoveRow(upload.key, *row));
      row.reset();
    }
  }
  const ProfileId required = RequiredProfile(upload.header, upload.model->spec());
  const StorePlan plan = PlanStore(row, upload.header, required, upload.model->cells());
  if (plan.other_cells > 0) c_.events().OnDivergence(plan.other_cells);
  if (plan.taken.empty()) {
    KDN_ASSIGN_OR_RETURN(const StoreOutcome outcome, KeepRow(upload, *row, plan));
    return outcome;
  }
  if (!admission.has_value()) admission = c_.evictor().TryAdmit(upload.container.size() + kMaxValueMetadataBytes);
  if (!admission.has_value()) return std::nullopt;
  KDN_ASSIGN_OR_RETURN(const StoreOutcome outcome, WritePart(upload, row, plan));
  return outcome;
}

absl::StatusOr<StoreOutcome> Storing::KeepRow(const Upload& upload, const v1::ChunkRecord& row, const StorePlan& plan) {
  v1::ChunkRecord changed = row;
  bool worth_writing = AddDocument(upload.tenant->record.name(), upload.request.document, changed);
  const int64_t expires_ms = LaterExpiry(row.expires_ms(), upload.expires_ms);
  changed.set_expires_ms(expires_ms);
  if (expires_ms == 0) {
    worth_writing |= row.expires_ms() != 0;
  } else {
    worth_writing |= expires_ms - row.expires_ms() > (expires_ms - upload.now_ms) / kProlongShare;
  }
  if (worth_writing) {
    IndexBatch batch;
    batch.chunk_puts.push_back({upload.key, std::move(changed), row});
    KDN_RETURN_IF_ERROR(c_.NoteWrite(c_.index().Commit(batch, c_.AckDurability())));
  }
  c_.Touch(upload.key, row);
  const StoreOutcome outcome = plan.other_cells > 0 ? StoreOutcome::kKeptExisting : StoreOutcome::kDeduplicated;
  c_.events().OnStored(outcome, row.num_tokens(), upload.container.size(), 0);
  return outcome;
}

absl::StatusOr<StoreOutcome> Storing::WritePart(const Upload& upload, const std::optional<v1::ChunkRecord>& row,
                                                const StorePlan& plan) {
  v1::ChunkRecord changed = row.value_or(upload.NewRow());
  if (changed.parent_key().empty()) changed.set_parent_key(upload.NewRow().parent_key());
  changed.set_expires_ms(row.has_value() ? LaterExpiry(row->expires_ms(), upload.expires_ms) : upload.expires_ms);
  v1::PartRecord part;
  part.set_header_bytes(upload.header.header_bytes);
  const ProfileId profile = HighestProfile(upload.header);
  const ProfileId required = RequiredProfile(upload.header, upload.model->spec());
  part.set_profile(static_cast<uint32_t>(profile));
  if (!LosesAlike(required, profile)) part.set_required_profile(static_cast<uint32_t>(required));
  part.set_rope_state(static_cast<uint32_t>(upload.header.rope_state));
  part.set_container_cells(upload.header.cells.Count());
  for (const v1::CellRecord& cell : plan.taken) *part.add_cells() = cell;
  part.set_raw_bytes(RawBytes(*upload.model, upload.header.num_tokens, part.cells()));
  const uint64_t raw_bytes = part.raw_bytes();
  *changed.add_parts() = part;
  AddDocument(upload.tenant->record.name(), upload.request.document, changed);
  changed.mutable_parts()->RemoveLast();
  KDN_ASSIGN_OR_RETURN(const std::string metadata,
                       SerializeChunkMetadata(upload.tenant->record.name(), upload.key.key, changed, part));
  const ByteSpan bytes = upload.container.span();
  const std::optional<uint32_t> crc = upload.request.container_crc32c;
  absl::StatusOr<ValueLocation> location = crc.has_value() ? c_.values().PutChecked(AsBytes(metadata), bytes, *crc)
                                                           : c_.values().Put(AsBytes(metadata), bytes);
  if (!location.ok()) return c_.NoteWrite(location.status());
  SetLocation(*location, part);
  const LiveBytes before = LiveBytesOf(changed);
  const std::vector<ValueLocation> emptied = AddPart(*upload.model, std::move(part), changed);
  const LiveBytes after = LiveBytesOf(changed);
  IndexBatch batch;
  batch.chunk_puts.push_back({upload.key, std::move(changed), row});
  if (absl::Status committed = c_.NoteWrite(c_.index().Commit(batch, c_.AckDurability())); !committed.ok()) {
    c_.values().MarkDead(*location);
    return committed;
  }
  for (const ValueLocation& dead : emptied) {
    c_.values().MarkDead(dead);
    c_.ram().Remove(dead);
  }
  c_.ram().Insert(*location, upload.container);
  c_.live().Change(before, after);
  TouchParent(upload);
  c_.events().OnStored(StoreOutcome::kStored, upload.header.num_tokens, upload.container.size(), raw_bytes);
  c_.events().OnProfileStored(HighestProfile(upload.header), upload.container.size(), raw_bytes);
  return StoreOutcome::kStored;
}

void Storing::TouchParent(const Upload& upload) {
  // What grows from a prefix shows that the prefix is wanted; the new chunk itself is young enough.
  if (!upload.request.parent_digest.has_value()) return;
  const ChunkKey parent = CoreContext::KeyOf(upload.tenant, *upload.request.parent_digest);
  const auto row = c_.index().GetChunk(parent);
  if (row.ok() && row->has_value()) c_.Touch(parent, **row);
}

}  // namespace kdn
