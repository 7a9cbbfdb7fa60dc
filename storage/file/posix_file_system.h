#ifndef KDN_STORAGE_FILE_POSIX_FILE_SYSTEM_H_
#define KDN_STORAGE_FILE_POSIX_FILE_SYSTEM_H_

#include <memory>
#include <string>
#include <vector>

#include "storage/file/file_system.h"

namespace kdn {

// The operating system's files. Durability is fdatasync, direct I/O is O_DIRECT, locks are flock (released by the
// kernel when the holder dies).
class PosixFileSystem : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode, DirectIo direct_io) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> ListDir(const std::string& path) override;
  absl::Status CreateDirs(const std::string& path) override;
  absl::Status SyncDir(const std::string& path) override;
  absl::StatusOr<uint64_t> FreeBytes(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) override;
};

}  // namespace kdn

#endif  // KDN_STORAGE_FILE_POSIX_FILE_SYSTEM_H_
