#include "storage/evict/expiry_sweeper.h"

#include <algorithm>
#include <utility>

#include "kernels/base/status.h"
#include "storage/evict/chunk_rows.h"

namespace kdn {

absl::StatusOr<ExpirySweeper::StepResult> ExpirySweeper::Step() {
  KDN_ASSIGN_OR_RETURN(const std::vector<ChunkIndex::Tenant> tenants, d_.index.ListTenants());
  std::vector<TenantId> ids;
  ids.reserve(tenants.size());
  for (const ChunkIndex::Tenant& tenant : tenants) ids.push_back(tenant.id);
  std::sort(ids.begin(), ids.end());
  StepResult result;
  const auto at = std::lower_bound(ids.begin(), ids.end(), tenant_.value_or(0));
  if (at == ids.end()) {
    tenant_.reset();
    after_.reset();
    result.round_done = true;
    return result;
  }
  if (tenant_ != *at) after_.reset();
  tenant_ = *at;

  const int64_t now_ms = d_.clock.WallMillis();
  std::vector<ChunkKey> expired;
  uint32_t rows = 0;
  KDN_RETURN_IF_ERROR(d_.index.VisitChunks(*tenant_, after_, [&](const ChunkKey& key, const v1::ChunkRecord& record) {
    after_ = key.key;
    if (IsExpired(record, now_ms)) {
      expired.push_back(key);
    } else {
      result.live += LiveBytesOf(record);
    }
    return ++rows < kRowsPerStep;
  }));
  KDN_ASSIGN_OR_RETURN(result.removed_chunks, RemoveChunks(expired));
  if (rows < kRowsPerStep) {
    KDN_ASSIGN_OR_RETURN(result.removed_texts, SweepTexts(*tenant_));
    tenant_ = *tenant_ + 1;
    after_.reset();
    result.round_done = *tenant_ > ids.back();
    if (result.round_done) tenant_.reset();
  }
  return result;
}

absl::StatusOr<uint64_t> ExpirySweeper::RemoveChunks(const std::vector<ChunkKey>& keys) {
  uint64_t removed = 0;
  uint64_t bytes = 0;
  for (const ChunkKey& key : keys) {
    absl::MutexLock lock(&d_.locks.For(key));
    // Read again under the lock: a store may have prolonged it meanwhile.
    KDN_ASSIGN_OR_RETURN(const auto rows, d_.index.GetChunks(std::span(&key, 1)));
    if (!rows[0].has_value() || !IsExpired(*rows[0], d_.clock.WallMillis())) continue;
    IndexBatch batch;
    batch.chunk_deletes.push_back({key, *rows[0]});
    KDN_RETURN_IF_ERROR(d_.index.Commit(batch, Durability::kUnsynced));
    for (const v1::PartRecord& part : rows[0]->parts()) {
      d_.values.MarkDead(LocationOf(part));
      d_.listener.OnValueRemoved(LocationOf(part), part.raw_bytes());
    }
    d_.tracker.Forget(key);
    ++removed;
    bytes += StoredBytes(*rows[0]);
  }
  if (removed > 0) d_.listener.OnEvicted("expired", removed, bytes);
  return removed;
}

absl::StatusOr<uint64_t> ExpirySweeper::SweepTexts(TenantId tenant) {
  const int64_t now_ms = d_.clock.WallMillis();
  std::vector<Digest> expired;
  KDN_RETURN_IF_ERROR(d_.index.VisitTexts(tenant, [&](const Digest& key, const v1::TextRecord& record) {
    if (IsExpired(record, now_ms)) expired.push_back(key);
    return expired.size() < kRowsPerStep;
  }));
  uint64_t removed = 0;
  for (const Digest& key : expired) {
    absl::MutexLock lock(&d_.locks.For({tenant, key}));
    KDN_ASSIGN_OR_RETURN(const auto row, d_.index.GetText(tenant, key));
    if (!row.has_value() || !IsExpired(*row, now_ms)) continue;
    IndexBatch batch;
    batch.text_deletes.push_back({tenant, key, *row});
    KDN_RETURN_IF_ERROR(d_.index.Commit(batch, Durability::kUnsynced));
    ++removed;
  }
  return removed;
}

}  // namespace kdn
