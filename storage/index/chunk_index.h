#ifndef KDN_STORAGE_INDEX_CHUNK_INDEX_H_
#define KDN_STORAGE_INDEX_CHUNK_INDEX_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kdn/v1/record.pb.h"
#include "kernels/base/sha256.h"

// Everything that is a database: which chunks exist and where their values lie, models, texts, tenants. The one
// implementation is storage/rocksdb. Thread-safe.

namespace kdn {

// A tenant's number inside one store: the first key component of everything it owns.
using TenantId = uint32_t;

// Key of a chunk row: `key` is HMAC-SHA-256(tenant secret, chunk digest), so that tenants cannot probe each other.
struct ChunkKey {
  TenantId tenant = 0;
  Digest key;

  friend auto operator<=>(const ChunkKey&, const ChunkKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const ChunkKey& k) {
    return H::combine(std::move(h), k.tenant, k.key);
  }
};

// Changes that become visible together. Secondary rows (chunks by model, chunks and texts by document) follow from the
// records: the caller passes the row it replaces or deletes as `previous`.
struct IndexBatch {
  struct ChunkPut {
    ChunkKey key;
    v1::ChunkRecord record;
    std::optional<v1::ChunkRecord> previous;
  };
  struct ChunkDelete {
    ChunkKey key;
    v1::ChunkRecord previous;
  };
  struct TextPut {
    TenantId tenant = 0;
    Digest key;  // HMAC of the text digest
    v1::TextRecord record;
  };
  struct TextDelete {
    TenantId tenant = 0;
    Digest key;
    v1::TextRecord previous;
  };
  struct ModelPut {
    TenantId tenant = 0;
    Digest fingerprint;
    v1::ModelRecord record;
  };
  struct ModelDelete {
    TenantId tenant = 0;
    Digest fingerprint;
  };

  std::vector<ChunkPut> chunk_puts;
  std::vector<ChunkDelete> chunk_deletes;
  std::vector<TextPut> text_puts;
  std::vector<TextDelete> text_deletes;
  std::vector<ModelPut> model_puts;
  std::vector<ModelDelete> model_deletes;
};

enum class Durability {
  kSynced,    // on stable storage when Commit returns (concurrent commits share one flush)
  kUnsynced,  // in the write-ahead log's buffer; Sync() makes it durable
};

struct IndexCounts {
  uint64_t chunks = 0;
  uint64_t models = 0;
  uint64_t texts = 0;
};

class ChunkIndex {
 public:
  virtual ~ChunkIndex() = default;

  // Unset when there is no such row; DataLoss when it is damaged (callers treat that as a miss; putting it again heals
  // it).
  virtual absl::StatusOr<std::optional<v1::ChunkRecord>> GetChunk(const ChunkKey& key) = 0;
  // One entry per key, in order; unset for absent and for damaged rows.
  virtual absl::StatusOr<std::vector<std::optional<v1::ChunkRecord>>> GetChunks(std::span<const ChunkKey> keys) = 0;

  // All or nothing. InvalidArgument for a record without its identity fields, a name that is not UTF-8 or a batch too
  // large, ResourceExhausted when the disk is full (reads go on; commits succeed by themselves once there is space).
  // Commits that touch one key are serialised by the caller, who read the row it replaces.
  virtual absl::Status Commit(const IndexBatch& batch, Durability durability) = 0;
  // Makes every earlier commit durable.
  virtual absl::Status Sync() = 0;

  // Rows in key order, starting after `after` (unset = from the tenant's first); `visit` returns false to stop. The
  // rows are those of a snapshot; damaged rows are left out. `visit` may call the index.
  using ChunkVisitor = std::function<bool(const ChunkKey&, const v1::ChunkRecord&)>;
  virtual absl::Status VisitChunks(TenantId tenant, const std::optional<Digest>& after, const ChunkVisitor& visit) = 0;
  virtual absl::Status VisitChunksOfModel(TenantId tenant, const Digest& fingerprint,
                                          const std::optional<Digest>& after, const ChunkVisitor& visit) = 0;
  virtual absl::Status VisitChunksOfDocument(TenantId tenant, const std::string& document,
                                             const std::optional<Digest>& after, const ChunkVisitor& visit) = 0;
  // The rows of a model's calibration objects, which the visits above meet among the others.
  virtual absl::Status VisitObjectsOfModel(TenantId tenant, const Digest& fingerprint, const ChunkVisitor& visit) = 0;

  virtual absl::StatusOr<std::optional<v1::TextRecord>> GetText(TenantId tenant, const Digest& key) = 0;
  using TextVisitor = std::function<bool(const Digest& key, const v1::TextRecord&)>;
  virtual absl::Status VisitTexts(TenantId tenant, const TextVisitor& visit) = 0;

  virtual absl::StatusOr<std::optional<v1::ModelRecord>> GetModel(TenantId tenant, const Digest& fingerprint) = 0;
  using ModelVisitor = std::function<bool(const Digest& fingerprint, const v1::ModelRecord&)>;
  virtual absl::Status VisitModels(TenantId tenant, const ModelVisitor& visit) = 0;  // fingerprints ascend

  // The tenant of that name, made (with a fresh random secret, durably) at its first use.
  struct Tenant {
    TenantId id = 0;
    v1::TenantRecord record;
  };
  virtual absl::StatusOr<Tenant> GetOrCreateTenant(const std::string& name) = 0;
  virtual absl::StatusOr<std::vector<Tenant>> ListTenants() = 0;

  virtual absl::StatusOr<IndexCounts> Counts() = 0;
  // Tells that what the opening found missing has been put back (storage/index/recovery.h), so that the next opening
  // need not look for it again.
  virtual absl::Status MarkRecovered() { return absl::OkStatus(); }
  // Gives space of deleted rows back.
  virtual absl::Status Compact() = 0;
  virtual uint64_t DiskBytes() const = 0;
  // Flushes and closes. Idempotent; every call afterwards is Unavailable.
  virtual absl::Status Close() = 0;
};

}  // namespace kdn

#endif  // KDN_STORAGE_INDEX_CHUNK_INDEX_H_
