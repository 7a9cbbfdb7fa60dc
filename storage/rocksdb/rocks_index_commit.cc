#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "kernels/base/status.h"
#include "rocksdb/write_batch.h"
#include "storage/index/utf8.h"
#include "storage/rocksdb/rocks_index_impl.h"
#include "storage/rocksdb/rocks_status.h"

namespace kdn {

// One atomic write and what it does to the counts.
struct RocksIndex::Change {
  rocksdb::WriteBatch batch;
  // Rows of this change that exist after it, by family and key.
  absl::flat_hash_map<std::pair<Family, std::string>, bool> exists;
  int64_t chunks = 0;
  int64_t models = 0;
  int64_t texts = 0;
  uint64_t newest_group = 0;
  bool late = false;  // has a new part in a group below reconcile_from
};

namespace {

bool SameLocation(const v1::PartRecord& a, const v1::PartRecord& b) {
  return a.value_group() == b.value_group() && a.value_offset() == b.value_offset();
}

bool HasPart(const std::optional<v1::ChunkRecord>& row, const v1::PartRecord& part) {
  return row && std::any_of(row->parts().begin(), row->parts().end(),
                            [&](const v1::PartRecord& other) { return SameLocation(part, other); });
}

}  // namespace

absl::Status RocksIndex::CountRow(Family family, const std::string& key, bool exists_after, Change& change) {
  const auto [entry, first] = change.exists.try_emplace({family, key}, false);
  if (first) {
    rocksdb::PinnableSlice value;
    const rocksdb::Status status = db_->db().Get(rocksdb::ReadOptions(), db_->family(family), key, &value);
    // A damaged row counts as there: it was counted when it was put.
    if (!status.IsNotFound() && !status.ok() && !status.IsCorruption()) return FromRocks(status, directory_);
    entry->second = !status.IsNotFound();
  }
  const int64_t delta = static_cast<int64_t>(exists_after) - static_cast<int64_t>(entry->second);
  entry->second = exists_after;
  (family == Family::kChunks ? change.chunks : family == Family::kTexts ? change.texts : change.models) += delta;
  return absl::OkStatus();
}

absl::Status RocksIndex::AddChunkPut(const IndexBatch::ChunkPut& put, Change& change) {
  const auto fingerprint = Digest::FromBytes(AsBytes(put.record.fingerprint()));
  if (!fingerprint || put.record.chunk_digest().size() != Digest::kBytes) {
    return InvalidArgument("chunk row with a fingerprint of ", put.record.fingerprint().size(), " and a digest of ",
                           put.record.chunk_digest().size(), " bytes");
  }
  if (!std::ranges::all_of(put.record.documents(), IsUtf8)) return InvalidArgument("a document's name is not UTF-8");
  if (!IsUtf8(put.record.object().display_name())) return InvalidArgument("an object's display name is not UTF-8");
  const TenantId tenant = put.key.tenant;
  const auto& key = put.key.key;
  const std::string row_key = RowKey(tenant, key);
  KDN_RETURN_IF_ERROR(CountRow(Family::kChunks, row_key, true, change));
  rocksdb::Status status =
      change.batch.Put(db_->family(Family::kChunks), row_key, SealRow(Family::kChunks, row_key, put.record));
  const auto by_document = [&](const std::string& document) {
    return SecondaryKey(tenant, DocumentOwner(document), key);
  };
  if (put.previous) {
    for (const std::string& document : put.previous->documents()) {
      if (std::ranges::find(put.record.documents(), document) != put.record.documents().end()) continue;
      if (status.ok()) status = change.batch.Delete(db_->family(Family::kChunksByDocument), by_document(document));
    }
  } else if (status.ok()) {
    status = change.batch.Put(db_->family(Family::kChunksByModel), SecondaryKey(tenant, *fingerprint, key), "");
  }
  if (put.record.has_object() && status.ok()) {
    const std::string by_object = SecondaryKey(tenant, ObjectsOwner(*fingerprint), key);
    status = change.batch.Put(db_->family(Family::kChunksByDocument), by_object, "");
  }
  for (const std::string& document : put.record.documents()) {
    if (status.ok()) status = change.batch.Put(db_->family(Family::kChunksByDocument), by_document(document), "");
  }
  for (const v1::PartRecord& part : put.record.parts()) {
    if (HasPart(put.previous, part)) continue;
    change.newest_group = std::max<uint64_t>(change.newest_group, part.value_group());
    change.late = change.late || part.value_group() < reconcile_from_.load();
  }
  return FromRocks(status, directory_);
}

absl::Status RocksIndex::AddChunkDelete(const IndexBatch::ChunkDelete& erase, Change& change) {
  const auto [tenant, key] = erase.key;
  const std::string row_key = RowKey(tenant, key);
  KDN_RETURN_IF_ERROR(CountRow(Family::kChunks, row_key, false, change));
  rocksdb::Status status = change.batch.Delete(db_->family(Family::kChunks), row_key);
  if (const auto fingerprint = Digest::FromBytes(AsBytes(erase.previous.fingerprint())); fingerprint && status.ok()) {
    status = change.batch.Delete(db_->family(Family::kChunksByModel), SecondaryKey(tenant, *fingerprint, key));
    if (erase.previous.has_object() && status.ok()) {
      const std::string by_object = SecondaryKey(tenant, ObjectsOwner(*fingerprint), key);
      status = change.batch.Delete(db_->family(Family::kChunksByDocument), by_object);
    }
  }
  for (const std::string& document : erase.previous.documents()) {
    if (!status.ok()) break;
    status =
        change.batch.Delete(db_->family(Family::kChunksByDocument), SecondaryKey(tenant, DocumentOwner(document), key));
  }
  return FromRocks(status, directory_);
}

absl::StatusOr<RocksIndex::Change> RocksIndex::BuildChange(const IndexBatch& batch) {
  Change change;
  for (const auto& put : batch.chunk_puts) KDN_RETURN_IF_ERROR(AddChunkPut(put, change));
  for (const auto& erase : batch.chunk_deletes) KDN_RETURN_IF_ERROR(AddChunkDelete(erase, change));
  const auto put_row = [&](Family family, TenantId tenant, const Digest& digest,
                           const google::protobuf::MessageLite& record) -> absl::Status {
    const std::string key = RowKey(tenant, digest);
    KDN_RETURN_IF_ERROR(CountRow(family, key, true, change));
    return FromRocks(change.batch.Put(db_->family(family), key, SealRow(family, key, record)), directory_);
  };
  const auto erase_row = [&](Family family, TenantId tenant, const Digest& digest) -> absl::Status {
    const std::string key = RowKey(tenant, digest);
    KDN_RETURN_IF_ERROR(CountRow(family, key, false, change));
    return FromRocks(change.batch.Delete(db_->family(family), key), directory_);
  };
  for (const auto& put : batch.text_puts) {
    if (!IsUtf8(put.record.document()) || !std::ranges::all_of(put.record.extra_keys(), IsUtf8)) {
      return InvalidArgument("a text's document or extra key is not UTF-8");
    }
    KDN_RETURN_IF_ERROR(put_row(Family::kTexts, put.tenant, put.key, put.record));
  }
  for (const auto& erase : batch.text_deletes) {
    KDN_RETURN_IF_ERROR(erase_row(Family::kTexts, erase.tenant, erase.key));
  }
  for (const auto& put : batch.model_puts) {
    if (!IsUtf8(put.record.display_name())) return InvalidArgument("a model's display name is not UTF-8");
    KDN_RETURN_IF_ERROR(put_row(Family::kModels, put.tenant, put.fingerprint, put.record));
  }
  for (const auto& erase : batch.model_deletes) {
    KDN_RETURN_IF_ERROR(erase_row(Family::kModels, erase.tenant, erase.fingerprint));
  }
  if (change.batch.GetDataSize() > kMaxCommitBytes) {
    return InvalidArgument("index commit of ", change.batch.GetDataSize(), " bytes, at most ", kMaxCommitBytes);
  }
  return change;
}

absl::Status RocksIndex::Commit(const IndexBatch& batch, Durability durability) {
  ReopenIfDue();
  KDN_ASSIGN_OR_RETURN(const Use use, Enter());
  KDN_ASSIGN_OR_RETURN(Change change, BuildChange(batch));
  if (change.batch.Count() == 0) return absl::OkStatus();
  const bool adds = !batch.chunk_puts.empty() || !batch.text_puts.empty() || !batch.model_puts.empty();
  const WriteKind kind = adds ? WriteKind::kGrowing : WriteKind::kShrinking;
  rocksdb::WriteOptions write;
  write.sync = durability == Durability::kSynced;
  KDN_RETURN_IF_ERROR(NoteDamage(writer_.Write(db_->db(), db_->failures(), write, change.batch, kind)));
  chunks_.fetch_add(change.chunks, std::memory_order_relaxed);
  models_.fetch_add(change.models, std::memory_order_relaxed);
  texts_.fetch_add(change.texts, std::memory_order_relaxed);
  uint64_t newest = newest_group_.load();
  while (change.newest_group > newest && !newest_group_.compare_exchange_weak(newest, change.newest_group)) {
  }
  // Its group is not looked at again after a crash: a table file must have the row before it is acknowledged.
  if (change.late && recovered_.load()) return db_->Flush();
  CheckpointIfDue();
  return absl::OkStatus();
}

}  // namespace kdn
