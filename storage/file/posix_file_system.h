#ifndef KDN_STORAGE_FILE_POSIX_FILE_SYSTEM_H_
#define KDN_STORAGE_FILE_POSIX_FILE_SYSTEM_H_

#include <memory>
#include <string>
#include <vector>

#include "storage/file/file_system.h"

namespace kdn {

class UringPool;

// The operating system's files. Durability is fdatasync, direct I/O is O_DIRECT, queues of direct files are io_uring
// where the kernel gives it, locks are flock (released by the kernel when the holder dies). May be destroyed before its
// files.
class PosixFileSystem : public FileSystem {
 public:
  PosixFileSystem();
  ~PosixFileSystem() override;

  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode, DirectIo direct_io) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> ListDir(const std::string& path) override;
  absl::Status CreateDirs(const std::string& path) override;
  absl::Status SyncDir(const std::string& path) override;
  absl::StatusOr<uint64_t> FreeBytes(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) override;

 private:
  const std::shared_ptr<UringPool> rings_;
};

}  // namespace kdn

#endif  // KDN_STORAGE_FILE_POSIX_FILE_SYSTEM_H_
