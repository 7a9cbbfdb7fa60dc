#include "storage/rocksdb/value_db.h"

#include <algorithm>
#include <vector>

#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"
#include "rocksdb/cache.h"
#include "rocksdb/file_checksum.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/options.h"
#include "rocksdb/table.h"
#include "rocksdb/write_batch.h"
#include "storage/rocksdb/rocks_status.h"

namespace kdn {
namespace {

constexpr std::string_view kRecords = "records";
constexpr std::string_view kPayloads = "payloads";
constexpr std::string_view kFormatKey = "format";

constexpr size_t kWriteBufferBytes = 64u << 20;
constexpr uint64_t kMaxLogBytes = 256u << 20;
// Smaller payloads stay in table files, where they cost no read of their own.
constexpr uint64_t kMinBlobBytes = 4096;
constexpr uint64_t kBlobFileBytes = 256u << 20;
constexpr size_t kBlockCacheBytes = 8u << 20;
constexpr size_t kKeyBytes = 16;
constexpr size_t kNumFamilies = 3;

rocksdb::DBOptions DatabaseOptions(const ValueDb::Options& options) {
  rocksdb::DBOptions db;
  db.env = options.env.get();
  db.paranoid_checks = true;
  db.file_checksum_gen_factory = rocksdb::GetFileChecksumGenCrc32cFactory();
  db.atomic_flush = true;  // a record without its payload must not survive a hole in the logs
  db.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  db.track_and_verify_wals_in_manifest = true;
  db.max_total_wal_size = kMaxLogBytes;
  db.max_background_jobs = 2;
  db.keep_log_file_num = 3;
  db.max_log_file_size = 1u << 20;
  db.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  db.stats_dump_period_sec = 0;
  db.stats_persist_period_sec = 0;
  return db;
}

rocksdb::ColumnFamilyOptions FamilyOptions() {
  rocksdb::BlockBasedTableOptions table;
  table.checksum = rocksdb::kXXH3;
  table.block_cache = rocksdb::NewLRUCache(kBlockCacheBytes);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  rocksdb::ColumnFamilyOptions family;
  family.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  family.write_buffer_size = kWriteBufferBytes;
  family.compression = rocksdb::kNoCompression;
  return family;
}

// Blob garbage collection is off: it rewrites live data, and groups die whole and in order of age.
rocksdb::ColumnFamilyOptions PayloadOptions() {
  rocksdb::ColumnFamilyOptions family = FamilyOptions();
  family.enable_blob_files = true;
  family.min_blob_size = kMinBlobBytes;
  family.blob_file_size = kBlobFileBytes;
  family.enable_blob_garbage_collection = false;
  family.blob_compression_type = rocksdb::kNoCompression;
  return family;
}

void StoreBigEndian(uint64_t value, std::string& out) {
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}

uint64_t LoadBigEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (const char byte : bytes) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

uint32_t RecordChecksum(std::string_view key, std::string_view body) {
  return Crc32cExtend(Crc32c(AsBytes(key)), AsBytes(body));
}

absl::Status CheckFamilies(const rocksdb::DBOptions& db_options, const std::string& directory) {
  std::vector<std::string> present;
  KDN_RETURN_IF_ERROR(FromRocksOpen(rocksdb::DB::ListColumnFamilies(db_options, directory, &present), directory));
  for (const std::string& name : present) {
    if (name != kRecords && name != kPayloads && name != rocksdb::kDefaultColumnFamilyName) {
      return FailedPrecondition(directory, ": column family '", name, "' is unknown to value format ", kValueDbFormat,
                                ": start the version that wrote it, or move the folder away");
    }
  }
  if (present.size() != kNumFamilies) return DataLoss(directory, ": a column family is missing");
  return absl::OkStatus();
}

void AppendChecksum(uint32_t crc, std::string& out) {
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(crc >> shift));
}

}  // namespace

std::string ValueKey(uint64_t group, uint64_t sequence) {
  std::string key;
  key.reserve(kKeyBytes);
  StoreBigEndian(group, key);
  StoreBigEndian(sequence, key);
  return key;
}

std::optional<ParsedValueKey> ParseValueKey(std::string_view key) {
  if (key.size() != kKeyBytes) return std::nullopt;
  return ParsedValueKey{LoadBigEndian(key.substr(0, 8)), LoadBigEndian(key.substr(8))};
}

std::string SealRecord(std::string_view key, uint64_t payload_bytes, ByteSpan metadata) {
  std::string row(8, '\0');
  StoreLe<uint64_t>(payload_bytes, reinterpret_cast<uint8_t*>(row.data()));
  row.append(AsStringView(metadata));
  AppendChecksum(RecordChecksum(key, row), row);
  return row;
}

absl::StatusOr<OpenedRecord> OpenRecord(std::string_view key, std::string_view row) {
  if (row.size() < 12) return DataLoss("value record of ", row.size(), " bytes");
  const std::string_view body = row.substr(0, row.size() - 4);
  if (LoadLe<uint32_t>(AsBytes(row).data() + body.size()) != RecordChecksum(key, body)) {
    return DataLoss("value record of ", row.size(), " bytes fails its checksum");
  }
  return OpenedRecord{LoadLe<uint64_t>(AsBytes(body).data()), AsBytes(body.substr(8))};
}

uint32_t PayloadChecksum(std::string_view key, ByteSpan payload) { return Crc32cExtend(Crc32c(AsBytes(key)), payload); }

absl::Status ValueDb::Start(const Options& options, Mode mode) {
  env_ = options.env;
  rocksdb::DBOptions db_options = DatabaseOptions(options);
  db_options.listeners = {failures_};
  if (mode == Mode::kCreate) {
    db_options.create_if_missing = true;
    db_options.create_missing_column_families = true;
    db_options.error_if_exists = true;
  } else {
    KDN_RETURN_IF_ERROR(CheckFamilies(db_options, options.directory));
  }
  const std::vector<rocksdb::ColumnFamilyDescriptor> families = {
      {rocksdb::kDefaultColumnFamilyName, FamilyOptions()},
      {std::string(kRecords), FamilyOptions()},
      {std::string(kPayloads), PayloadOptions()},
  };
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      mode == Mode::kReadOnly ? rocksdb::DB::OpenForReadOnly(db_options, options.directory, families, &handles, &db)
                              : rocksdb::DB::Open(db_options, options.directory, families, &handles, &db);
  KDN_RETURN_IF_ERROR(FromRocksOpen(status, options.directory));
  db_.reset(db);
  control_ = handles[0];
  records_ = handles[1];
  payloads_ = handles[2];
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ValueDb>> ValueDb::Create(const Options& options) {
  std::unique_ptr<ValueDb> values(new ValueDb);
  KDN_RETURN_IF_ERROR(values->Start(options, Mode::kCreate));
  KDN_RETURN_IF_ERROR(FromRocks(
      values->db_->Put(rocksdb::WriteOptions(), values->control_, ToSlice(kFormatKey), std::to_string(kValueDbFormat)),
      options.directory));
  KDN_RETURN_IF_ERROR(values->Flush(FlushMode::kWait));
  return values;
}

absl::StatusOr<std::unique_ptr<ValueDb>> ValueDb::Open(const Options& options) {
  std::unique_ptr<ValueDb> values(new ValueDb);
  KDN_RETURN_IF_ERROR(values->Start(options, Mode::kReadWrite));
  std::string format;
  KDN_RETURN_IF_ERROR(FromRocksOpen(
      values->db_->Get(rocksdb::ReadOptions(), values->control_, ToSlice(kFormatKey), &format), options.directory));
  if (format != std::to_string(kValueDbFormat)) {
    return FailedPrecondition(options.directory, ": values of format ", format, ", this version reads up to ",
                              kValueDbFormat, ": start the version that wrote them, or move the folder away");
  }
  return values;
}

absl::StatusOr<std::unique_ptr<ValueDb>> ValueDb::OpenReadOnly(const Options& options) {
  std::unique_ptr<ValueDb> values(new ValueDb);
  KDN_RETURN_IF_ERROR(values->Start(options, Mode::kReadOnly));
  return values;
}

ValueDb::~ValueDb() {
  if (db_ == nullptr) return;
  for (rocksdb::ColumnFamilyHandle* handle : {control_, records_, payloads_}) {
    db_->DestroyColumnFamilyHandle(handle).PermitUncheckedError();
  }
  db_->Close().PermitUncheckedError();
}

absl::Status ValueDb::Flush(FlushMode mode) {
  rocksdb::FlushOptions flush;
  flush.wait = mode == FlushMode::kWait;
  flush.allow_write_stall = mode == FlushMode::kStart;
  return FromRocks(db_->Flush(flush, {control_, records_, payloads_}), db_->GetName());
}

absl::Status ValueDb::EraseGroup(uint64_t group, ResumingWriter& writer) {
  const std::string begin = ValueKey(group, 0);
  const std::string end = ValueKey(group + 1, 0);
  rocksdb::WriteBatch batch;
  rocksdb::Status status = batch.DeleteRange(records_, begin, end);
  if (status.ok()) status = batch.DeleteRange(payloads_, begin, end);
  KDN_RETURN_IF_ERROR(FromRocks(status, db_->GetName()));
  KDN_RETURN_IF_ERROR(writer.Write(*db_, *failures_, rocksdb::WriteOptions(), batch, WriteKind::kShrinking));
  const rocksdb::Slice first(begin);
  const rocksdb::Slice last(end);
  rocksdb::CompactRangeOptions options;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  for (rocksdb::ColumnFamilyHandle* family : {records_, payloads_}) {
    status = db_->CompactRange(options, family, &first, &last);
    if (!status.ok()) return FromRocks(status, db_->GetName());
  }
  return absl::OkStatus();
}

}  // namespace kdn
