#include "storage/rocksdb/index_db.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "kernels/base/bytes.h"
#include "kernels/base/status.h"
#include "rocksdb/cache.h"
#include "rocksdb/options.h"
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
constexpr std::string_view kAdvice = "start the version that wrote it, or move the folder away to have it rebuilt";

rocksdb::DBOptions DatabaseOptions() {
  rocksdb::DBOptions options = BaseOptions(kMaxLogBytes);
  options.db_write_buffer_size = kAllWriteBuffersBytes;
  options.max_manifest_file_size = kMaxManifestBytes;
  options.avoid_unnecessary_blocking_io = true;
  return options;
}

}  // namespace

absl::StatusOr<std::unique_ptr<IndexDb>> IndexDb::OpenIn(const Options& options, OpenMode mode) {
  rocksdb::ColumnFamilyOptions family =
      BaseFamilyOptions(rocksdb::NewLRUCache(options.block_cache_bytes), kWriteBufferBytes);
  family.paranoid_file_checks = true;
  Database::Layout layout{.options = DatabaseOptions(),
                          .env = options.env,
                          .directory = options.directory,
                          .format = StrCat("index format ", kIndexFormat),
                          .advice = std::string(kAdvice),
                          .families = {}};
  for (const std::string_view name : kFamilyNames) layout.families.emplace_back(std::string(name), family);
  layout.families.emplace_back(rocksdb::kDefaultColumnFamilyName, family);
  KDN_ASSIGN_OR_RETURN(std::unique_ptr<Database> database, Database::Open(layout, mode));
  return std::unique_ptr<IndexDb>(new IndexDb(std::move(database)));
}

absl::StatusOr<std::unique_ptr<IndexDb>> IndexDb::Create(const Options& options) {
  KDN_ASSIGN_OR_RETURN(std::unique_ptr<IndexDb> index, OpenIn(options, OpenMode::kCreate));
  const std::string format = SealBytes(Family::kMeta, kFormatKey, std::to_string(kIndexFormat));
  KDN_RETURN_IF_ERROR(
      FromRocks(index->db().Put(rocksdb::WriteOptions(), index->family(Family::kMeta), ToSlice(kFormatKey), format),
                options.directory));
  KDN_RETURN_IF_ERROR(index->Flush());
  return index;
}

absl::StatusOr<std::unique_ptr<IndexDb>> IndexDb::Open(const Options& options) {
  KDN_ASSIGN_OR_RETURN(std::unique_ptr<IndexDb> index, OpenIn(options, OpenMode::kReadWrite));
  KDN_RETURN_IF_ERROR(index->CheckFormat());
  return index;
}

absl::StatusOr<std::unique_ptr<IndexDb>> IndexDb::OpenReadOnly(const Options& options) {
  return OpenIn(options, OpenMode::kReadOnly);
}

absl::Status IndexDb::CheckFormat() {
  std::string value;
  KDN_RETURN_IF_ERROR(FromRocksOpen(
      db().Get(rocksdb::ReadOptions(), family(Family::kMeta), ToSlice(kFormatKey), &value), "index format"));
  KDN_ASSIGN_OR_RETURN(const std::string_view format, OpenBytes(Family::kMeta, kFormatKey, value));
  if (format != std::to_string(kIndexFormat)) {
    return FailedPrecondition(db().GetName(), ": index of format ", format, ", this version reads up to ", kIndexFormat,
                              ": ", kAdvice);
  }
  return absl::OkStatus();
}

absl::Status IndexDb::Flush() {
  rocksdb::FlushOptions flush;
  flush.wait = true;
  return FromRocks(db().Flush(flush, database_->families()), "flushing the index");
}

absl::Status IndexDb::Verify() { return FromRocks(db().VerifyChecksum(), "verifying the index"); }

uint64_t IndexDb::DiskBytes() {
  uint64_t total = 0;
  for (rocksdb::ColumnFamilyHandle* handle : database_->families()) {
    uint64_t bytes = 0;
    if (db().GetIntProperty(handle, rocksdb::DB::Properties::kTotalSstFilesSize, &bytes)) total += bytes;
  }
  rocksdb::VectorLogPtr logs;
  if (db().GetSortedWalFiles(logs).ok()) {
    for (const auto& log : logs) total += log->SizeFileBytes();
  }
  return total;
}

absl::StatusOr<uint64_t> IndexDb::CountRows(Family which) {
  rocksdb::ReadOptions read;
  read.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> rows(db().NewIterator(read, family(which)));
  uint64_t count = 0;
  for (rows->SeekToFirst(); rows->Valid(); rows->Next()) ++count;
  KDN_RETURN_IF_ERROR(FromRocks(rows->status(), "counting rows"));
  return count;
}

absl::StatusOr<uint64_t> IndexDb::TenantBound() {
  uint64_t bound = 0;
  for (const Family which : {Family::kChunks, Family::kTexts, Family::kModels, Family::kTenants}) {
    const std::unique_ptr<rocksdb::Iterator> rows(db().NewIterator(rocksdb::ReadOptions(), family(which)));
    rows->SeekToLast();
    if (rows->Valid()) bound = std::max<uint64_t>(bound, uint64_t{KeyTenant(ToView(rows->key()))} + 1);
    KDN_RETURN_IF_ERROR(FromRocks(rows->status(), "reading tenant numbers"));
  }
  return bound;
}

}  // namespace kdn
