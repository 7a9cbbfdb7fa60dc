#ifndef KDN_SERVER_CORE_REGISTRY_H_
#define KDN_SERVER_CORE_REGISTRY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "kernels/layout/cell_map.h"
#include "kernels/layout/model_spec.h"
#include "server/core/chunk_store.h"
#include "storage/index/chunk_index.h"

namespace kdn {

using TenantRef = std::shared_ptr<const ChunkIndex::Tenant>;  // owners: the registry and calls in flight

// A registered model with what its calls need again and again. Immutable but for its end.
class Model {
 public:
  // `spec` and `chunk_tokens` must be valid.
  Model(const Fingerprint& fingerprint, ModelSpec spec, v1::ModelRecord record);

  const Fingerprint& fingerprint() const { return fingerprint_; }
  const ModelSpec& spec() const { return spec_; }
  const CellMap& cells() const { return cells_; }
  uint32_t chunk_tokens() const { return record_.chunk_tokens(); }
  const v1::ModelRecord& record() const { return record_; }
  // KV bytes of one row (token) of a cell before coding.
  uint64_t CellRowBytes(uint32_t cell) const { return cell_row_bytes_[cell]; }

  // Stores hold it shared from before they look for the model until their row is committed; deleting the model takes it
  // exclusively to set `deleted`, after which no row of the model can appear any more.
  absl::Mutex& use_mutex() const ABSL_LOCK_RETURNED(use_mutex_) { return use_mutex_; }
  bool deleted() const ABSL_SHARED_LOCKS_REQUIRED(use_mutex_) { return deleted_; }
  void MarkDeleted() ABSL_EXCLUSIVE_LOCKS_REQUIRED(use_mutex_) { deleted_ = true; }

 private:
  const Fingerprint fingerprint_;
  const ModelSpec spec_;
  const CellMap cells_;
  const v1::ModelRecord record_;
  std::vector<uint64_t> cell_row_bytes_;
  mutable absl::Mutex use_mutex_;
  bool deleted_ ABSL_GUARDED_BY(use_mutex_) = false;
};

using ModelRef = std::shared_ptr<Model>;  // owners: the registry and calls in flight

// Tenants and models by name, cached from the index. Thread-safe.
class Registry {
 public:
  explicit Registry(ChunkIndex& index) : index_(index) {}

  // The tenant, made at its first use. InvalidArgument for a name that is empty or too long.
  absl::StatusOr<TenantRef> FindTenant(const Caller& caller);

  // NotFound when the tenant has not registered it; DataLoss when its record is damaged.
  absl::StatusOr<ModelRef> FindModel(const TenantRef& tenant, const Fingerprint& fingerprint);

  // The model that registering would make. InvalidArgument for a spec or chunk length that is not valid.
  static absl::StatusOr<ModelRef> MakeModel(ByteSpan canonical_spec, uint32_t chunk_tokens,
                                            std::string_view display_name, int64_t now_ms);

  // After the index row was written or removed.
  void Remember(const TenantRef& tenant, const ModelRef& model);
  void Forget(const TenantRef& tenant, const Fingerprint& fingerprint);

  // ResourceExhausted when the tenant has kMaxModelsPerTenant models.
  absl::Status CheckRoomForModel(const TenantRef& tenant) ABSL_EXCLUSIVE_LOCKS_REQUIRED(registration_mutex_);

  // Held by whoever writes or removes a model's row.
  absl::Mutex& registration_mutex() ABSL_LOCK_RETURNED(registration_mutex_) { return registration_mutex_; }

 private:
  using ModelKey = std::pair<TenantId, Fingerprint>;

  void DropUnusedModels() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  ChunkIndex& index_;
  absl::Mutex registration_mutex_;
  absl::Mutex mutex_;
  absl::flat_hash_map<std::string, TenantRef> tenants_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<ModelKey, ModelRef> models_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kdn

#endif  // KDN_SERVER_CORE_REGISTRY_H_
