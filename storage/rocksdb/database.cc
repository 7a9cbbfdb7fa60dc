#include "storage/rocksdb/database.h"

#include <algorithm>

#include "kernels/base/status.h"
#include "rocksdb/file_checksum.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/table.h"
#include "storage/rocksdb/rocks_status.h"

namespace kdn {
namespace {

constexpr double kBloomBitsPerKey = 10;
constexpr int kMaxBackgroundJobs = 2;
// RocksDB's own log files.
constexpr size_t kInfoLogFiles = 3;
constexpr size_t kInfoLogBytes = size_t{1} << 20;

absl::Status CheckFamilies(const Database::Layout& layout, const rocksdb::DBOptions& options) {
  std::vector<std::string> present;
  KDN_RETURN_IF_ERROR(
      FromRocksOpen(rocksdb::DB::ListColumnFamilies(options, layout.directory, &present), layout.directory));
  for (const std::string& name : present) {
    if (std::ranges::find(layout.families, name, &rocksdb::ColumnFamilyDescriptor::name) == layout.families.end()) {
      return FailedPrecondition(layout.directory, ": column family '", name, "' is unknown to ", layout.format, ": ",
                                layout.advice);
    }
  }
  for (const rocksdb::ColumnFamilyDescriptor& family : layout.families) {
    if (std::ranges::find(present, family.name) == present.end()) {
      return DataLoss(layout.directory, ": column family '", family.name, "' is missing");
    }
  }
  return absl::OkStatus();
}

}  // namespace

rocksdb::DBOptions BaseOptions(uint64_t max_log_bytes) {
  rocksdb::DBOptions options;
  options.paranoid_checks = true;
  options.file_checksum_gen_factory = rocksdb::GetFileChecksumGenCrc32cFactory();
  options.atomic_flush = true;
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.track_and_verify_wals_in_manifest = true;
  options.max_total_wal_size = max_log_bytes;
  options.max_background_jobs = kMaxBackgroundJobs;
  options.keep_log_file_num = kInfoLogFiles;
  options.max_log_file_size = kInfoLogBytes;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  return options;
}

rocksdb::ColumnFamilyOptions BaseFamilyOptions(const std::shared_ptr<rocksdb::Cache>& cache,
                                               size_t write_buffer_bytes) {
  rocksdb::BlockBasedTableOptions table;
  table.checksum = rocksdb::kXXH3;
  table.block_cache = cache;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(kBloomBitsPerKey));
  rocksdb::ColumnFamilyOptions family;
  family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  family.write_buffer_size = write_buffer_bytes;
  family.compression = rocksdb::kNoCompression;
  return family;
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const Layout& layout, OpenMode mode) {
  std::unique_ptr<Database> database(new Database);
  database->env_ = layout.env;
  rocksdb::DBOptions options = layout.options;
  options.env = layout.env.get();
  options.listeners = {database->failures_};
  if (mode == OpenMode::kCreate) {
    options.create_if_missing = true;
    options.create_missing_column_families = true;
    options.error_if_exists = true;
  } else {
    KDN_RETURN_IF_ERROR(CheckFamilies(layout, options));
  }
  rocksdb::DB* db = nullptr;
  std::vector<rocksdb::ColumnFamilyHandle*>* const handles = &database->handles_;
  const rocksdb::Status status =
      mode == OpenMode::kReadOnly
          ? rocksdb::DB::OpenForReadOnly(options, layout.directory, layout.families, handles, &db)
          : rocksdb::DB::Open(options, layout.directory, layout.families, handles, &db);
  KDN_RETURN_IF_ERROR(FromRocksOpen(status, layout.directory));
  database->db_.reset(db);
  return database;
}

Database::~Database() {
  if (db_ == nullptr) return;
  for (rocksdb::ColumnFamilyHandle* handle : handles_) {
    db_->DestroyColumnFamilyHandle(handle).PermitUncheckedError();
  }
  db_->Close().PermitUncheckedError();
}

}  // namespace kdn
