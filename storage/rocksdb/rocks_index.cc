#include <algorithm>
#include <utility>

#include "kernels/base/status.h"
#include "rocksdb/write_batch.h"
#include "storage/index/utf8.h"
#include "storage/rocksdb/rocks_index_impl.h"
#include "storage/rocksdb/rocks_status.h"

// Life cycle, tenants, checkpoints. Reading is in rocks_index_read.cc, committing in rocks_index_commit.cc.

namespace kdn {
namespace {

// Rows are committed a moment after their value was put, so that the newest group but one may still gain rows.
constexpr uint64_t kGroupsBehind = 1;

}  // namespace

RocksIndex::RocksIndex(Parts parts)
    : directory_(std::move(parts.directory)),
      env_(std::move(parts.env)),
      clock_(*parts.clock),
      random_(std::move(parts.random)),
      db_options_(std::move(parts.db_options)),
      db_(std::move(parts.db)),
      gate_(directory_),
      writer_({directory_, env_, &clock_, parts.min_free_bytes}),
      lock_(parts.lock),
      state_(parts.state),
      reconcile_from_(parts.state.reconcile_from),
      recovered_(!parts.state.rebuild_pending && parts.state.clean),
      tenant_file_(std::move(parts.tenant_file)),
      tenants_(std::move(parts.tenants)),
      next_tenant_(parts.next_tenant),
      chunks_(static_cast<int64_t>(parts.state.counts.chunks)),
      models_(static_cast<int64_t>(parts.state.counts.models)),
      texts_(static_cast<int64_t>(parts.state.counts.texts)) {
  absl::MutexLock lock(&state_mutex_);
  state_.clean = false;
}

RocksIndex::~RocksIndex() { Close().IgnoreError(); }

absl::StatusOr<RocksIndex::Use> RocksIndex::Enter() const {
  KDN_ASSIGN_OR_RETURN(Use use, gate_.Enter());
  if (db_ == nullptr) return Unavailable(directory_, ": the index could not be opened again after the disk failed");
  return use;
}

void RocksIndex::ReopenIfDue() {
  if (!writer_.ShouldReopen() || !gate_.TryPause(kReopenPatienceMs)) return;
  db_.reset();
  if (auto opened = IndexDb::Open(db_options_); opened.ok()) {
    db_ = *std::move(opened);
    // A commit that failed may be in the log all the same.
    if (CountAgain().ok()) writer_.Reopened();
  } else if (auto readable = IndexDb::OpenReadOnly(db_options_); readable.ok()) {
    db_ = *std::move(readable);
  }
  gate_.Unpause();
}

absl::Status RocksIndex::CountAgain() {
  KDN_ASSIGN_OR_RETURN(const uint64_t chunks, db_->CountRows(Family::kChunks));
  KDN_ASSIGN_OR_RETURN(const uint64_t models, db_->CountRows(Family::kModels));
  KDN_ASSIGN_OR_RETURN(const uint64_t texts, db_->CountRows(Family::kTexts));
  chunks_.store(static_cast<int64_t>(chunks));
  models_.store(static_cast<int64_t>(models));
  texts_.store(static_cast<int64_t>(texts));
  return absl::OkStatus();
}

absl::Status RocksIndex::Close() {
  absl::MutexLock close_lock(&close_mutex_);
  gate_.Shut();
  absl::Status closed;
  if (writer_.broken()) {
    closed = Unavailable(directory_, ": closed while its disk fails");
  } else if (db_ != nullptr) {
    closed = db_->Flush();
  }
  if (db_ != nullptr && closed.ok()) {
    absl::MutexLock lock(&state_mutex_);
    const bool recovered = recovered_.load();
    state_.clean = recovered && !state_.damaged;
    if (recovered) state_.reconcile_from = std::max(state_.reconcile_from, newest_group_.load());
    state_.counts = {static_cast<uint64_t>(chunks_.load()), static_cast<uint64_t>(models_.load()),
                     static_cast<uint64_t>(texts_.load())};
    closed = DescribeManifest(*env_, db_->db(), directory_, state_);
    if (closed.ok()) closed = WriteIndexState(*env_, directory_, state_);
  }
  db_.reset();
  if (lock_ != nullptr) env_->UnlockFile(std::exchange(lock_, nullptr)).PermitUncheckedError();
  return closed;
}

absl::Status RocksIndex::Sync() {
  ReopenIfDue();
  KDN_ASSIGN_OR_RETURN(const Use use, Enter());
  return writer_.Sync(db_->db(), db_->failures(), db_->family(Family::kMeta));
}

absl::Status RocksIndex::CheckpointLocked() {
  const uint64_t newest = newest_group_.load();
  KDN_RETURN_IF_ERROR(db_->Flush());
  if (recovered_.load() && newest > kGroupsBehind) {
    state_.reconcile_from = std::max(state_.reconcile_from, newest - kGroupsBehind);
  }
  KDN_RETURN_IF_ERROR(DescribeManifest(*env_, db_->db(), directory_, state_));
  KDN_RETURN_IF_ERROR(WriteIndexState(*env_, directory_, state_));
  reconcile_from_.store(state_.reconcile_from);
  return absl::OkStatus();
}

void RocksIndex::CheckpointIfDue() {
  if (!recovered_.load() || newest_group_.load() <= reconcile_from_.load() + kGroupsBehind) return;
  if (!state_mutex_.TryLock()) return;  // somebody is at it
  // A checkpoint that fails is made by a later commit; until then more is scanned after a crash.
  if (newest_group_.load() > state_.reconcile_from + kGroupsBehind) CheckpointLocked().IgnoreError();
  state_mutex_.Unlock();
}

absl::Status RocksIndex::MarkRecovered() {
  KDN_ASSIGN_OR_RETURN(const Use use, Enter());
  absl::MutexLock lock(&state_mutex_);
  if (recovered_.load()) return absl::OkStatus();
  KDN_RETURN_IF_ERROR(db_->Flush());
  state_.rebuild_pending = false;
  recovered_.store(true);
  return CheckpointLocked();
}

absl::Status RocksIndex::NoteDamage(absl::Status status) {
  if (!absl::IsDataLoss(status)) return status;
  absl::MutexLock lock(&state_mutex_);
  if (!state_.damaged) {
    state_.damaged = true;
    // Without the note the next opening finds the damage by itself if the index is small enough to be verified.
    WriteIndexState(*env_, directory_, state_).IgnoreError();
  }
  return status;
}

absl::StatusOr<ChunkIndex::Tenant> RocksIndex::GetOrCreateTenant(const std::string& name) {
  if (name.empty() || !IsUtf8(name)) return InvalidArgument("tenant name of ", name.size(), " bytes is not UTF-8");
  KDN_ASSIGN_OR_RETURN(const Use use, Enter());
  absl::MutexLock lock(&tenant_mutex_);
  for (const auto& [id, record] : tenants_) {
    if (record.name() == name) return Tenant{id, record};
  }
  if (next_tenant_ > UINT32_MAX) return ResourceExhausted(directory_, ": no tenant numbers are left");
  Digest secret;
  random_(secret.bytes);
  Tenant tenant{static_cast<TenantId>(next_tenant_), {}};
  tenant.record.set_name(name);
  tenant.record.set_secret(std::string(secret.view()));
  tenant.record.set_created_ms(clock_.WallMillis());
  TenantMap grown = tenants_;
  grown.emplace(tenant.id, tenant.record);
  KDN_RETURN_IF_ERROR(tenant_file_->Save(grown));
  ++next_tenant_;
  tenants_ = std::move(grown);
  const std::string key = TenantKey(tenant.id);
  rocksdb::WriteBatch batch;
  rocksdb::WriteOptions write;
  write.sync = true;
  // The file decides; this third copy serves when both copies of the file are damaged.
  if (batch.Put(db_->family(Family::kTenants), key, SealRow(Family::kTenants, key, tenant.record)).ok()) {
    writer_.Write(db_->db(), db_->failures(), write, batch, WriteKind::kShrinking).IgnoreError();
  }
  return tenant;
}

absl::StatusOr<std::vector<ChunkIndex::Tenant>> RocksIndex::ListTenants() {
  KDN_ASSIGN_OR_RETURN(const Use use, Enter());
  absl::MutexLock lock(&tenant_mutex_);
  std::vector<Tenant> tenants;
  for (const auto& [id, record] : tenants_) tenants.push_back({id, record});
  return tenants;
}

absl::StatusOr<IndexCounts> RocksIndex::Counts() {
  KDN_ASSIGN_OR_RETURN(const Use use, Enter());
  const auto count = [](const std::atomic<int64_t>& rows) {
    return static_cast<uint64_t>(std::max<int64_t>(0, rows.load(std::memory_order_relaxed)));
  };
  return IndexCounts{count(chunks_), count(models_), count(texts_)};
}

absl::Status RocksIndex::Compact() {
  KDN_ASSIGN_OR_RETURN(const Use use, Enter());
  for (int family = 0; family < kNumFamilies; ++family) {
    rocksdb::CompactRangeOptions options;
    options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
    KDN_RETURN_IF_ERROR(NoteDamage(FromRocks(
        db_->db().CompactRange(options, db_->family(static_cast<Family>(family)), nullptr, nullptr), directory_)));
  }
  return absl::OkStatus();
}

uint64_t RocksIndex::DiskBytes() const {
  const auto use = Enter();
  return use.ok() ? db_->DiskBytes() : 0;
}

}  // namespace kdn
