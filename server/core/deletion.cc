#include "server/core/deletion.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "kernels/base/status.h"
#include "storage/evict/chunk_rows.h"
#include "storage/index/value_metadata.h"

namespace kdn {
namespace {

// Deleted under one hold of the evictor.
constexpr size_t kMaxKeysPerStep = 1024;

// Whether deleting the document leaves the chunk to others that were stored with it.
bool SharedWithOthers(const v1::ChunkRecord& row, const std::string& document) {
  return std::any_of(row.documents().begin(), row.documents().end(),
                     [&](const std::string& name) { return name != document; });
}

}  // namespace

// What a deletion found. Keys only: rows are read again under their locks.
struct Deletion::Victims {
  std::vector<Digest> chunks;  // to be removed whole
  std::vector<Digest> shared;  // lose the document's name only
  std::vector<Digest> texts;
  DeleteCounts counts;

  void Add(const ChunkKey& key, const v1::ChunkRecord& row) {
    chunks.push_back(key.key);
    ++(row.has_object() ? counts.objects : counts.chunks);
    counts.bytes += StoredBytes(row);
  }
};

absl::StatusOr<DeleteCounts> Deletion::Delete(const Caller& caller, const DeleteTarget& target, DeleteMode mode) {
  const int targets = target.chunk_digest.has_value() + target.document.has_value() + target.fingerprint.has_value();
  if (targets != 1) return InvalidArgument("deletion names ", targets, " targets, not one");
  KDN_ASSIGN_OR_RETURN(const TenantRef tenant, c_.registry().FindTenant(caller));
  if (target.chunk_digest.has_value()) return DeleteChunk(tenant, *target.chunk_digest, mode);
  if (target.fingerprint.has_value()) return DeleteModel(tenant, *target.fingerprint, mode);
  if (target.document->empty()) return InvalidArgument("deletion by an empty document name");
  return DeleteDocument(tenant, *target.document, mode);
}

absl::StatusOr<DeleteCounts> Deletion::DeleteChunk(const TenantRef& tenant, const Digest& chunk_digest,
                                                   DeleteMode mode) {
  const ChunkKey key = CoreContext::KeyOf(tenant, chunk_digest);
  KDN_ASSIGN_OR_RETURN(const auto row, c_.ReadRow(key));
  Victims victims;
  if (row.has_value()) victims.Add(key, *row);
  if (mode == DeleteMode::kDryRun) return victims.counts;
  return Remove(tenant, victims, "");
}

absl::StatusOr<DeleteCounts> Deletion::DeleteDocument(const TenantRef& tenant, const std::string& document,
                                                      DeleteMode mode) {
  Victims victims;
  KDN_RETURN_IF_ERROR(c_.index().VisitChunksOfDocument(tenant->id, document, std::nullopt,
                                                       [&](const ChunkKey& key, const v1::ChunkRecord& row) {
                                                         if (SharedWithOthers(row, document)) {
                                                           victims.shared.push_back(key.key);
                                                         } else {
                                                           victims.Add(key, row);
                                                         }
                                                         return true;
                                                       }));
  KDN_RETURN_IF_ERROR(FindTexts(
      tenant, [&](const v1::TextRecord& text) { return text.document() == document; }, victims));
  if (mode == DeleteMode::kDryRun) return victims.counts;
  return Remove(tenant, victims, document);
}

absl::StatusOr<DeleteCounts> Deletion::DeleteModel(const TenantRef& tenant, const Fingerprint& fingerprint,
                                                   DeleteMode mode) {
  if (mode == DeleteMode::kDelete) KDN_RETURN_IF_ERROR(RemoveModelRow(tenant, fingerprint));
  Victims victims;
  KDN_RETURN_IF_ERROR(c_.index().VisitChunksOfModel(tenant->id, fingerprint, std::nullopt,
                                                    [&](const ChunkKey& key, const v1::ChunkRecord& row) {
                                                      victims.Add(key, row);
                                                      return true;
                                                    }));
  KDN_RETURN_IF_ERROR(FindTexts(
      tenant, [&](const v1::TextRecord& text) { return text.fingerprint() == fingerprint.view(); }, victims));
  if (mode == DeleteMode::kDryRun) return victims.counts;
  return Remove(tenant, victims, "");
}

absl::Status Deletion::RemoveModelRow(const TenantRef& tenant, const Fingerprint& fingerprint) {
  const absl::StatusOr<ModelRef> model = c_.registry().FindModel(tenant, fingerprint);
  if (absl::IsNotFound(model.status())) return absl::OkStatus();  // a tombstone for anything asked for would fill disks
  if (!model.ok() && !absl::IsDataLoss(model.status())) return model.status();
  if (model.ok()) {
    // Waits for stores in flight; those that come later find the model deleted.
    absl::MutexLock use(&(*model)->use_mutex());
    (*model)->MarkDeleted();
  }
  absl::MutexLock registration(&c_.registry().registration_mutex());
  c_.registry().Forget(tenant, fingerprint);
  Deletions deletions;
  deletions.fingerprints.push_back(fingerprint);
  absl::MutexLock evictor_lock(&c_.evictor().step_mutex());
  KDN_RETURN_IF_ERROR(PutTombstones(c_.values(), tenant->record.name(), deletions));
  absl::MutexLock lock(&c_.locks().For({tenant->id, fingerprint}));
  IndexBatch batch;
  batch.model_deletes.push_back({tenant->id, fingerprint});
  return c_.NoteWrite(c_.index().Commit(batch, Durability::kUnsynced));
}

absl::Status Deletion::FindTexts(const TenantRef& tenant, const TextFilter& matches, Victims& victims) {
  return c_.index().VisitTexts(tenant->id, [&](const Digest& key, const v1::TextRecord& text) {
    if (matches(text)) {
      victims.texts.push_back(key);
      ++victims.counts.texts;
    }
    return true;
  });
}

absl::StatusOr<DeleteCounts> Deletion::Remove(const TenantRef& tenant, const Victims& victims,
                                              const std::string& document) {
  DeleteCounts counts;
  const uint64_t failures_before = c_.values().flush_failures();
  const auto by_step = [](std::span<const Digest> keys, auto remove) -> absl::Status {
    for (; !keys.empty(); keys = keys.subspan(std::min(keys.size(), kMaxKeysPerStep))) {
      KDN_RETURN_IF_ERROR(remove(keys.first(std::min(keys.size(), kMaxKeysPerStep))));
    }
    return absl::OkStatus();
  };
  KDN_RETURN_IF_ERROR(by_step(
      victims.chunks, [&](std::span<const Digest> keys) { return RemoveChunks(tenant, keys, document, counts); }));
  for (const Digest& key : victims.shared) {
    KDN_RETURN_IF_ERROR(RemoveChunk(tenant, key, document, Tombstone::kNone, counts));
  }
  KDN_RETURN_IF_ERROR(
      by_step(victims.texts, [&](std::span<const Digest> keys) { return RemoveTexts(tenant, keys, counts); }));
  // Who deletes by name wants it gone for good, whatever the mode of stores.
  KDN_RETURN_IF_ERROR(c_.values().Sync(failures_before));
  KDN_RETURN_IF_ERROR(c_.index().Sync());
  return counts;
}

absl::Status Deletion::RemoveChunks(const TenantRef& tenant, std::span<const Digest> keys, const std::string& document,
                                    DeleteCounts& counts) {
  // A value moved behind its tombstone would come back when the index is rebuilt.
  absl::MutexLock evictor_lock(&c_.evictor().step_mutex());
  KDN_RETURN_IF_ERROR(PutTombstones(c_.values(), tenant->record.name(), {.chunk_keys = {keys.begin(), keys.end()}}));
  for (const Digest& key : keys) {
    KDN_RETURN_IF_ERROR(RemoveChunk(tenant, key, document, Tombstone::kWritten, counts));
  }
  return absl::OkStatus();
}

absl::Status Deletion::RemoveTexts(const TenantRef& tenant, std::span<const Digest> keys, DeleteCounts& counts) {
  absl::MutexLock evictor_lock(&c_.evictor().step_mutex());
  KDN_RETURN_IF_ERROR(PutTombstones(c_.values(), tenant->record.name(), {.text_keys = {keys.begin(), keys.end()}}));
  for (const Digest& key : keys) KDN_RETURN_IF_ERROR(RemoveText({tenant->id, key}, counts));
  return absl::OkStatus();
}

absl::Status Deletion::WriteAnew(const TenantRef& tenant, const Digest& storage_key, v1::ChunkRecord& row) {
  for (v1::PartRecord& part : *row.mutable_parts()) {
    const ValueLocation from = LocationOf(part);
    KDN_ASSIGN_OR_RETURN(const SharedBytes payload, c_.values().Get(from, {0, from.length}));
    KDN_ASSIGN_OR_RETURN(const std::string metadata,
                         SerializeChunkMetadata(tenant->record.name(), storage_key, row, part));
    KDN_ASSIGN_OR_RETURN(const ValueLocation to, c_.values().Put(AsBytes(metadata), payload.span()));
    SetLocation(to, part);
  }
  return absl::OkStatus();
}

absl::Status Deletion::RemoveChunk(const TenantRef& tenant, const Digest& storage_key, const std::string& document,
                                   Tombstone tombstone, DeleteCounts& counts) {
  const ChunkKey key{tenant->id, storage_key};
  absl::MutexLock lock(&c_.locks().For(key));
  KDN_ASSIGN_OR_RETURN(const auto row, c_.ReadRow(key));
  if (!row.has_value()) return absl::OkStatus();
  // Judged again: another document may have come or gone meanwhile.
  if (!document.empty() && SharedWithOthers(*row, document)) {
    v1::ChunkRecord changed = *row;
    auto& names = *changed.mutable_documents();
    names.erase(std::remove(names.begin(), names.end(), document), names.end());
    if (tombstone == Tombstone::kWritten) KDN_RETURN_IF_ERROR(WriteAnew(tenant, storage_key, changed));
    IndexBatch batch;
    batch.chunk_puts.push_back({key, changed, *row});
    KDN_RETURN_IF_ERROR(c_.NoteWrite(c_.index().Commit(batch, Durability::kUnsynced)));
    for (int i = 0; i < row->parts_size(); ++i) {
      const ValueLocation from = LocationOf(row->parts(i));
      if (from == LocationOf(changed.parts(i))) continue;
      c_.values().MarkDead(from);
      c_.ram().Rekey(from, LocationOf(changed.parts(i)));
    }
    return absl::OkStatus();
  }
  if (tombstone == Tombstone::kNone) {  // who shared it has deleted it meanwhile
    KDN_RETURN_IF_ERROR(PutTombstones(c_.values(), tenant->record.name(), {.chunk_keys = {storage_key}}));
  }
  KDN_RETURN_IF_ERROR(c_.RemoveRow(key, *row));
  ++(row->has_object() ? counts.objects : counts.chunks);
  counts.bytes += StoredBytes(*row);
  return absl::OkStatus();
}

absl::Status Deletion::RemoveText(const ChunkKey& key, DeleteCounts& counts) {
  absl::MutexLock lock(&c_.locks().For(key));
  KDN_ASSIGN_OR_RETURN(const auto row, c_.index().GetText(key.tenant, key.key));
  if (!row.has_value()) return absl::OkStatus();
  IndexBatch batch;
  batch.text_deletes.push_back({key.tenant, key.key, *row});
  KDN_RETURN_IF_ERROR(c_.NoteWrite(c_.index().Commit(batch, Durability::kUnsynced)));
  ++counts.texts;
  return absl::OkStatus();
}

}  // namespace kdn
