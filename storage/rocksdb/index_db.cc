#include "storage/rocksdb/index_db.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "kernels/base/bytes.h"
#include "kernels/base/status.h"
#include "rocksdb/cache.h"
#include "rocksdb/file_checksum.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/options.h"
#include "rocksdb/table.h"
#include "storage/rocksdb/rocks_index.h"
#include "storage/rocksdb/rocks_status.h"

namespace kdn {
namespace {

// In the order of Family.
constexpr std::string_view kFamilyNames[kNumFamilies] = {"meta",  "chunks", "chunks_by_model", "chunks_by_document",
                                                         "texts", "models", "tenants"};
constexpr std::string_view kFormatKey = "format";

// Small, so that replaying the logs after a crash takes well below a second.
constexpr size_t kWriteBufferBytes = 8u << 20;
constexpr size_t kAllWriteBuffersBytes = 32u << 20;
constexpr uint64_t kMaxLogBytes = 48u << 20;
// Below kMaxDurableFileBytes: KDN_STATE keeps a checksum of the MANIFEST.
constexpr uint64_t kMaxManifestBytes = 16u << 20;
constexpr double kBloomBitsPerKey = 10;

rocksdb::DBOptions DatabaseOptions(const IndexDb::Options& options) {
  rocksdb::DBOptions db;
  db.env = options.env.get();
  db.paranoid_checks = true;
  db.file_checksum_gen_factory = rocksdb::GetFileChecksumGenCrc32cFactory();
  // Every family reaches table files together: a hole in the logs then cuts off a tail of commits and cannot leave
  // one family ahead of another.
  db.atomic_flush = true;
  // A torn last record is what a crash leaves; anything beyond that is put back from the values (KDN_STATE).
  db.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  db.track_and_verify_wals_in_manifest = true;
  db.max_total_wal_size = kMaxLogBytes;
  db.db_write_buffer_size = kAllWriteBuffersBytes;
  db.max_manifest_file_size = kMaxManifestBytes;
  db.max_background_jobs = 2;
  db.avoid_unnecessary_blocking_io = true;
  db.keep_log_file_num = 3;
  db.max_log_file_size = 1u << 20;
  db.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  db.stats_dump_period_sec = 0;
  db.stats_persist_period_sec = 0;
  return db;
}

rocksdb::ColumnFamilyOptions FamilyOptions(const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::BlockBasedTableOptions table;
  table.checksum = rocksdb::kXXH3;
  table.block_cache = cache;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(kBloomBitsPerKey));
  rocksdb::ColumnFamilyOptions family;
  family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  family.write_buffer_size = kWriteBufferBytes;
  family.compression = rocksdb::kNoCompression;
  family.paranoid_file_checks = true;
  return family;
}

absl::Status CheckFamilies(const std::vector<std::string>& present, const std::string& directory) {
  for (const std::string& name : present) {
    if (name != rocksdb::kDefaultColumnFamilyName && std::ranges::find(kFamilyNames, name) == std::end(kFamilyNames)) {
      return FailedPrecondition(directory, ": column family '", name, "' is unknown to index format ", kIndexFormat,
                                ": start the version that wrote it, or move the folder away to have it rebuilt");
    }
  }
  for (const std::string_view name : kFamilyNames) {
    if (std::ranges::find(present, name) == present.end()) {
      return DataLoss(directory, ": column family '", name, "' is missing");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status IndexDb::Start(const Options& options, Mode mode) {
  env_ = options.env;
  rocksdb::DBOptions db_options = DatabaseOptions(options);
  db_options.listeners = {failures_};
  if (mode == Mode::kCreate) {
    db_options.create_if_missing = true;
    db_options.create_missing_column_families = true;
    db_options.error_if_exists = true;
  } else {
    std::vector<std::string> present;
    KDN_RETURN_IF_ERROR(
        FromRocksOpen(rocksdb::DB::ListColumnFamilies(db_options, options.directory, &present), options.directory));
    KDN_RETURN_IF_ERROR(CheckFamilies(present, options.directory));
  }
  const auto cache = rocksdb::NewLRUCache(options.block_cache_bytes);
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const std::string_view name : kFamilyNames) families.emplace_back(std::string(name), FamilyOptions(cache));
  families.emplace_back(rocksdb::kDefaultColumnFamilyName, FamilyOptions(cache));
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      mode == Mode::kReadOnly ? rocksdb::DB::OpenForReadOnly(db_options, options.directory, families, &handles, &db)
                              : rocksdb::DB::Open(db_options, options.directory, families, &handles, &db);
  KDN_RETURN_IF_ERROR(FromRocksOpen(status, options.directory));
  db_.reset(db);
  std::ranges::copy(handles, handles_.begin());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<IndexDb>> IndexDb::Create(const Options& options) {
  std::unique_ptr<IndexDb> index(new IndexDb);
  KDN_RETURN_IF_ERROR(index->Start(options, Mode::kCreate));
  const std::string format = SealBytes(Family::kMeta, kFormatKey, std::to_string(kIndexFormat));
  KDN_RETURN_IF_ERROR(
      FromRocks(index->db_->Put(rocksdb::WriteOptions(), index->family(Family::kMeta), ToSlice(kFormatKey), format),
                options.directory));
  KDN_RETURN_IF_ERROR(index->Flush());
  return index;
}

absl::StatusOr<std::unique_ptr<IndexDb>> IndexDb::Open(const Options& options) {
  std::unique_ptr<IndexDb> index(new IndexDb);
  KDN_RETURN_IF_ERROR(index->Start(options, Mode::kReadWrite));
  KDN_RETURN_IF_ERROR(index->CheckFormat());
  return index;
}

absl::StatusOr<std::unique_ptr<IndexDb>> IndexDb::OpenReadOnly(const Options& options) {
  std::unique_ptr<IndexDb> index(new IndexDb);
  KDN_RETURN_IF_ERROR(index->Start(options, Mode::kReadOnly));
  return index;
}

IndexDb::~IndexDb() {
  if (db_ == nullptr) return;
  for (rocksdb::ColumnFamilyHandle* handle : handles_) {
    if (handle != nullptr) db_->DestroyColumnFamilyHandle(handle).PermitUncheckedError();
  }
  db_->Close().PermitUncheckedError();
}

absl::Status IndexDb::CheckFormat() {
  std::string value;
  KDN_RETURN_IF_ERROR(FromRocksOpen(
      db_->Get(rocksdb::ReadOptions(), family(Family::kMeta), ToSlice(kFormatKey), &value), "index format"));
  KDN_ASSIGN_OR_RETURN(const std::string_view format, OpenBytes(Family::kMeta, kFormatKey, value));
  if (format != std::to_string(kIndexFormat)) {
    return FailedPrecondition(db_->GetName(), ": index of format ", format, ", this version reads up to ", kIndexFormat,
                              ": start the version that wrote it, or move the folder away to have it rebuilt");
  }
  return absl::OkStatus();
}

absl::Status IndexDb::Flush() {
  rocksdb::FlushOptions flush;
  flush.wait = true;
  return FromRocks(db_->Flush(flush, {handles_.begin(), handles_.end()}), "flushing the index");
}

absl::Status IndexDb::Verify() { return FromRocks(db_->VerifyChecksum(), "verifying the index"); }

uint64_t IndexDb::DiskBytes() {
  uint64_t total = 0;
  for (rocksdb::ColumnFamilyHandle* handle : handles_) {
    uint64_t bytes = 0;
    if (db_->GetIntProperty(handle, rocksdb::DB::Properties::kTotalSstFilesSize, &bytes)) total += bytes;
  }
  rocksdb::VectorLogPtr logs;
  if (db_->GetSortedWalFiles(logs).ok()) {
    for (const auto& log : logs) total += log->SizeFileBytes();
  }
  return total;
}

absl::StatusOr<uint64_t> IndexDb::CountRows(Family which) {
  rocksdb::ReadOptions read;
  read.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> rows(db_->NewIterator(read, family(which)));
  uint64_t count = 0;
  for (rows->SeekToFirst(); rows->Valid(); rows->Next()) ++count;
  KDN_RETURN_IF_ERROR(FromRocks(rows->status(), "counting rows"));
  return count;
}

absl::StatusOr<uint64_t> IndexDb::TenantBound() {
  uint64_t bound = 0;
  for (const Family which : {Family::kChunks, Family::kTexts, Family::kModels, Family::kTenants}) {
    const std::unique_ptr<rocksdb::Iterator> rows(db_->NewIterator(rocksdb::ReadOptions(), family(which)));
    rows->SeekToLast();
    if (rows->Valid()) bound = std::max<uint64_t>(bound, uint64_t{KeyTenant(ToView(rows->key()))} + 1);
    KDN_RETURN_IF_ERROR(FromRocks(rows->status(), "reading tenant numbers"));
  }
  return bound;
}

}  // namespace kdn
