#ifndef KDN_TESTS_SERVER_CORE_FAKES_FAKE_CHUNK_INDEX_H_
#define KDN_TESTS_SERVER_CORE_FAKES_FAKE_CHUNK_INDEX_H_

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "kernels/base/status.h"
#include "storage/index/chunk_index.h"

namespace kdn::testing {

// Rows in memory, with faults on request.
class FakeChunkIndex : public ChunkIndex {
 public:
  absl::StatusOr<std::optional<v1::ChunkRecord>> GetChunk(const ChunkKey& key) override {
    absl::MutexLock lock(&mutex_);
    if (closed_) return Unavailable("closed");
    if (damaged_.contains(key)) return DataLoss("row is damaged");
    return Find(chunks_, key);
  }

  absl::StatusOr<std::vector<std::optional<v1::ChunkRecord>>> GetChunks(std::span<const ChunkKey> keys) override {
    absl::MutexLock lock(&mutex_);
    if (closed_) return Unavailable("closed");
    std::vector<std::optional<v1::ChunkRecord>> rows;
    for (const ChunkKey& key : keys) {
      rows.push_back(damaged_.contains(key) ? std::nullopt : Find(chunks_, key));
    }
    return rows;
  }

  absl::Status Commit(const IndexBatch& batch, Durability durability) override {
    absl::MutexLock lock(&mutex_);
    if (closed_) return Unavailable("closed");
    if (!commit_status_.ok()) return commit_status_;
    ++(durability == Durability::kSynced ? synced_commits_ : unsynced_commits_);
    for (const auto& put : batch.chunk_puts) {
      chunks_[put.key] = put.record;
      damaged_.erase(put.key);
    }
    for (const auto& erase : batch.chunk_deletes) chunks_.erase(erase.key);
    for (const auto& put : batch.text_puts) texts_[{put.tenant, put.key}] = put.record;
    for (const auto& erase : batch.text_deletes) texts_.erase({erase.tenant, erase.key});
    for (const auto& put : batch.model_puts) models_[{put.tenant, put.fingerprint}] = put.record;
    for (const auto& erase : batch.model_deletes) models_.erase({erase.tenant, erase.fingerprint});
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    absl::MutexLock lock(&mutex_);
    ++syncs_;
    return absl::OkStatus();
  }

  absl::Status VisitChunks(TenantId tenant, const std::optional<Digest>& after, const ChunkVisitor& visit) override {
    return VisitMatching(
        tenant, after, [](const v1::ChunkRecord&) { return true; }, visit);
  }
  absl::Status VisitChunksOfModel(TenantId tenant, const Digest& fingerprint, const std::optional<Digest>& after,
                                  const ChunkVisitor& visit) override {
    return VisitMatching(
        tenant, after, [&](const v1::ChunkRecord& row) { return row.fingerprint() == fingerprint.view(); }, visit);
  }
  absl::Status VisitChunksOfDocument(TenantId tenant, const std::string& document, const std::optional<Digest>& after,
                                     const ChunkVisitor& visit) override {
    const auto matches = [&](const v1::ChunkRecord& row) {
      return std::find(row.documents().begin(), row.documents().end(), document) != row.documents().end();
    };
    return VisitMatching(tenant, after, matches, visit);
  }

  absl::Status VisitObjectsOfModel(TenantId tenant, const Digest& fingerprint, const ChunkVisitor& visit) override {
    const auto matches = [&](const v1::ChunkRecord& row) {
      return row.has_object() && row.fingerprint() == fingerprint.view();
    };
    return VisitMatching(tenant, std::nullopt, matches, visit);
  }

  absl::StatusOr<std::optional<v1::TextRecord>> GetText(TenantId tenant, const Digest& key) override {
    absl::MutexLock lock(&mutex_);
    if (closed_) return Unavailable("closed");
    return Find(texts_, Row{tenant, key});
  }
  absl::Status VisitTexts(TenantId tenant, const TextVisitor& visit) override {
    std::function<void()> hook;
    {
      absl::MutexLock lock(&mutex_);
      hook = std::exchange(before_visit_texts_, nullptr);
    }
    if (hook) hook();
    for (const auto& [row, record] : Snapshot(texts_)) {
      if (row.first == tenant && !visit(row.second, record)) break;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::optional<v1::ModelRecord>> GetModel(TenantId tenant, const Digest& fingerprint) override {
    absl::MutexLock lock(&mutex_);
    if (closed_) return Unavailable("closed");
    return Find(models_, Row{tenant, fingerprint});
  }
  absl::Status VisitModels(TenantId tenant, const ModelVisitor& visit) override {
    for (const auto& [row, record] : Snapshot(models_)) {
      if (row.first == tenant && !visit(row.second, record)) break;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Tenant> GetOrCreateTenant(const std::string& name) override {
    absl::MutexLock lock(&mutex_);
    if (closed_) return Unavailable("closed");
    for (const Tenant& tenant : tenants_) {
      if (tenant.record.name() == name) return tenant;
    }
    Tenant& tenant = tenants_.emplace_back();
    tenant.id = static_cast<TenantId>(tenants_.size());
    tenant.record.set_name(name);
    tenant.record.set_secret("secret of " + name);
    return tenant;
  }
  absl::StatusOr<std::vector<Tenant>> ListTenants() override {
    absl::MutexLock lock(&mutex_);
    if (closed_) return Unavailable("closed");
    return tenants_;
  }

  absl::StatusOr<IndexCounts> Counts() override {
    absl::MutexLock lock(&mutex_);
    if (closed_) return Unavailable("closed");
    return IndexCounts{chunks_.size(), models_.size(), texts_.size()};
  }
  absl::Status Compact() override { return absl::OkStatus(); }
  uint64_t DiskBytes() const override { return 0; }
  absl::Status Close() override {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
    return absl::OkStatus();
  }

  // Faults and figures.
  void SetCommitStatus(absl::Status status) {
    absl::MutexLock lock(&mutex_);
    commit_status_ = std::move(status);
  }
  // Called once, before the next VisitTexts looks at anything.
  void OnNextVisitTexts(std::function<void()> hook) {
    absl::MutexLock lock(&mutex_);
    before_visit_texts_ = std::move(hook);
  }
  void DamageRow(const ChunkKey& key) {
    absl::MutexLock lock(&mutex_);
    damaged_.insert(key);
  }
  void PutRow(const ChunkKey& key, const v1::ChunkRecord& record) {
    absl::MutexLock lock(&mutex_);
    chunks_[key] = record;
  }
  uint64_t synced_commits() const {
    absl::MutexLock lock(&mutex_);
    return synced_commits_;
  }
  uint64_t unsynced_commits() const {
    absl::MutexLock lock(&mutex_);
    return unsynced_commits_;
  }
  uint64_t syncs() const {
    absl::MutexLock lock(&mutex_);
    return syncs_;
  }

 private:
  using Row = std::pair<TenantId, Digest>;

  template <typename Map, typename Key>
  static std::optional<typename Map::mapped_type> Find(const Map& map, const Key& key) {
    const auto it = map.find(key);
    if (it == map.end()) return std::nullopt;
    return it->second;
  }
  template <typename Map>
  Map Snapshot(const Map& map) {
    absl::MutexLock lock(&mutex_);
    return map;
  }
  template <typename Matches>
  absl::Status VisitMatching(TenantId tenant, const std::optional<Digest>& after, const Matches& matches,
                             const ChunkVisitor& visit) {
    {
      absl::MutexLock lock(&mutex_);
      if (closed_) return Unavailable("closed");
    }
    for (const auto& [key, record] : Snapshot(chunks_)) {
      if (key.tenant != tenant || (after.has_value() && key.key <= *after) || !matches(record)) continue;
      if (!visit(key, record)) break;
    }
    return absl::OkStatus();
  }

  mutable absl::Mutex mutex_;
  std::map<ChunkKey, v1::ChunkRecord> chunks_ ABSL_GUARDED_BY(mutex_);
  std::map<Row, v1::TextRecord> texts_ ABSL_GUARDED_BY(mutex_);
  std::map<Row, v1::ModelRecord> models_ ABSL_GUARDED_BY(mutex_);
  std::vector<Tenant> tenants_ ABSL_GUARDED_BY(mutex_);
  std::set<ChunkKey> damaged_ ABSL_GUARDED_BY(mutex_);
  absl::Status commit_status_ ABSL_GUARDED_BY(mutex_);
  uint64_t synced_commits_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t unsynced_commits_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t syncs_ ABSL_GUARDED_BY(mutex_) = 0;
  std::function<void()> before_visit_texts_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kdn::testing

#endif  // KDN_TESTS_SERVER_CORE_FAKES_FAKE_CHUNK_INDEX_H_
