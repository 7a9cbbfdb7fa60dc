#include <algorithm>
#include <utility>

#include "kernels/base/status.h"
#include "rocksdb/snapshot.h"
#include "storage/rocksdb/rocks_index_impl.h"
#include "storage/rocksdb/rocks_status.h"

namespace kdn {
namespace {

// Rows read in one go: bounds what is pinned in the block cache.
constexpr size_t kMultiGetRows = 256;

// The first key after every key that begins with `prefix`; empty when there is none.
std::string PrefixEnd(std::string prefix) {
  while (!prefix.empty() && static_cast<uint8_t>(prefix.back()) == 0xff) prefix.pop_back();
  if (!prefix.empty()) prefix.back() = static_cast<char>(static_cast<uint8_t>(prefix.back()) + 1);
  return prefix;
}

}  // namespace

absl::StatusOr<bool> RocksIndex::ReadRow(Family family, const std::string& key, const rocksdb::Snapshot* snapshot,
                                         google::protobuf::MessageLite& record) {
  rocksdb::ReadOptions read;
  read.snapshot = snapshot;
  rocksdb::PinnableSlice value;
  const rocksdb::Status status = db_->db().Get(read, db_->family(family), key, &value);
  if (status.IsNotFound()) return false;
  KDN_RETURN_IF_ERROR(NoteDamage(FromRocks(status, directory_)));
  KDN_RETURN_IF_ERROR(NoteDamage(OpenRow(family, key, ToView(value), record)));
  return true;
}

absl::StatusOr<std::optional<v1::ChunkRecord>> RocksIndex::GetChunk(const ChunkKey& key) {
  KDN_ASSIGN_OR_RETURN(const Use use, Enter());
  v1::ChunkRecord record;
  KDN_ASSIGN_OR_RETURN(const bool found, ReadRow(Family::kChunks, RowKey(key.tenant, key.key), nullptr, record));
  if (!found) return std::nullopt;
  return record;
}

absl::StatusOr<std::vector<std::optional<v1::ChunkRecord>>> RocksIndex::GetChunks(std::span<const ChunkKey> keys) {
  KDN_ASSIGN_OR_RETURN(const Use use, Enter());
  std::vector<std::optional<v1::ChunkRecord>> records(keys.size());
  for (size_t begin = 0; begin < keys.size(); begin += kMultiGetRows) {
    const size_t count = std::min(kMultiGetRows, keys.size() - begin);
    std::vector<std::string> row_keys(count);
    std::vector<rocksdb::Slice> slices(count);
    for (size_t i = 0; i < count; ++i) {
      row_keys[i] = RowKey(keys[begin + i].tenant, keys[begin + i].key);
      slices[i] = row_keys[i];
    }
    std::vector<rocksdb::PinnableSlice> values(count);
    std::vector<rocksdb::Status> statuses(count);
    db_->db().MultiGet(rocksdb::ReadOptions(), db_->family(Family::kChunks), count, slices.data(), values.data(),
                       statuses.data());
    for (size_t i = 0; i < count; ++i) {
      if (statuses[i].IsNotFound()) continue;
      v1::ChunkRecord record;
      absl::Status status = FromRocks(statuses[i], directory_);
      if (status.ok()) status = OpenRow(Family::kChunks, row_keys[i], ToView(values[i]), record);
      if (status.ok()) {
        records[begin + i] = std::move(record);
      } else if (!absl::IsDataLoss(NoteDamage(status))) {
        return status;
      }
    }
  }
  return records;
}

absl::Status RocksIndex::VisitRange(Family family, const std::string& prefix, const std::optional<std::string>& after,
                                    const rocksdb::Snapshot* snapshot, const RowVisitor& visit) {
  const std::string end = PrefixEnd(prefix);
  const rocksdb::Slice upper(end);
  rocksdb::ReadOptions read;
  read.snapshot = snapshot;
  read.fill_cache = false;
  if (!end.empty()) read.iterate_upper_bound = &upper;
  const std::unique_ptr<rocksdb::Iterator> rows(db_->db().NewIterator(read, db_->family(family)));
  // No key is a prefix of another: the smallest key after `after` is `after` with a zero byte.
  const std::string begin = after ? *after + std::string(1, '\0') : prefix;
  for (rows->Seek(begin); rows->Valid(); rows->Next()) {
    if (!visit(ToView(rows->key()), ToView(rows->value()))) return absl::OkStatus();
  }
  return NoteDamage(FromRocks(rows->status(), directory_));
}

absl::Status RocksIndex::VisitChunks(TenantId tenant, const std::optional<Digest>& after, const ChunkVisitor& visit) {
  KDN_ASSIGN_OR_RETURN(const Use use, Enter());
  const auto start = after ? std::optional(RowKey(tenant, *after)) : std::nullopt;
  return VisitRange(
      Family::kChunks, TenantKey(tenant), start, nullptr, [&](std::string_view key, std::string_view value) {
        const auto parsed = ParseRowKey(key);
        v1::ChunkRecord record;
        const absl::Status opened =
            parsed ? OpenRow(Family::kChunks, key, value, record) : DataLoss("chunk key of ", key.size(), " bytes");
        if (!NoteDamage(opened).ok()) return true;
        return visit({parsed->first, parsed->second}, record);
      });
}

absl::Status RocksIndex::VisitSecondary(Family family, const std::string& prefix, const std::optional<Digest>& after,
                                        const RowFilter& belongs, const ChunkVisitor& visit) {
  KDN_ASSIGN_OR_RETURN(const Use use, Enter());
  rocksdb::DB& db = db_->db();
  rocksdb::ManagedSnapshot snapshot(&db);
  const auto start = after ? std::optional(prefix + std::string(after->view())) : std::nullopt;
  absl::Status failed;
  const absl::Status visited =
      VisitRange(family, prefix, start, snapshot.snapshot(), [&](std::string_view key, std::string_view) {
        const auto chunk_key = ParseSecondaryKey(key);
        if (!chunk_key) return true;
        const ChunkKey chunk{KeyTenant(key), *chunk_key};
        v1::ChunkRecord record;
        const auto found = ReadRow(Family::kChunks, RowKey(chunk.tenant, chunk.key), snapshot.snapshot(), record);
        if (!found.ok() && !absl::IsDataLoss(found.status())) {
          failed = found.status();
          return false;
        }
        if (!found.ok() || !*found || !belongs(record)) return true;
        return visit(chunk, record);
      });
  return failed.ok() ? visited : failed;
}

absl::Status RocksIndex::VisitChunksOfModel(TenantId tenant, const Digest& fingerprint,
                                            const std::optional<Digest>& after, const ChunkVisitor& visit) {
  return VisitSecondary(
      Family::kChunksByModel, RowKey(tenant, fingerprint), after,
      [&](const v1::ChunkRecord& record) { return record.fingerprint() == fingerprint.view(); }, visit);
}

absl::Status RocksIndex::VisitChunksOfDocument(TenantId tenant, const std::string& document,
                                               const std::optional<Digest>& after, const ChunkVisitor& visit) {
  return VisitSecondary(
      Family::kChunksByDocument, RowKey(tenant, DocumentOwner(document)), after,
      [&](const v1::ChunkRecord& record) {
        return std::find(record.documents().begin(), record.documents().end(), document) != record.documents().end();
      },
      visit);
}

absl::Status RocksIndex::VisitObjectsOfModel(TenantId tenant, const Digest& fingerprint, const ChunkVisitor& visit) {
  return VisitSecondary(
      Family::kChunksByDocument, RowKey(tenant, ObjectsOwner(fingerprint)), std::nullopt,
      [&](const v1::ChunkRecord& record) { return record.has_object() && record.fingerprint() == fingerprint.view(); },
      visit);
}

absl::StatusOr<std::optional<v1::TextRecord>> RocksIndex::GetText(TenantId tenant, const Digest& key) {
  KDN_ASSIGN_OR_RETURN(const Use use, Enter());
  v1::TextRecord record;
  KDN_ASSIGN_OR_RETURN(const bool found, ReadRow(Family::kTexts, RowKey(tenant, key), nullptr, record));
  if (!found) return std::nullopt;
  return record;
}

absl::Status RocksIndex::VisitTexts(TenantId tenant, const TextVisitor& visit) {
  KDN_ASSIGN_OR_RETURN(const Use use, Enter());
  return VisitRange(Family::kTexts, TenantKey(tenant), std::nullopt, nullptr,
                    [&](std::string_view key, std::string_view value) {
                      const auto parsed = ParseRowKey(key);
                      v1::TextRecord record;
                      if (!parsed || !NoteDamage(OpenRow(Family::kTexts, key, value, record)).ok()) return true;
                      return visit(parsed->second, record);
                    });
}

absl::StatusOr<std::optional<v1::ModelRecord>> RocksIndex::GetModel(TenantId tenant, const Digest& fingerprint) {
  KDN_ASSIGN_OR_RETURN(const Use use, Enter());
  v1::ModelRecord record;
  KDN_ASSIGN_OR_RETURN(const bool found, ReadRow(Family::kModels, RowKey(tenant, fingerprint), nullptr, record));
  if (!found) return std::nullopt;
  return record;
}

absl::Status RocksIndex::VisitModels(TenantId tenant, const ModelVisitor& visit) {
  KDN_ASSIGN_OR_RETURN(const Use use, Enter());
  return VisitRange(Family::kModels, TenantKey(tenant), std::nullopt, nullptr,
                    [&](std::string_view key, std::string_view value) {
                      const auto parsed = ParseRowKey(key);
                      v1::ModelRecord record;
                      if (!parsed || !NoteDamage(OpenRow(Family::kModels, key, value, record)).ok()) return true;
                      return visit(parsed->second, record);
                    });
}

}  // namespace kdn
