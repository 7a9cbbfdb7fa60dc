#ifndef KDN_TESTS_STORAGE_INDEX_LIMITED_INDEX_H_
#define KDN_TESTS_STORAGE_INDEX_LIMITED_INDEX_H_

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "storage/index/chunk_index.h"

namespace kdn::testing {

// Another index whose commits a test measures, and ends after some. Not thread-safe.
class LimitedIndex final : public ChunkIndex {
 public:
  explicit LimitedIndex(ChunkIndex& index) : index_(index) {}

  uint64_t commits_left = UINT64_MAX;  // later ones are Unavailable
  uint64_t most_rows = 0;              // in one commit

  absl::Status Commit(const IndexBatch& batch, Durability durability) override {
    if (commits_left == 0) return Unavailable("no commits left");
    --commits_left;
    most_rows = std::max<uint64_t>(most_rows, batch.chunk_puts.size() + batch.chunk_deletes.size() +
                                                  batch.text_puts.size() + batch.text_deletes.size() +
                                                  batch.model_puts.size() + batch.model_deletes.size());
    return index_.Commit(batch, durability);
  }

  absl::StatusOr<std::optional<v1::ChunkRecord>> GetChunk(const ChunkKey& key) override { return index_.GetChunk(key); }
  absl::StatusOr<std::vector<std::optional<v1::ChunkRecord>>> GetChunks(std::span<const ChunkKey> keys) override {
    return index_.GetChunks(keys);
  }
  absl::Status Sync() override { return index_.Sync(); }
  absl::Status VisitChunks(TenantId tenant, const std::optional<Digest>& after, const ChunkVisitor& visit) override {
    return index_.VisitChunks(tenant, after, visit);
  }
  absl::Status VisitChunksOfModel(TenantId tenant, const Digest& fingerprint, const std::optional<Digest>& after,
                                  const ChunkVisitor& visit) override {
    return index_.VisitChunksOfModel(tenant, fingerprint, after, visit);
  }
  absl::Status VisitChunksOfDocument(TenantId tenant, const std::string& document, const std::optional<Digest>& after,
                                     const ChunkVisitor& visit) override {
    return index_.VisitChunksOfDocument(tenant, document, after, visit);
  }
  absl::Status VisitObjectsOfModel(TenantId tenant, const Digest& fingerprint, const ChunkVisitor& visit) override {
    return index_.VisitObjectsOfModel(tenant, fingerprint, visit);
  }
  absl::StatusOr<std::optional<v1::TextRecord>> GetText(TenantId tenant, const Digest& key) override {
    return index_.GetText(tenant, key);
  }
  absl::Status VisitTexts(TenantId tenant, const TextVisitor& visit) override {
    return index_.VisitTexts(tenant, visit);
  }
  absl::StatusOr<std::optional<v1::ModelRecord>> GetModel(TenantId tenant, const Digest& fingerprint) override {
    return index_.GetModel(tenant, fingerprint);
  }
  absl::Status VisitModels(TenantId tenant, const ModelVisitor& visit) override {
    return index_.VisitModels(tenant, visit);
  }
  absl::StatusOr<Tenant> GetOrCreateTenant(const std::string& name) override { return index_.GetOrCreateTenant(name); }
  absl::StatusOr<std::vector<Tenant>> ListTenants() override { return index_.ListTenants(); }
  absl::StatusOr<IndexCounts> Counts() override { return index_.Counts(); }
  absl::Status Compact() override { return index_.Compact(); }
  uint64_t DiskBytes() const override { return index_.DiskBytes(); }
  absl::Status Close() override { return index_.Close(); }

 private:
  ChunkIndex& index_;
};

}  // namespace kdn::testing

#endif  // KDN_TESTS_STORAGE_INDEX_LIMITED_INDEX_H_
