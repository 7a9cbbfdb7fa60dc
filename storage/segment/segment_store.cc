#include "storage/segment/segment_store.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/time/time.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"
#include "storage/segment/format.h"
#include "storage/segment/recovery.h"

namespace kdn {
namespace {

constexpr uint64_t kMinSegmentBytes = 64 * 1024;
constexpr size_t kStageBytes = 4 << 20;
constexpr size_t kMaxIdleStages = 8;
constexpr size_t kMaxIdleReadBytes = 128 << 20;
constexpr size_t kMaxOpenSegments = 512;
// A Put moves on to a new segment when its own fills up under it; more often than this something is wrong.
constexpr int kMaxSegmentsPerPut = 16;

uint64_t DeviceRandom() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

SegmentStoreOptions Completed(SegmentStoreOptions options) {
  if (!options.random) options.random = DeviceRandom;
  return options;
}

}  // namespace

SegmentStore::SegmentStore(const SegmentStoreOptions& options, FileSystem& file_system, const Clock& clock)
    : options_(Completed(options)),
      file_system_(file_system),
      clock_(clock),
      staging_(kStageBytes, kMaxIdleStages),
      read_buffers_(kMaxIdleReadBytes) {}

SegmentStore::~SegmentStore() { Close().IgnoreError(); }

absl::StatusOr<std::unique_ptr<SegmentStore>> SegmentStore::Open(const SegmentStoreOptions& options,
                                                                 FileSystem& file_system, const Clock& clock) {
  if (options.segment_bytes < kMinSegmentBytes || options.allocation_bytes == 0 || options.sync_interval_ms <= 0) {
    return InvalidArgument("segment store: segment_bytes ", options.segment_bytes, " (at least ", kMinSegmentBytes,
                           "), allocation_bytes ", options.allocation_bytes, ", sync_interval_ms ",
                           options.sync_interval_ms);
  }
  std::unique_ptr<SegmentStore> store(new SegmentStore(options, file_system, clock));
  KDN_RETURN_IF_ERROR(file_system.CreateDirs(options.path));
  KDN_ASSIGN_OR_RETURN(store->lock_, file_system.Lock(options.path + "/LOCK"));
  KDN_RETURN_IF_ERROR(store->ProbeDirectIo());
  KDN_RETURN_IF_ERROR(store->Recover());
  if (options.sync == SyncMode::kBatch) store->flusher_ = std::thread([raw = store.get()] { raw->RunFlusher(); });
  return store;
}

absl::Status SegmentStore::ProbeDirectIo() {
  KDN_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                       file_system_.Open(options_.path + "/LOCK", OpenMode::kRead, options_.direct_io));
  direct_io_ = file->direct_io();
  if (options_.direct_io == DirectIo::kAuto && !direct_io_) {
    Log(LogLevel::kWarn, "file system refuses direct I/O, segments go through the page cache",
        {{"path", options_.path}});
  }
  return absl::OkStatus();
}

absl::Status SegmentStore::Recover() {
  KDN_ASSIGN_OR_RETURN(const std::vector<std::string> names, file_system_.ListDir(options_.path));
  std::vector<uint64_t> ids;
  for (const std::string& name : names) {
    if (const auto id = ParseSegmentFileName(name)) ids.push_back(*id);
  }
  std::sort(ids.begin(), ids.end());
  absl::MutexLock append_lock(&append_mu_);
  absl::MutexLock lock(&segments_mu_);
  for (const uint64_t id : ids) {
    KDN_ASSIGN_OR_RETURN(const RecoveredSegment recovered,
                         RecoverSegment(file_system_, PathOf(id), id, options_.direct_io));
    if (!recovered.empty) {
      segments_[id] = recovered.segment;
    } else if (id == ids.back()) {
      id_marker_ = PathOf(id);
    } else {
      KDN_RETURN_IF_ERROR(file_system_.Remove(PathOf(id)));
    }
    next_id_ = id + 1;
  }
  return absl::OkStatus();
}

std::string SegmentStore::PathOf(uint64_t id) const { return options_.path + "/" + SegmentFileName(id); }

absl::Status SegmentStore::CheckSpace(uint64_t bytes) const {
  KDN_ASSIGN_OR_RETURN(const uint64_t free_bytes, file_system_.FreeBytes(options_.path));
  if (free_bytes >= options_.reserve_bytes && free_bytes - options_.reserve_bytes >= bytes) return absl::OkStatus();
  return ResourceExhausted("disk of ", options_.path, " has ", free_bytes, " bytes free; ", bytes,
                           " are needed beside the reserve of ", options_.reserve_bytes);
}

absl::StatusOr<std::shared_ptr<File>> SegmentStore::CreateFile(const std::string& path,
                                                               const SegmentIdentity& identity) {
  KDN_ASSIGN_OR_RETURN(std::unique_ptr<File> file, file_system_.Open(path, OpenMode::kCreate, options_.direct_io));
  AlignedBuffer block(kSegmentBlockBytes);
  absl::Status status = block.size() > 0 ? absl::OkStatus() : ResourceExhausted("no memory for a segment header");
  if (status.ok()) {
    EncodeSegmentHeader(
        {.id = identity.id, .nonce = *identity.nonce, .created_wall_ms = static_cast<uint64_t>(clock_.WallMillis())},
        block.data());
    status = file->WriteAt(0, block.span());
  }
  // Whatever the sync mode: an id that an index row may name must not be lost and given out again.
  if (status.ok()) status = file->Sync();
  if (status.ok()) status = file_system_.SyncDir(options_.path);
  if (!status.ok()) {
    file_system_.Remove(path).IgnoreError();
    return Annotate(status, path);
  }
  return file;
}

absl::StatusOr<std::shared_ptr<SegmentAppender>> SegmentStore::CreateSegment() {
  KDN_RETURN_IF_ERROR(CheckSpace(kSegmentBlockBytes));
  const SegmentIdentity identity{.id = next_id_, .nonce = options_.random()};
  const std::string path = PathOf(identity.id);
  KDN_ASSIGN_OR_RETURN(const std::shared_ptr<File> file, CreateFile(path, identity));
  ++next_id_;
  RemoveIdMarker();
  auto segment = std::make_shared<Segment>(file_system_, path, identity, options_.direct_io);
  segment->SetFile(file);
  const SegmentAppender::Limits limits{.segment_bytes = options_.segment_bytes,
                                       .allocation_bytes = options_.allocation_bytes};
  auto appender =
      std::make_shared<SegmentAppender>(segment, file, limits, [this](uint64_t bytes) { return CheckSpace(bytes); });
  absl::MutexLock lock(&segments_mu_);
  segments_[identity.id] = segment;
  open_segments_.push_back(segment);
  return appender;
}

absl::StatusOr<std::shared_ptr<SegmentAppender>> SegmentStore::Active() {
  absl::MutexLock lock(&append_mu_);
  if (closed_) return Unavailable("segment store ", options_.path, " is closed");
  if (active_ == nullptr) {
    KDN_ASSIGN_OR_RETURN(active_, CreateSegment());
  }
  return active_;
}

void SegmentStore::Retire(const std::shared_ptr<SegmentAppender>& appender) {
  {
    absl::MutexLock lock(&append_mu_);
    if (active_ == appender) {
      active_ = nullptr;
      retiring_.push_back(appender);
    }
  }
  appender->Retire();
  absl::MutexLock lock(&append_mu_);
  SettleRetired();
}

absl::StatusOr<ValueLocation> SegmentStore::Put(ByteSpan metadata, ByteSpan payload) {
  return Append(metadata, {payload, std::nullopt});
}

absl::StatusOr<ValueLocation> SegmentStore::PutChecked(ByteSpan metadata, ByteSpan payload, uint32_t payload_crc) {
  return Append(metadata, {payload, payload_crc});
}

absl::StatusOr<ValueLocation> SegmentStore::Append(ByteSpan metadata, const SegmentAppender::Payload& payload) {
  if (metadata.size() > kMaxMetadataBytes || payload.bytes.size() > kMaxPayloadBytes) {
    return InvalidArgument("value of ", metadata.size(), " metadata bytes (at most ", kMaxMetadataBytes, ") and ",
                           payload.bytes.size(), " payload bytes (at most ", kMaxPayloadBytes, ")");
  }
  const uint64_t record_bytes = RecordBytes(metadata.size(), payload.bytes.size());
  for (int i = 0; i < kMaxSegmentsPerPut; ++i) {
    KDN_ASSIGN_OR_RETURN(const std::shared_ptr<SegmentAppender> appender, Active());
    KDN_ASSIGN_OR_RETURN(const auto reservation, appender->Reserve(record_bytes));
    if (!reservation.has_value()) {
      Retire(appender);
      continue;
    }
    KDN_ASSIGN_OR_RETURN(const ValueLocation location, appender->Write(*reservation, metadata, payload, staging_));
    if (options_.sync != SyncMode::kAlways) return location;
    const absl::Status synced = appender->Sync();
    if (synced.ok()) return location;
    // Not acknowledged, so nobody will ever refer to it.
    appender->segment()->MarkDead(location.length);
    return synced;
  }
  return Internal("segment store ", options_.path, ": no segment took a record of ", record_bytes, " bytes in ",
                  kMaxSegmentsPerPut, " attempts");
}

std::shared_ptr<Segment> SegmentStore::Find(uint64_t group) const {
  absl::MutexLock lock(&segments_mu_);
  const auto found = segments_.find(group);
  return found == segments_.end() ? nullptr : found->second;
}

absl::StatusOr<std::shared_ptr<Segment>> SegmentStore::FindOpen(uint64_t group) {
  absl::MutexLock lock(&segments_mu_);
  const auto found = segments_.find(group);
  if (found == segments_.end()) return NotFound("no segment ", group, " in ", options_.path);
  if (found->second->is_open()) return found->second;
  KDN_RETURN_IF_ERROR(found->second->OpenFile());
  open_segments_.push_back(found->second);
  // Longest open first; those in use go to the back of the queue.
  for (size_t tries = open_segments_.size(); tries > 0 && open_segments_.size() > kMaxOpenSegments; --tries) {
    const std::shared_ptr<Segment> oldest = open_segments_.front().lock();
    open_segments_.pop_front();
    if (oldest != nullptr && !oldest->CloseIdleFile()) open_segments_.push_back(oldest);
  }
  return found->second;
}

absl::StatusOr<SharedBytes> SegmentStore::Get(const ValueLocation& location, ByteRange range) {
  KDN_ASSIGN_OR_RETURN(const std::shared_ptr<Segment> segment, FindOpen(location.group));
  return segment->Read(location, range, read_buffers_);
}

absl::Status SegmentStore::Scan(uint64_t group, const ScanOptions& options,
                                const std::function<void(const ScannedValue&)>& visit) {
  KDN_ASSIGN_OR_RETURN(const std::shared_ptr<Segment> segment, FindOpen(group));
  return segment->Scan(options, visit);
}

void SegmentStore::SyncAppenders() {
  std::vector<std::shared_ptr<SegmentAppender>> appenders;
  {
    absl::MutexLock lock(&append_mu_);
    appenders = retiring_;
    if (active_ != nullptr) appenders.push_back(active_);
  }
  for (const auto& appender : appenders) {
    if (!appender->Sync().ok()) Retire(appender);
  }
  absl::MutexLock lock(&append_mu_);
  SettleRetired();
}

void SegmentStore::SettleRetired() {
  std::erase_if(retiring_, [this](const auto& appender) {
    append_mu_.AssertHeld();
    // In this order: what fails while sealing is known once the segment says that it is sealed.
    const bool sealed = appender->segment()->Describe().sealed;
    const absl::Status failure = appender->sync_error();
    if (!failure.ok()) NoteFailure(appender->segment()->identity().id, failure);
    return sealed;
  });
}

void SegmentStore::NoteFailure(uint64_t group, const absl::Status& failure) {
  // With kAlways every Put reports its own flush.
  if (options_.sync == SyncMode::kAlways || failed_flushes_.contains(group) || Find(group) == nullptr) return;
  failed_flushes_[group] = {++flush_failures_,
                            Annotate(failure, StrCat("values of segment ", group,
                                                     " may be lost when the power fails, until they are evicted"))};
}

absl::Status SegmentStore::Sync(uint64_t failures_before) {
  SyncAppenders();
  absl::MutexLock lock(&append_mu_);
  for (const auto& [group, failed] : failed_flushes_) {
    if (failed.number > failures_before) return failed.status;
  }
  return absl::OkStatus();
}

uint64_t SegmentStore::flush_failures() const {
  absl::MutexLock lock(&append_mu_);
  return flush_failures_;
}

void SegmentStore::RunFlusher() {
  const absl::Duration interval = absl::Milliseconds(options_.sync_interval_ms);
  absl::MutexLock lock(&flusher_mu_);
  while (!flusher_stop_) {
    flusher_wake_.WaitWithTimeout(&flusher_mu_, interval);
    flusher_mu_.Unlock();
    SyncAppenders();
    flusher_mu_.Lock();
  }
}

void SegmentStore::StopFlusher() {
  if (!flusher_.joinable()) return;
  {
    absl::MutexLock lock(&flusher_mu_);
    flusher_stop_ = true;
    flusher_wake_.Signal();
  }
  flusher_.join();
}

void SegmentStore::MarkDead(const ValueLocation& location) {
  if (const auto segment = Find(location.group)) segment->MarkDead(location.length);
}

std::vector<ValueGroup> SegmentStore::Groups() const {
  absl::MutexLock lock(&segments_mu_);
  std::vector<ValueGroup> groups;
  groups.reserve(segments_.size());
  for (const auto& [id, segment] : segments_) groups.push_back(segment->Describe());
  return groups;
}

uint64_t SegmentStore::DiskBytes() const {
  uint64_t bytes = 0;
  for (const ValueGroup& group : Groups()) bytes += group.disk_bytes;
  return bytes;
}

absl::Status SegmentStore::SealActive() {
  std::shared_ptr<SegmentAppender> appender;
  {
    absl::MutexLock lock(&append_mu_);
    if (active_ == nullptr || active_->IsUnused()) return absl::OkStatus();
    appender = active_;
  }
  Retire(appender);
  appender->WaitSealed();
  return appender->sync_error();
}

absl::Status SegmentStore::LeaveIdMarker() {
  const std::string path = PathOf(next_id_);
  // Without a byte in it: this has to work on a full disk, to make room there.
  KDN_RETURN_IF_ERROR(file_system_.Open(path, OpenMode::kCreate, DirectIo::kOff));
  ++next_id_;
  KDN_RETURN_IF_ERROR(file_system_.SyncDir(options_.path));
  RemoveIdMarker();
  id_marker_ = path;
  return absl::OkStatus();
}

void SegmentStore::RemoveIdMarker() {
  if (!id_marker_.has_value()) return;
  const absl::Status removed = file_system_.Remove(*id_marker_);
  if (!removed.ok()) Log(LogLevel::kWarn, "empty segment not removed", {{"error", removed.ToString()}});
  id_marker_ = std::nullopt;
}

absl::Status SegmentStore::DropGroup(uint64_t group) {
  const std::shared_ptr<Segment> segment = Find(group);
  if (segment == nullptr) return NotFound("no segment ", group, " in ", options_.path);
  if (!segment->Describe().sealed) return FailedPrecondition("segment ", group, " is not sealed");
  {
    absl::MutexLock append_lock(&append_mu_);
    if (group + 1 == next_id_) KDN_RETURN_IF_ERROR(LeaveIdMarker());
    // Nobody may find a segment whose file is gone.
    absl::MutexLock lock(&segments_mu_);
    if (segments_.erase(group) == 0) return NotFound("no segment ", group, " in ", options_.path);
  }
  const absl::Status removed = file_system_.Remove(segment->path());
  if (!removed.ok() && !absl::IsNotFound(removed)) {
    absl::MutexLock lock(&segments_mu_);
    segments_[group] = segment;
    return removed;
  }
  {
    absl::MutexLock lock(&append_mu_);
    failed_flushes_.erase(group);
  }
  // Durable, so that deleted values do not come back when an index is rebuilt after a power failure.
  return file_system_.SyncDir(options_.path);
}

absl::Status SegmentStore::Close() {
  std::shared_ptr<SegmentAppender> appender;
  {
    absl::MutexLock lock(&append_mu_);
    if (closed_) return absl::OkStatus();
    closed_ = true;
    appender = active_;
  }
  StopFlusher();
  if (appender != nullptr) Retire(appender);
  std::vector<std::shared_ptr<SegmentAppender>> retiring;
  {
    absl::MutexLock lock(&append_mu_);
    retiring = retiring_;
  }
  for (const auto& retired : retiring) retired->WaitSealed();
  const absl::Status status = lock_ != nullptr ? Sync(0) : absl::OkStatus();
  lock_ = nullptr;
  return status;
}

}  // namespace kdn
