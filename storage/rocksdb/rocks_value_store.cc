#include <algorithm>
#include <array>
#include <utility>

#include "absl/time/time.h"
#include "kernels/base/status.h"
#include "rocksdb/write_batch.h"
#include "storage/rocksdb/durable_file.h"
#include "storage/rocksdb/rocks_status.h"
#include "storage/rocksdb/rocks_value_store_impl.h"

namespace kdn {
namespace {

constexpr size_t kMaxMetadataBytes = 64 * 1024;
// Keys, checksums, and RocksDB's own headers of a record.
constexpr uint64_t kOverheadBytes = 96;

}  // namespace

uint64_t RocksValueStore::RecordBytes(uint64_t metadata_bytes, uint64_t payload_bytes) {
  return metadata_bytes + payload_bytes + kOverheadBytes;
}

RocksValueStore::RocksValueStore(const RocksValueStoreOptions& options, Parts parts)
    : options_(options),
      env_(std::move(parts.env)),
      db_(std::move(parts.db)),
      gate_(options.path),
      writer_({options.path, env_, options.clock, options.reserve_bytes}),
      lock_(parts.lock),
      groups_(std::move(parts.groups)),
      next_group_(parts.next_group) {
  if (options_.sync == SyncMode::kBatch) syncer_ = std::thread([this] { RunSyncer(); });
}

RocksValueStore::~RocksValueStore() { Close().IgnoreError(); }

absl::Status RocksValueStore::Close() {
  absl::MutexLock close_lock(&close_mutex_);
  gate_.Shut();
  {
    absl::MutexLock lock(&syncer_mutex_);
    stopping_ = true;
  }
  if (syncer_.joinable()) syncer_.join();
  absl::Status flushed;
  if (writer_.broken()) {
    flushed = Unavailable(options_.path, ": closed while its disk fails");
  } else if (db_ != nullptr) {
    flushed = db_->Flush(ValueDb::FlushMode::kWait);
  }
  db_.reset();
  if (lock_ != nullptr) env_->UnlockFile(std::exchange(lock_, nullptr)).PermitUncheckedError();
  return flushed;
}

void RocksValueStore::RunSyncer() {
  const auto stopping = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(syncer_mutex_) { return stopping_; };
  absl::MutexLock lock(&syncer_mutex_);
  while (!syncer_mutex_.AwaitWithTimeout(absl::Condition(&stopping), absl::Milliseconds(options_.sync_interval_ms))) {
    if (!std::exchange(unsynced_, false)) continue;
    syncer_mutex_.Unlock();
    const absl::Status flushed = Flush();
    syncer_mutex_.Lock();
    if (!flushed.ok()) unsynced_ = true;
  }
}

absl::Status RocksValueStore::Flush() {
  KDN_ASSIGN_OR_RETURN(const UseGate::Use use, Enter());
  const absl::Status flushed = writer_.Sync(db_->db(), db_->failures(), db_->control());
  // Without space nothing was written, so nothing the kernel holds is in doubt: the next flush makes up for it.
  if (flushed.ok() || absl::IsResourceExhausted(flushed)) return flushed;
  absl::MutexLock lock(&syncer_mutex_);
  ++flush_failures_;
  last_failure_ = flushed;
  return flushed;
}

absl::Status RocksValueStore::Sync(uint64_t failures_before) {
  ReopenIfDue();
  KDN_RETURN_IF_ERROR(Flush());
  absl::MutexLock lock(&syncer_mutex_);
  if (flush_failures_ <= failures_before) return absl::OkStatus();
  return Annotate(last_failure_, StrCat(options_.path, ": a flush failed, values from before may be lost"));
}

uint64_t RocksValueStore::flush_failures() const {
  absl::MutexLock lock(&syncer_mutex_);
  return flush_failures_;
}

absl::StatusOr<UseGate::Use> RocksValueStore::Enter() const {
  KDN_ASSIGN_OR_RETURN(UseGate::Use use, gate_.Enter());
  if (db_ == nullptr) {
    return Unavailable(options_.path, ": the values could not be opened again after the disk failed");
  }
  return use;
}

void RocksValueStore::ReopenIfDue() {
  if (!writer_.ShouldReopen() || !gate_.TryPause(kReopenPatienceMs)) return;
  db_.reset();
  const ValueDb::Options options{options_.path, env_};
  if (auto opened = ValueDb::Open(options); opened.ok()) {
    db_ = *std::move(opened);
    writer_.Reopened();
  } else if (auto readable = ValueDb::OpenReadOnly(options); readable.ok()) {
    db_ = *std::move(readable);
  }
  gate_.Unpause();
}

absl::Status RocksValueStore::BeginGroup() {
  std::array<uint8_t, 8> number;
  StoreLe<uint64_t>(next_group_ + 1, number.data());
  KDN_RETURN_IF_ERROR(ReplaceDurableFile(*env_, NextGroupPath(options_.path), AsStringView(number)));
  active_ = next_group_++;
  groups_.try_emplace(active_);
  return absl::OkStatus();
}

absl::StatusOr<RocksValueStore::Slot> RocksValueStore::Reserve(uint64_t record_bytes) {
  bool rolled = false;
  Slot slot;
  {
    absl::MutexLock lock(&mutex_);
    if (active_ != 0) {
      Group& active = groups_[active_];
      if (active.disk_bytes != 0 && active.disk_bytes + record_bytes > options_.group_bytes) {
        active.full = true;
        active_ = 0;
        rolled = true;
      }
    }
    if (active_ == 0) KDN_RETURN_IF_ERROR(BeginGroup());
    Group& group = groups_[active_];
    slot = {active_, group.next_sequence++};
    group.disk_bytes += record_bytes;
    ++group.in_flight;
  }
  // Blob files then end where groups do; when it fails, they do not.
  if (rolled) db_->Flush(ValueDb::FlushMode::kStart).IgnoreError();
  return slot;
}

void RocksValueStore::Settle(const Slot& slot, uint64_t payload_bytes) {
  absl::MutexLock lock(&mutex_);
  Group& group = groups_[slot.group];
  --group.in_flight;
  group.live_bytes += payload_bytes;
}

void RocksValueStore::GiveUp(const Slot& slot, uint64_t record_bytes) {
  absl::MutexLock lock(&mutex_);
  Group& group = groups_[slot.group];
  --group.in_flight;
  group.disk_bytes -= record_bytes;
}

absl::StatusOr<ValueLocation> RocksValueStore::Put(ByteSpan metadata, ByteSpan payload) {
  ReopenIfDue();
  if (metadata.size() > kMaxMetadataBytes || payload.size() > kMaxRocksPayloadBytes) {
    return InvalidArgument("value with ", metadata.size(), " bytes of metadata (at most ", kMaxMetadataBytes, ") and ",
                           payload.size(), " of payload (at most ", kMaxRocksPayloadBytes, ")");
  }
  KDN_ASSIGN_OR_RETURN(const UseGate::Use use, Enter());
  const uint64_t record_bytes = RecordBytes(metadata.size(), payload.size());
  KDN_ASSIGN_OR_RETURN(const Slot slot, Reserve(record_bytes));
  const std::string key = ValueKey(slot.group, slot.sequence);
  std::array<uint8_t, kPayloadTrailerBytes> trailer;
  StoreLe<uint32_t>(PayloadChecksum(key, payload), trailer.data());
  rocksdb::WriteBatch batch;
  rocksdb::Status added = batch.Put(db_->records(), key, SealRecord(key, payload.size(), metadata));
  const rocksdb::Slice key_piece(key);
  const std::array<rocksdb::Slice, 2> pieces = {ToSlice(payload), ToSlice(ByteSpan(trailer))};
  if (added.ok()) {
    added = batch.Put(db_->payloads(), rocksdb::SliceParts(&key_piece, 1),
                      rocksdb::SliceParts(pieces.data(), pieces.size()));
  }
  rocksdb::WriteOptions write;
  write.sync = options_.sync == SyncMode::kAlways;
  const absl::Status written = added.ok() ? writer_.Write(db_->db(), db_->failures(), write, batch, WriteKind::kGrowing)
                                          : FromRocks(added, options_.path);
  if (!written.ok()) {
    GiveUp(slot, record_bytes);
    return written;
  }
  Settle(slot, payload.size());
  if (options_.sync == SyncMode::kBatch) {
    absl::MutexLock lock(&syncer_mutex_);
    unsynced_ = true;
  }
  return ValueLocation{slot.group, slot.sequence, payload.size()};
}

absl::Status RocksValueStore::Missing(const ValueLocation& location) const {
  absl::MutexLock lock(&mutex_);
  const auto group = groups_.find(location.group);
  if (group == groups_.end()) return NotFound("value group ", location.group, " is gone");
  return DataLoss("value ", location.offset, " of group ", location.group, " is missing");
}

absl::StatusOr<SharedBytes> RocksValueStore::Get(const ValueLocation& location, ByteRange range) {
  KDN_ASSIGN_OR_RETURN(const UseGate::Use use, Enter());
  if (range.offset > location.length || range.length > location.length - range.offset) {
    return OutOfRange("range ", range.offset, "+", range.length, " of a value of ", location.length, " bytes");
  }
  {
    absl::MutexLock lock(&mutex_);
    if (!groups_.contains(location.group)) return NotFound("value group ", location.group, " is gone");
  }
  const std::string key = ValueKey(location.group, location.offset);
  auto value = std::make_shared<rocksdb::PinnableSlice>();
  const rocksdb::Status status = db_->db().Get(rocksdb::ReadOptions(), db_->payloads(), key, value.get());
  if (status.IsNotFound()) return Missing(location);
  if (!status.ok()) {
    const absl::Status missing = Missing(location);  // dropped meanwhile?
    return absl::IsNotFound(missing) ? missing : FromRocksOpen(status, options_.path);
  }
  const ByteSpan bytes = AsBytes(ToView(*value));
  if (bytes.size() < kPayloadTrailerBytes || bytes.size() - kPayloadTrailerBytes != location.length) {
    return DataLoss("value ", location.offset, " of group ", location.group, " has ", bytes.size(),
                    " bytes with its checksum, not ", location.length, " and ", kPayloadTrailerBytes);
  }
  const ByteSpan payload = bytes.first(location.length);
  if (LoadLe<uint32_t>(bytes.data() + payload.size()) != PayloadChecksum(key, payload)) {
    return DataLoss("value ", location.offset, " of group ", location.group, " fails its checksum");
  }
  return SharedBytes(value, payload.subspan(range.offset, range.length));
}

void RocksValueStore::MarkDead(const ValueLocation& location) {
  absl::MutexLock lock(&mutex_);
  const auto group = groups_.find(location.group);
  if (group == groups_.end()) return;
  group->second.live_bytes -= std::min(group->second.live_bytes, location.length);
}

std::vector<ValueGroup> RocksValueStore::Groups() const {
  absl::MutexLock lock(&mutex_);
  std::vector<ValueGroup> groups;
  for (const auto& [id, group] : groups_) {
    groups.push_back({id, group.disk_bytes, group.live_bytes, group.full && group.in_flight == 0});
  }
  return groups;
}

uint64_t RocksValueStore::DiskBytes() const {
  absl::MutexLock lock(&mutex_);
  uint64_t total = 0;
  for (const auto& [id, group] : groups_) total += group.disk_bytes;
  return total;
}

absl::Status RocksValueStore::SealActive() {
  KDN_ASSIGN_OR_RETURN(const UseGate::Use use, Enter());
  {
    absl::MutexLock lock(&mutex_);
    if (active_ == 0) return absl::OkStatus();
    groups_[active_].full = true;
    active_ = 0;
  }
  return db_->Flush(ValueDb::FlushMode::kWait);
}

absl::Status RocksValueStore::DropGroup(uint64_t id) {
  ReopenIfDue();
  KDN_ASSIGN_OR_RETURN(const UseGate::Use use, Enter());
  {
    absl::MutexLock lock(&mutex_);
    const auto group = groups_.find(id);
    if (group == groups_.end()) return NotFound("value group ", id, " is gone");
    if (!group->second.full || group->second.in_flight != 0) {
      return FailedPrecondition("value group ", id, " is still written to");
    }
    groups_.erase(group);
  }
  return db_->EraseGroup(id, writer_);
}

void RocksValueStore::VisitRecord(const std::string& key, std::string_view row, const ScanOptions& options,
                                  const std::function<void(const ScannedValue&)>& visit) {
  ScannedValue value;
  const ParsedValueKey parsed = *ParseValueKey(key);
  value.location = {parsed.group, parsed.sequence, 0};
  const auto record = OpenRecord(key, row);
  value.status = record.status();
  if (record.ok()) {
    value.location.length = record->payload_bytes;
    value.metadata = record->metadata;
    if (options.verify_payload) value.status = Get(value.location, {0, value.location.length}).status();
  }
  visit(value);
}

absl::Status RocksValueStore::Scan(uint64_t id, const ScanOptions& options,
                                   const std::function<void(const ScannedValue&)>& visit) {
  KDN_ASSIGN_OR_RETURN(const UseGate::Use use, Enter());
  {
    absl::MutexLock lock(&mutex_);
    if (!groups_.contains(id)) return NotFound("value group ", id, " is gone");
  }
  const std::string end = ValueKey(id + 1, 0);
  const rocksdb::Slice upper(end);
  rocksdb::ReadOptions read;
  read.fill_cache = false;
  read.iterate_upper_bound = &upper;
  const std::unique_ptr<rocksdb::Iterator> rows(db_->db().NewIterator(read, db_->records()));
  uint64_t next = 0;
  for (rows->Seek(ValueKey(id, 0)); rows->Valid(); rows->Next()) {
    const std::string key = rows->key().ToString();
    const auto parsed = ParseValueKey(key);
    if (!parsed) continue;
    VisitRecord(key, ToView(rows->value()), options, visit);
    next = parsed->sequence + 1;
  }
  const absl::Status status = FromRocksOpen(rows->status(), options_.path);
  return absl::IsDataLoss(status) ? ScanDamaged(id, next, options, visit) : status;
}

absl::Status RocksValueStore::ScanDamaged(uint64_t id, uint64_t from_sequence, const ScanOptions& options,
                                          const std::function<void(const ScannedValue&)>& visit) {
  uint64_t end = 0;
  {
    absl::MutexLock lock(&mutex_);
    const auto group = groups_.find(id);
    if (group == groups_.end()) return NotFound("value group ", id, " is gone");
    end = group->second.next_sequence;
  }
  for (uint64_t sequence = from_sequence; sequence < end; ++sequence) {
    const std::string key = ValueKey(id, sequence);
    rocksdb::PinnableSlice row;
    const rocksdb::Status status = db_->db().Get(rocksdb::ReadOptions(), db_->records(), key, &row);
    if (status.IsNotFound()) continue;
    const absl::Status read = FromRocksOpen(status, options_.path);
    if (read.ok()) {
      VisitRecord(key, ToView(row), options, visit);
    } else if (absl::IsDataLoss(read)) {
      visit({.location = {id, sequence, 0}, .metadata = {}, .status = read});
    } else {
      return read;
    }
  }
  return absl::OkStatus();
}

}  // namespace kdn
