#include <sys/random.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/base/status.h"
#include "rocksdb/env.h"
#include "storage/rocksdb/durable_file.h"
#include "storage/rocksdb/quarantine.h"
#include "storage/rocksdb/rocks_index.h"
#include "storage/rocksdb/rocks_index_impl.h"
#include "storage/rocksdb/rocks_status.h"

namespace kdn {
namespace {

void SystemRandom(MutableByteSpan bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t got = getrandom(bytes.data() + done, bytes.size() - done, 0);
    if (got > 0) done += static_cast<size_t>(got);
  }
}

class Opener {
 public:
  explicit Opener(const RocksIndexOptions& options)
      : options_(WithFullPath(options)), directory_(options_.path + "/index"), env_(MakeEnv(options)) {}

  ~Opener() {
    if (lock_ != nullptr) env_->UnlockFile(lock_).PermitUncheckedError();
  }

  absl::StatusOr<OpenedIndex> Open() {
    KDN_RETURN_IF_ERROR(MakeDirectories(*env_, options_.path));
    KDN_RETURN_IF_ERROR(Lock());
    TenantFile tenant_file(*env_, options_.path);
    KDN_ASSIGN_OR_RETURN(TenantFile::Loaded loaded, tenant_file.Load());
    KDN_RETURN_IF_ERROR(OpenOrReplace());
    KDN_RETURN_IF_ERROR(RestoreTenants(tenant_file, loaded));
    uint64_t next_tenant = std::max<uint64_t>(1, tenant_bound_);
    if (!tenants_.empty()) next_tenant = std::max<uint64_t>(next_tenant, uint64_t{tenants_.rbegin()->first} + 1);
    RocksIndex::Parts parts;
    parts.directory = directory_;
    parts.env = env_;
    parts.lock = std::exchange(lock_, nullptr);
    parts.db_options = DbOptions();
    parts.db = std::move(db_);
    parts.min_free_bytes = options_.min_free_bytes;
    parts.tenant_file = std::make_unique<TenantFile>(*env_, options_.path);
    parts.tenants = std::move(tenants_);
    parts.next_tenant = next_tenant;
    parts.state = state_;
    parts.clock = options_.clock;
    parts.random = options_.random ? options_.random : SystemRandom;
    return OpenedIndex{std::make_unique<RocksIndex>(std::move(parts)), report_};
  }

 private:
  static RocksIndexOptions WithFullPath(RocksIndexOptions options) {
    options.path = FullPath(options.path);
    return options;
  }

  static std::shared_ptr<rocksdb::Env> MakeEnv(const RocksIndexOptions& options) {
    if (options.file_system == nullptr) return {rocksdb::Env::Default(), [](rocksdb::Env*) {}};
    return rocksdb::NewCompositeEnv(options.file_system);
  }

  absl::Status Lock() {
    const rocksdb::Status status = env_->LockFile(options_.path + "/index.lock", &lock_);
    if (status.ok()) return absl::OkStatus();
    lock_ = nullptr;
    const absl::Status locked = FromRocks(status, options_.path);
    return absl::IsFailedPrecondition(locked) ? Annotate(locked, "the index is open in another process") : locked;
  }

  absl::Status OpenOrReplace() {
    KDN_ASSIGN_OR_RETURN(const FolderContents contents, LookAtFolder(*env_, directory_));
    if (contents == FolderContents::kSomethingElse) {
      return FailedPrecondition(directory_, " holds files, but no index: move them away, or choose another path");
    }
    if (contents == FolderContents::kDatabase) {
      const absl::Status opened = OpenExisting();
      if (!absl::IsDataLoss(opened)) return opened;
      db_.reset();
      tenants_in_index_.clear();
      report_.reason = std::string(FromAbsl(opened.message()));
      KDN_ASSIGN_OR_RETURN(report_.quarantined_to,
                           Quarantine(*env_, {.parent = options_.path,
                                              .name = "index",
                                              .unix_seconds = options_.clock->WallMillis() / 1000,
                                              .max_kept = kMaxQuarantinedIndexes}));
    }
    report_.created = contents == FolderContents::kNothing;
    return CreateEmpty();
  }

  // DataLoss when this index must be replaced.
  absl::Status OpenExisting() {
    const auto state = ReadIndexState(*env_, directory_);
    if (state.ok()) {
      state_ = *state;
      if (state_.damaged) return DataLoss("RocksDB met damaged blocks while it was running");
      const absl::Status manifest = CheckManifest(*env_, directory_, state_);
      if (absl::IsNotFound(manifest)) return DataLoss(FromAbsl(manifest.message()));
      KDN_RETURN_IF_ERROR(manifest);
    } else if (absl::IsNotFound(state.status()) || absl::IsDataLoss(state.status())) {
      report_.reason = std::string(FromAbsl(state.status().message()));
      state_ = IndexState{};
    } else {
      return state.status();
    }
    KDN_ASSIGN_OR_RETURN(db_, IndexDb::Open(DbOptions()));
    if (db_->DiskBytes() <= options_.verify_at_open_bytes) KDN_RETURN_IF_ERROR(db_->Verify());
    KDN_RETURN_IF_ERROR(ReadTenants());
    return Adopt();
  }

  absl::Status ReadTenants() {
    KDN_ASSIGN_OR_RETURN(tenant_bound_, db_->TenantBound());
    const std::unique_ptr<rocksdb::Iterator> rows(
        db_->db().NewIterator(rocksdb::ReadOptions(), db_->family(Family::kTenants)));
    for (rows->SeekToFirst(); rows->Valid(); rows->Next()) {
      v1::TenantRecord record;
      KDN_RETURN_IF_ERROR(OpenRow(Family::kTenants, ToView(rows->key()), ToView(rows->value()), record));
      tenants_in_index_.emplace(KeyTenant(ToView(rows->key())), std::move(record));
    }
    return FromRocks(rows->status(), directory_);
  }

  absl::Status Adopt() {
    if (!state_.clean || state_.rebuild_pending) {
      KDN_ASSIGN_OR_RETURN(state_.counts.chunks, db_->CountRows(Family::kChunks));
      KDN_ASSIGN_OR_RETURN(state_.counts.models, db_->CountRows(Family::kModels));
      KDN_ASSIGN_OR_RETURN(state_.counts.texts, db_->CountRows(Family::kTexts));
      if (report_.reason.empty()) report_.reason = "not closed";
    }
    report_.needs_rebuild = state_.rebuild_pending;
    report_.needs_reconcile = !state_.clean && !state_.rebuild_pending;
    report_.reconcile_from = state_.reconcile_from;
    return Began();
  }

  absl::Status CreateEmpty() {
    KDN_RETURN_IF_ERROR(MakeDirectories(*env_, directory_));
    KDN_ASSIGN_OR_RETURN(db_, IndexDb::Create(DbOptions()));
    state_ = IndexState{};
    state_.rebuild_pending = true;
    report_.needs_rebuild = true;
    return Began();
  }

  // From here on the file says that the index is in use.
  absl::Status Began() {
    IndexState began = state_;
    began.clean = false;
    KDN_RETURN_IF_ERROR(DescribeManifest(*env_, db_->db(), directory_, began));
    KDN_RETURN_IF_ERROR(WriteIndexState(*env_, directory_, began));
    const bool clean = state_.clean;
    state_ = began;
    state_.clean = clean;
    return absl::OkStatus();
  }

  // Unites the files with the copy in the index, and repairs whichever lacks something.
  absl::Status RestoreTenants(TenantFile& file, TenantFile::Loaded& loaded) {
    tenants_ = std::move(loaded.tenants);
    const size_t in_files = tenants_.size();
    const size_t in_index = tenants_in_index_.size();
    tenants_.merge(tenants_in_index_);
    report_.tenants_damaged = loaded.damaged_copies > 0;
    report_.tenants_lost = loaded.damaged_copies > 0 && loaded.intact_copies == 0 && in_index == 0;
    if (report_.tenants_damaged) file.SetDamagedAside();
    const bool file_short = in_files != tenants_.size() || (loaded.intact_copies == 1 && in_files > 0);
    if (file_short || report_.tenants_damaged) KDN_RETURN_IF_ERROR(file.Save(tenants_));
    if (in_index == tenants_.size()) return absl::OkStatus();
    for (const auto& [id, record] : tenants_) {
      const std::string key = TenantKey(id);
      KDN_RETURN_IF_ERROR(FromRocks(db_->db().Put(rocksdb::WriteOptions(), db_->family(Family::kTenants), key,
                                                  SealRow(Family::kTenants, key, record)),
                                    directory_));
    }
    return absl::OkStatus();
  }

  IndexDb::Options DbOptions() const { return {directory_, options_.block_cache_bytes, env_}; }

  const RocksIndexOptions options_;
  const std::string directory_;
  const std::shared_ptr<rocksdb::Env> env_;
  rocksdb::FileLock* lock_ = nullptr;
  std::unique_ptr<IndexDb> db_;
  TenantMap tenants_;
  TenantMap tenants_in_index_;
  uint64_t tenant_bound_ = 0;
  IndexState state_;
  RecoveryReport report_;
};

}  // namespace

absl::StatusOr<OpenedIndex> OpenRocksIndex(const RocksIndexOptions& options) { return Opener(options).Open(); }

}  // namespace kdn
