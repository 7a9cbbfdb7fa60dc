#ifndef KDN_STORAGE_EVICT_DISK_SPACE_H_
#define KDN_STORAGE_EVICT_DISK_SPACE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "storage/file/file_system.h"

namespace kdn {

// Free space of the file system that holds the data, as a dependency. Thread-safe.
class DiskSpace {
 public:
  virtual ~DiskSpace() = default;
  // Bytes an unprivileged process may still write.
  virtual absl::StatusOr<uint64_t> FreeBytes() = 0;
};

// Of the file system that holds `path`. `file_system` must outlive it.
class FileSystemDiskSpace : public DiskSpace {
 public:
  FileSystemDiskSpace(FileSystem& file_system, std::string path) : file_system_(file_system), path_(std::move(path)) {}
  absl::StatusOr<uint64_t> FreeBytes() override { return file_system_.FreeBytes(path_); }

 private:
  FileSystem& file_system_;
  const std::string path_;
};

}  // namespace kdn

#endif  // KDN_STORAGE_EVICT_DISK_SPACE_H_
