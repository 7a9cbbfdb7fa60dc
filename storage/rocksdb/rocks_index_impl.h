#ifndef KDN_STORAGE_ROCKSDB_ROCKS_INDEX_IMPL_H_
#define KDN_STORAGE_ROCKSDB_ROCKS_INDEX_IMPL_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "kernels/base/clock.h"
#include "storage/index/chunk_index.h"
#include "storage/rocksdb/index_db.h"
#include "storage/rocksdb/index_state.h"
#include "storage/rocksdb/resuming_writer.h"
#include "storage/rocksdb/tenant_file.h"
#include "storage/rocksdb/use_gate.h"

namespace kdn {

inline constexpr size_t kMaxCommitBytes = 64u << 20;

class RocksIndex final : public ChunkIndex {
 public:
  struct Parts {
    std::string directory;
    std::shared_ptr<rocksdb::Env> env;
    rocksdb::FileLock* lock = nullptr;  // released by Close
    IndexDb::Options db_options;
    std::unique_ptr<IndexDb> db;
    uint64_t min_free_bytes = 0;
    std::unique_ptr<TenantFile> tenant_file;
    TenantMap tenants;
    uint64_t next_tenant = 1;
    IndexState state;
    const Clock* clock = nullptr;
    std::function<void(MutableByteSpan)> random;
  };
  explicit RocksIndex(Parts parts);
  ~RocksIndex() override;

  absl::StatusOr<std::optional<v1::ChunkRecord>> GetChunk(const ChunkKey& key) override;
  absl::StatusOr<std::vector<std::optional<v1::ChunkRecord>>> GetChunks(std::span<const ChunkKey> keys) override;
  absl::Status Commit(const IndexBatch& batch, Durability durability) override;
  absl::Status Sync() override;
  absl::Status VisitChunks(TenantId tenant, const std::optional<Digest>& after, const ChunkVisitor& visit) override;
  absl::Status VisitChunksOfModel(TenantId tenant, const Digest& fingerprint, const std::optional<Digest>& after,
                                  const ChunkVisitor& visit) override;
  absl::Status VisitChunksOfDocument(TenantId tenant, const std::string& document, const std::optional<Digest>& after,
                                     const ChunkVisitor& visit) override;
  absl::Status VisitObjectsOfModel(TenantId tenant, const Digest& fingerprint, const ChunkVisitor& visit) override;
  absl::StatusOr<std::optional<v1::TextRecord>> GetText(TenantId tenant, const Digest& key) override;
  absl::Status VisitTexts(TenantId tenant, const TextVisitor& visit) override;
  absl::StatusOr<std::optional<v1::ModelRecord>> GetModel(TenantId tenant, const Digest& fingerprint) override;
  absl::Status VisitModels(TenantId tenant, const ModelVisitor& visit) override;
  absl::StatusOr<Tenant> GetOrCreateTenant(const std::string& name) override;
  absl::StatusOr<std::vector<Tenant>> ListTenants() override;
  absl::StatusOr<IndexCounts> Counts() override;
  absl::Status MarkRecovered() override;
  absl::Status Compact() override;
  uint64_t DiskBytes() const override;
  absl::Status Close() override;

 private:
  using Use = UseGate::Use;
  // Unavailable when closed, or when opening again has failed.
  absl::StatusOr<Use> Enter() const;
  // After a log could not be written: opens the database again, as soon as there is space. Call without a Use.
  void ReopenIfDue();
  absl::Status CountAgain();

  // Reads one sealed row into `record`; false when there is none.
  absl::StatusOr<bool> ReadRow(Family family, const std::string& key, const rocksdb::Snapshot* snapshot,
                               google::protobuf::MessageLite& record);
  // Counts damage; remembers for the next opening that RocksDB's own blocks are damaged.
  absl::Status NoteDamage(absl::Status status);
  using RowVisitor = std::function<bool(std::string_view key, std::string_view value)>;
  absl::Status VisitRange(Family family, const std::string& prefix, const std::optional<std::string>& after,
                          const rocksdb::Snapshot* snapshot, const RowVisitor& visit);
  using RowFilter = std::function<bool(const v1::ChunkRecord&)>;
  absl::Status VisitSecondary(Family family, const std::string& prefix, const std::optional<Digest>& after,
                              const RowFilter& belongs, const ChunkVisitor& visit);

  struct Change;
  absl::StatusOr<Change> BuildChange(const IndexBatch& batch);
  absl::Status AddChunkPut(const IndexBatch::ChunkPut& put, Change& change);
  absl::Status AddChunkDelete(const IndexBatch::ChunkDelete& erase, Change& change);
  // Tracks whether the row exists after the change, for the counts.
  absl::Status CountRow(Family family, const std::string& key, bool exists_after, Change& change);

  absl::Status CheckpointLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_mutex_);
  void CheckpointIfDue();

  const std::string directory_;
  const std::shared_ptr<rocksdb::Env> env_;
  const Clock& clock_;
  const std::function<void(MutableByteSpan)> random_;
  const IndexDb::Options db_options_;
  std::unique_ptr<IndexDb> db_;  // changes only while gate_ is paused or shut; null once closed

  mutable UseGate gate_;
  ResumingWriter writer_;

  absl::Mutex close_mutex_;  // held through Close
  rocksdb::FileLock* lock_ ABSL_GUARDED_BY(close_mutex_);

  absl::Mutex state_mutex_;
  IndexState state_ ABSL_GUARDED_BY(state_mutex_);
  std::atomic<uint64_t> reconcile_from_;  // state_.reconcile_from, for Commit
  std::atomic<uint64_t> newest_group_{0};
  std::atomic<bool> recovered_;

  absl::Mutex tenant_mutex_;
  const std::unique_ptr<TenantFile> tenant_file_ ABSL_PT_GUARDED_BY(tenant_mutex_);
  TenantMap tenants_ ABSL_GUARDED_BY(tenant_mutex_);
  uint64_t next_tenant_ ABSL_GUARDED_BY(tenant_mutex_);

  std::atomic<int64_t> chunks_;
  std::atomic<int64_t> models_;
  std::atomic<int64_t> texts_;
};

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_ROCKS_INDEX_IMPL_H_
