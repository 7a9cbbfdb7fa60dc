#include "server/core/texts.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/status.h"
#include "kernels/chunk/chunker.h"
#include "storage/evict/chunk_rows.h"
#include "storage/index/value_metadata.h"

namespace kdn {
namespace {

absl::Status CheckRequest(const StoreTextRequest& request) {
  if (request.token_ids.empty() || request.token_ids.size() > kMaxTokensPerCall) {
    return InvalidArgument("text of ", request.token_ids.size(), " tokens: must be 1 to ", kMaxTokensPerCall);
  }
  if (request.document.size() > kMaxDocumentNameBytes) {
    return InvalidArgument("document name of ", request.document.size(), " bytes, at most ", kMaxDocumentNameBytes);
  }
  return absl::OkStatus();
}

// Everything but the times.
bool SameText(v1::TextRecord a, v1::TextRecord b) {
  for (v1::TextRecord* record : {&a, &b}) {
    record->clear_created_ms();
    record->clear_expires_ms();
  }
  return a.SerializeAsString() == b.SerializeAsString();
}

}  // namespace

absl::StatusOr<uint64_t> Texts::Store(const Caller& caller, const StoreTextRequest& request) {
  KDN_RETURN_IF_ERROR(CheckRequest(request));
  KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
  KDN_ASSIGN_OR_RETURN(const ModelRef model, c_.registry().FindModel(tenant, request.fingerprint));
  KDN_ASSIGN_OR_RETURN(const int64_t expires_ms, c_.ExpiryOf(request.ttl_ms));
  const ChunkingContext chunking{request.fingerprint, model->chunk_tokens(), request.extra_keys};
  KDN_RETURN_IF_ERROR(ValidateChunkingContext(chunking));

  v1::TextRecord record;
  record.set_text_digest(std::string(request.text_digest.view()));
  record.set_fingerprint(std::string(request.fingerprint.view()));
  record.mutable_token_ids()->Add(request.token_ids.begin(), request.token_ids.end());
  for (const ChunkId& chunk : PrefixChunks(chunking, request.token_ids)) {
    record.add_chunk_digests(std::string(chunk.digest.view()));
  }
  record.set_document(request.document);
  for (const std::string& key : request.extra_keys) record.add_extra_keys(key);
  record.set_expires_ms(expires_ms);
  const uint64_t num_chunks = static_cast<uint64_t>(record.chunk_digests_size());

  absl::ReaderMutexLock use(&model->use_mutex());
  if (model->deleted()) return NotFound("model ", request.fingerprint.ToShortHex(), " is not registered");
  KDN_ASSIGN_OR_RETURN(const Admission admission, c_.Admit(record.ByteSizeLong() + kMaxValueMetadataBytes));
  KDN_RETURN_IF_ERROR(Write(tenant, std::move(record)));
  return num_chunks;
}

absl::Status Texts::Write(const TenantRef& tenant, v1::TextRecord record) {
  const ChunkKey key{tenant->id, StorageKey(tenant->record, *Digest::FromBytes(AsBytes(record.text_digest())))};
  absl::MutexLock lock(&c_.locks().For(key));
  absl::StatusOr<std::optional<v1::TextRecord>> old = c_.index().GetText(key.tenant, key.key);
  if (absl::IsDataLoss(old.status())) {
    c_.NoteCorruption("index", old.status());
    old = std::optional<v1::TextRecord>();
  }
  KDN_RETURN_IF_ERROR(old);
  record.set_created_ms(c_.NowMs());
  if (old->has_value()) {
    if (SameText(**old, record) && (*old)->expires_ms() == record.expires_ms()) return absl::OkStatus();
    // The creation time tells a row's value from those of earlier versions.
    record.set_created_ms(std::max(record.created_ms(), (*old)->created_ms() + 1));
  }
  const std::string& name = tenant->record.name();
  KDN_RETURN_IF_ERROR(c_.NoteWrite(PutTextValue(c_.values(), name, key.key, record).status()));
  IndexBatch batch;
  batch.text_puts.push_back({key.tenant, key.key, std::move(record)});
  return c_.NoteWrite(c_.index().Commit(batch, c_.AckDurability()));
}

absl::StatusOr<StoredText> Texts::Lookup(const Caller& caller, const Fingerprint& fingerprint,
                                         const Digest& text_digest) {
  KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
  KDN_ASSIGN_OR_RETURN(const ModelRef model, c_.registry().FindModel(tenant, fingerprint));
  const Digest key = StorageKey(tenant->record, text_digest);
  absl::StatusOr<std::optional<v1::TextRecord>> row = c_.index().GetText(tenant->id, key);
  if (absl::IsDataLoss(row.status())) {
    c_.NoteCorruption("index", row.status());
    row = std::optional<v1::TextRecord>();
  }
  KDN_RETURN_IF_ERROR(row);
  if (!row->has_value() || IsExpired(**row, c_.NowMs()) || (*row)->fingerprint() != fingerprint.view()) {
    return NotFound("text ", text_digest.ToShortHex(), " is not stored");
  }
  StoredText text;
  text.token_ids.assign((*row)->token_ids().begin(), (*row)->token_ids().end());
  for (const std::string& raw : (*row)->chunk_digests()) {
    const std::optional<Digest> digest = Digest::FromBytes(AsBytes(raw));
    if (!digest.has_value()) return NotFound("text ", text_digest.ToShortHex(), " is stored damaged");
    text.chunk_digests.push_back(*digest);
  }
  text.document = (*row)->document();
  text.extra_keys.assign((*row)->extra_keys().begin(), (*row)->extra_keys().end());
  return text;
}

}  // namespace kdn
