#include "server/core/open.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/base/log.h"
#include "kernels/base/status.h"
#include "server/core/chunk_store_impl.h"
#include "storage/file/posix_file_system.h"
#include "storage/index/recovery.h"
#include "storage/rocksdb/rocks_index.h"
#include "storage/rocksdb/rocks_value_store.h"
#include "storage/segment/segment_store.h"

namespace kdn {
namespace {

// A store of bounded capacity has at least this many groups, so that dropping one is a small step.
constexpr uint64_t kMinGroupsInCapacity = 16;
constexpr uint64_t kMinGroupBytes = uint64_t{64} << 10;
constexpr uint64_t kMaxAllocationBytes = uint64_t{16} << 20;
constexpr size_t kMaxMarkerBytes = 4096;
// What RocksDB needs for flushing and compacting an index.
constexpr uint64_t kIndexFreeBytes = uint64_t{64} << 20;

std::string_view KindName(ValuesKind kind) { return kind == ValuesKind::kSegments ? "segments" : "rocksdb"; }

std::string MarkerOf(ValuesKind kind) {
  return StrCat("kdn store format ", kStoreFormat, "\nvalues ", KindName(kind), "\n");
}

// The data directory, held from before anything in it is read until the store is closed.
class DataDirectory {
 public:
  DataDirectory(FileSystem& file_system, std::string path) : file_system_(file_system), path_(std::move(path)) {}

  absl::StatusOr<std::unique_ptr<FileLock>> Take(ValuesKind kind) {
    KDN_RETURN_IF_ERROR(file_system_.CreateDirs(path_));
    KDN_ASSIGN_OR_RETURN(std::unique_ptr<FileLock> lock, file_system_.Lock(path_ + "/kdnd.lock"));
    absl::StatusOr<std::string> marker = Read(path_ + "/STORE");
    if (absl::IsNotFound(marker.status())) {
      KDN_RETURN_IF_ERROR(WarnOfOtherFiles());
      KDN_RETURN_IF_ERROR(WriteMarker(MarkerOf(kind)));
      return lock;
    }
    KDN_RETURN_IF_ERROR(marker);
    KDN_RETURN_IF_ERROR(CheckMarker(*marker, kind));
    return lock;
  }

 private:
  absl::StatusOr<std::string> Read(const std::string& path) {
    KDN_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, file_system_.Open(path, OpenMode::kRead, DirectIo::kOff));
    std::string text(kMaxMarkerBytes, '\0');
    KDN_ASSIGN_OR_RETURN(const size_t bytes, file->ReadAt(0, {reinterpret_cast<uint8_t*>(text.data()), text.size()}));
    text.resize(bytes);
    return text;
  }

  // A new store begins here: whoever named the wrong directory should see it.
  absl::Status WarnOfOtherFiles() {
    KDN_ASSIGN_OR_RETURN(const std::vector<std::string> names, file_system_.ListDir(path_));
    const auto foreign = std::find_if(names.begin(), names.end(), [](const std::string& name) {
      return name != "kdnd.lock" && name != "STORE.new" && name != "lost+found";
    });
    if (foreign == names.end()) return absl::OkStatus();
    Log(LogLevel::kWarn, "a new store begins in a directory that holds other files",
        {{"path", path_}, {"one_of_them", *foreign}});
    return absl::OkStatus();
  }

  absl::Status WriteMarker(const std::string& text) {
    const std::string temporary = path_ + "/STORE.new";
    const absl::Status removed = file_system_.Remove(temporary);
    if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
    {
      KDN_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                           file_system_.Open(temporary, OpenMode::kCreate, DirectIo::kOff));
      KDN_RETURN_IF_ERROR(file->WriteAt(0, AsBytes(text)));
      KDN_RETURN_IF_ERROR(file->Sync());
    }
    KDN_RETURN_IF_ERROR(file_system_.Rename(temporary, path_ + "/STORE"));
    return file_system_.SyncDir(path_);
  }

  // A damaged marker is written anew: what it says is checked again by what lies beside it.
  absl::Status CheckMarker(const std::string& marker, ValuesKind kind) {
    if (marker == MarkerOf(kind)) return absl::OkStatus();
    const ValuesKind other = kind == ValuesKind::kSegments ? ValuesKind::kRocksDb : ValuesKind::kSegments;
    if (marker == MarkerOf(other)) {
      return FailedPrecondition(path_, " keeps its values in ", KindName(other), ", the configuration asks for ",
                                KindName(kind), " (storage.values): use that, or another storage.path");
    }
    constexpr std::string_view kPrefix = "kdn store format ";
    uint32_t format = 0;
    if (marker.starts_with(kPrefix)) {
      std::from_chars(marker.data() + kPrefix.size(), marker.data() + marker.size(), format);
    }
    if (format > kStoreFormat) {
      return FailedPrecondition(path_, " is of store format ", format, ", this version reads up to ", kStoreFormat,
                                ": upgrade, or use another storage.path");
    }
    Log(LogLevel::kWarn, "the store's marker file was damaged and is written anew", {{"path", path_}});
    return WriteMarker(MarkerOf(kind));
  }

  FileSystem& file_system_;
  const std::string path_;
};

// The units in which the value store takes and gives back space.
struct Geometry {
  uint64_t group_bytes = 0;
  uint64_t allocation_bytes = 0;
};

Geometry GeometryOf(const ChunkStoreOptions& options) {
  Geometry geometry;
  geometry.group_bytes = options.segment_bytes;
  if (options.capacity_bytes != 0) {
    geometry.group_bytes = std::min(geometry.group_bytes, options.capacity_bytes / kMinGroupsInCapacity);
  }
  // Whole blocks of the disk.
  geometry.group_bytes = std::max(kMinGroupBytes, geometry.group_bytes / kIoAlignment * kIoAlignment);
  geometry.allocation_bytes =
      std::clamp(geometry.group_bytes / kMinGroupsInCapacity, uint64_t{kIoAlignment}, kMaxAllocationBytes);
  return geometry;
}

absl::Status CheckOptions(const ChunkStoreOptions& options) {
  if (options.path.empty()) return InvalidArgument("the store has no path");
  if (!(options.low_watermark > 0 && options.low_watermark <= options.high_watermark && options.high_watermark <= 1)) {
    return InvalidArgument("watermarks ", options.low_watermark, " and ", options.high_watermark,
                           ": must be 0 < low <= high <= 1");
  }
  if (options.capacity_bytes != 0 && options.capacity_bytes < kMinGroupsInCapacity * kMinGroupBytes) {
    return InvalidArgument("capacity of ", options.capacity_bytes, " bytes, at least ",
                           kMinGroupsInCapacity * kMinGroupBytes);
  }
  if (options.sync_interval_ms == 0) return InvalidArgument("the sync interval is 0 ms");
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ValueStore>> OpenValues(const ChunkStoreOptions& options,
                                                       const StoreEnvironment& environment, FileSystem& file_system,
                                                       std::string& recovery) {
  const Geometry geometry = GeometryOf(options);
  if (options.values == ValuesKind::kRocksDb) {
    RocksValueStoreOptions rocks;
    rocks.path = options.path + "/blobs";
    rocks.group_bytes = geometry.group_bytes;
    rocks.sync = options.sync;
    rocks.sync_interval_ms = options.sync_interval_ms;
    rocks.reserve_bytes = options.reserve_bytes;
    rocks.clock = environment.clock;
    rocks.file_system = environment.rocks_file_system;
    KDN_ASSIGN_OR_RETURN(OpenedValueStore opened, OpenRocksValueStore(rocks));
    if (!opened.quarantined_to.empty()) {
      recovery += StrCat("the values were damaged beyond use and moved to ", opened.quarantined_to, "; ");
    }
    return std::move(opened.values);
  }
  SegmentStoreOptions segments;
  segments.path = options.path + "/segments";
  segments.segment_bytes = geometry.group_bytes;
  segments.allocation_bytes = geometry.allocation_bytes;
  segments.sync = options.sync;
  segments.sync_interval_ms = options.sync_interval_ms;
  segments.reserve_bytes = options.reserve_bytes;
  segments.direct_io = options.direct_io ? DirectIo::kAuto : DirectIo::kOff;
  return SegmentStore::Open(segments, file_system, *environment.clock);
}

absl::Status Recover(ValueStore& values, ChunkIndex& index, const RecoveryReport& report,
                     const StoreEnvironment& environment, std::string& recovery) {
  if (!report.quarantined_to.empty()) {
    recovery += StrCat("the index was damaged (", report.reason, ") and moved to ", report.quarantined_to, "; ");
  }
  if (report.tenants_lost) recovery += "tenants' secrets were lost: what they stored cannot be reached; ";
  if (report.tenants_damaged) recovery += "a damaged copy of the tenants' secrets was replaced; ";
  RecoveryOptions options;
  options.clock = environment.clock;
  options.progress = environment.recovery_progress;
  KDN_ASSIGN_OR_RETURN(const RecoveryStats stats, RecoverIndex(values, index, report, options));
  const bool rebuilt = report.needs_rebuild;
  if (!report.quarantined_to.empty() || stats.chunks_put + stats.dangling + stats.damaged > 0) {
    recovery += StrCat(rebuilt ? "index rebuilt" : "index reconciled", " from ", stats.groups,
                       " groups: ", stats.chunks_put, " chunk rows put back, ", stats.texts_put, " texts, ",
                       stats.dangling, " rows without value dropped, ", stats.damaged, " damaged values; ");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OpenedStore> OpenChunkStore(const ChunkStoreOptions& options, const StoreEnvironment& environment) {
  KDN_RETURN_IF_ERROR(CheckOptions(options));
  static PosixFileSystem& machine = *new PosixFileSystem();
  FileSystem& file_system = environment.file_system != nullptr ? *environment.file_system : machine;
  DataDirectory directory(file_system, options.path);
  KDN_ASSIGN_OR_RETURN(std::unique_ptr<FileLock> lock, directory.Take(options.values));

  OpenedStore opened;
  CoreParts parts;
  parts.lock = std::move(lock);
  KDN_ASSIGN_OR_RETURN(parts.values, OpenValues(options, environment, file_system, opened.recovery));
  RocksIndexOptions index_options;
  index_options.path = options.path;
  index_options.block_cache_bytes = options.block_cache_bytes;
  // The values stop first; what they leave keeps the index working. Not more than it needs, so that a daemon can start
  // and recover on a disk that others filled.
  index_options.min_free_bytes = std::min(options.reserve_bytes / 2, kIndexFreeBytes);
  index_options.clock = environment.clock;
  index_options.file_system = environment.rocks_file_system;
  KDN_ASSIGN_OR_RETURN(OpenedIndex index, OpenRocksIndex(index_options));
  KDN_RETURN_IF_ERROR(Recover(*parts.values, *index.index, index.report, environment, opened.recovery));
  parts.index = std::move(index.index);
  parts.disk_space = std::make_unique<FileSystemDiskSpace>(file_system, options.path);
  parts.clock = environment.clock;
  parts.events = environment.events;
  parts.growth_step_bytes = GeometryOf(options).allocation_bytes;
  if (!opened.recovery.empty()) {
    opened.recovery.resize(opened.recovery.size() - 2);  // the last separator
    Log(LogLevel::kWarn, "store recovered", {{"what", opened.recovery}});
  }
  auto store = std::make_unique<ChunkStoreImpl>(options, std::move(parts), ChunkStoreImpl::Background::kRun);
  store->context().NoteFreeSpace();
  opened.store = std::move(store);
  return opened;
}

}  // namespace kdn
