#include "storage/rocksdb/value_db.h"

#include <algorithm>
#include <vector>

#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"
#include "rocksdb/cache.h"
#include "rocksdb/options.h"
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
constexpr std::string_view kAdvice = "start the version that wrote it, or move the folder away";

rocksdb::ColumnFamilyOptions FamilyOptions() {
  return BaseFamilyOptions(rocksdb::NewLRUCache(kBlockCacheBytes), kWriteBufferBytes);
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

absl::StatusOr<std::unique_ptr<ValueDb>> ValueDb::OpenIn(const Options& options, OpenMode mode) {
  // In the order of control(), records(), payloads().
  const Database::Layout layout{.options = BaseOptions(kMaxLogBytes),
                                .env = options.env,
                                .directory = options.directory,
                                .format = StrCat("value format ", kValueDbFormat),
                                .advice = std::string(kAdvice),
                                .families = {{rocksdb::kDefaultColumnFamilyName, FamilyOptions()},
                                             {std::string(kRecords), FamilyOptions()},
                                             {std::string(kPayloads), PayloadOptions()}}};
  KDN_ASSIGN_OR_RETURN(std::unique_ptr<Database> database, Database::Open(layout, mode));
  return std::unique_ptr<ValueDb>(new ValueDb(std::move(database)));
}

absl::StatusOr<std::unique_ptr<ValueDb>> ValueDb::Create(const Options& options) {
  KDN_ASSIGN_OR_RETURN(std::unique_ptr<ValueDb> values, OpenIn(options, OpenMode::kCreate));
  KDN_RETURN_IF_ERROR(FromRocks(
      values->db().Put(rocksdb::WriteOptions(), values->control(), ToSlice(kFormatKey), std::to_string(kValueDbFormat)),
      options.directory));
  KDN_RETURN_IF_ERROR(values->Flush(FlushMode::kWait));
  return values;
}

absl::StatusOr<std::unique_ptr<ValueDb>> ValueDb::Open(const Options& options) {
  KDN_ASSIGN_OR_RETURN(std::unique_ptr<ValueDb> values, OpenIn(options, OpenMode::kReadWrite));
  std::string format;
  KDN_RETURN_IF_ERROR(FromRocksOpen(
      values->db().Get(rocksdb::ReadOptions(), values->control(), ToSlice(kFormatKey), &format), options.directory));
  if (format != std::to_string(kValueDbFormat)) {
    return FailedPrecondition(options.directory, ": values of format ", format, ", this version reads up to ",
                              kValueDbFormat, ": ", kAdvice);
  }
  return values;
}

absl::StatusOr<std::unique_ptr<ValueDb>> ValueDb::OpenReadOnly(const Options& options) {
  return OpenIn(options, OpenMode::kReadOnly);
}

absl::Status ValueDb::Flush(FlushMode mode) {
  rocksdb::FlushOptions flush;
  flush.wait = mode == FlushMode::kWait;
  flush.allow_write_stall = mode == FlushMode::kStart;
  return FromRocks(db().Flush(flush, database_->families()), db().GetName());
}

absl::Status ValueDb::EraseGroup(uint64_t group, ResumingWriter& writer) {
  const std::string begin = ValueKey(group, 0);
  const std::string end = ValueKey(group + 1, 0);
  rocksdb::WriteBatch batch;
  rocksdb::Status status = batch.DeleteRange(records(), begin, end);
  if (status.ok()) status = batch.DeleteRange(payloads(), begin, end);
  KDN_RETURN_IF_ERROR(FromRocks(status, db().GetName()));
  KDN_RETURN_IF_ERROR(writer.Write(db(), failures(), rocksdb::WriteOptions(), batch, WriteKind::kShrinking));
  const rocksdb::Slice first(begin);
  const rocksdb::Slice last(end);
  rocksdb::CompactRangeOptions options;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  for (rocksdb::ColumnFamilyHandle* family : {records(), payloads()}) {
    status = db().CompactRange(options, family, &first, &last);
    if (!status.ok()) return FromRocks(status, db().GetName());
  }
  return absl::OkStatus();
}

}  // namespace kdn
