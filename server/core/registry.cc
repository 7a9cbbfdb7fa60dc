#include "server/core/registry.h"

#include <optional>

#include "kernels/base/status.h"
#include "kernels/chunk/chunker.h"
#include "server/core/options.h"
#include "storage/index/value_metadata.h"

namespace kdn {
namespace {

absl::StatusOr<ModelRef> ModelFromRecord(v1::ModelRecord record) {
  KDN_ASSIGN_OR_RETURN(ModelSpec spec, DecodeModelSpec(AsBytes(record.canonical_spec())));
  KDN_RETURN_IF_ERROR(ValidateChunkingContext({Fingerprint{}, record.chunk_tokens(), {}}));
  const Fingerprint fingerprint = Sha256::Of(AsBytes(record.canonical_spec()));
  auto model = std::make_shared<Model>(fingerprint, std::move(spec), std::move(record));
  if (model->cells().num_cells() > kMaxCellsPerModel) {
    return InvalidArgument("a chunk of this model is cut into ", model->cells().num_cells(), " cells, at most ",
                           kMaxCellsPerModel);
  }
  return model;
}

}  // namespace

Model::Model(const Fingerprint& fingerprint, ModelSpec spec, v1::ModelRecord record)
    : fingerprint_(fingerprint),
      spec_(std::move(spec)),
      cells_(spec_, record.chunk_tokens()),
      record_(std::move(record)) {
  for (uint32_t cell = 0; cell < cells_.num_cells(); ++cell) {
    uint64_t bytes = 0;
    for (const uint32_t layer : cells_.BandOfCell(cell).layers) {
      bytes += uint64_t{spec_.layers[layer].k_head_dim + spec_.layers[layer].v_head_dim} * DTypeBytes(spec_.dtype);
    }
    cell_row_bytes_.push_back(bytes);
  }
}

absl::StatusOr<TenantRef> Registry::FindTenant(const Caller& caller) {
  if (caller.tenant.empty() || caller.tenant.size() > kMaxTenantNameBytes) {
    return InvalidArgument("tenant name of ", caller.tenant.size(), " bytes: must be 1 to ", kMaxTenantNameBytes);
  }
  {
    absl::ReaderMutexLock lock(&mutex_);
    const auto it = tenants_.find(caller.tenant);
    if (it != tenants_.end()) return it->second;
  }
  KDN_ASSIGN_OR_RETURN(ChunkIndex::Tenant tenant, index_.GetOrCreateTenant(caller.tenant));
  absl::MutexLock lock(&mutex_);
  return tenants_.try_emplace(caller.tenant, std::make_shared<const ChunkIndex::Tenant>(std::move(tenant)))
      .first->second;
}

absl::StatusOr<ModelRef> Registry::FindModel(const TenantRef& tenant, const Fingerprint& fingerprint) {
  const ModelKey key{tenant->id, fingerprint};
  {
    absl::ReaderMutexLock lock(&mutex_);
    const auto it = models_.find(key);
    if (it != models_.end()) return it->second;
  }
  // Under the registration lock, so that a model being deleted is not cached again from its old row.
  absl::MutexLock registration(&registration_mutex_);
  {
    absl::ReaderMutexLock lock(&mutex_);
    const auto it = models_.find(key);
    if (it != models_.end()) return it->second;
  }
  KDN_ASSIGN_OR_RETURN(std::optional<v1::ModelRecord> record, index_.GetModel(tenant->id, fingerprint));
  if (!record.has_value()) return NotFound("model ", fingerprint.ToShortHex(), " is not registered");
  absl::StatusOr<ModelRef> model = ModelFromRecord(*std::move(record));
  if (!model.ok() || (*model)->fingerprint() != fingerprint) {
    return DataLoss("the record of model ", fingerprint.ToShortHex(), " is damaged: register the model again");
  }
  Remember(tenant, *model);
  return *model;
}

absl::StatusOr<ModelRef> Registry::MakeModel(ByteSpan canonical_spec, uint32_t chunk_tokens,
                                             std::string_view display_name, int64_t now_ms) {
  if (canonical_spec.size() > kMaxSpecBytes) {
    return InvalidArgument("model spec of ", canonical_spec.size(), " bytes, at most ", kMaxSpecBytes);
  }
  if (display_name.size() > kMaxDisplayNameBytes) {
    return InvalidArgument("display name of ", display_name.size(), " bytes, at most ", kMaxDisplayNameBytes);
  }
  v1::ModelRecord record;
  record.set_canonical_spec(std::string(AsStringView(canonical_spec)));
  record.set_chunk_tokens(chunk_tokens);
  record.set_created_ms(now_ms);
  record.set_display_name(std::string(display_name));
  return ModelFromRecord(std::move(record));
}

absl::Status Registry::CheckRoomForModel(const TenantRef& tenant) {
  uint64_t models = 0;
  KDN_RETURN_IF_ERROR(index_.VisitModels(
      tenant->id, [&](const Digest&, const v1::ModelRecord&) { return ++models < kMaxModelsPerTenant; }));
  if (models < kMaxModelsPerTenant) return absl::OkStatus();
  return ResourceExhausted("this tenant has ", kMaxModelsPerTenant, " models, the most there may be: delete some");
}

// A model that only the registry holds can be made again from its row; one in use must stay the only one of its name,
// since its mutex is what deletion waits for.
void Registry::DropUnusedModels() {
  absl::erase_if(models_, [](const auto& entry) { return entry.second.use_count() == 1; });
}

void Registry::Remember(const TenantRef& tenant, const ModelRef& model) {
  absl::MutexLock lock(&mutex_);
  if (models_.size() >= kMaxCachedModels) DropUnusedModels();
  models_[{tenant->id, model->fingerprint()}] = model;
}

void Registry::Forget(const TenantRef& tenant, const Fingerprint& fingerprint) {
  absl::MutexLock lock(&mutex_);
  models_.erase({tenant->id, fingerprint});
}

}  // namespace kdn
