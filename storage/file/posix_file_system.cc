#include "storage/file/posix_file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "kernels/base/status.h"
#include "storage/file/errno_status.h"
#include "storage/file/uring_queue.h"

namespace kdn {
namespace {

constexpr mode_t kFileMode = 0600;

class UniqueFd {
 public:
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&&) = delete;
  ~UniqueFd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

class PosixFile : public File {
 public:
  PosixFile(UniqueFd fd, std::string path, DirectIo direct_io, std::shared_ptr<UringPool> rings)
      : fd_(std::move(fd)), path_(std::move(path)), direct_(direct_io != DirectIo::kOff), rings_(std::move(rings)) {}

  absl::StatusOr<size_t> ReadAt(uint64_t offset, MutableByteSpan to) override {
    size_t done = 0;
    while (done < to.size()) {
      const ssize_t got = ::pread(fd_.get(), to.data() + done, to.size() - done, static_cast<off_t>(offset + done));
      if (got < 0) {
        if (errno == EINTR) continue;
        return ReadErrnoStatus(errno, "read", path_);
      }
      done += static_cast<size_t>(got);
      // A direct read that is not whole blocks has met the end of the file, and must not go on from there.
      if (got == 0 || (direct_ && got % static_cast<ssize_t>(kIoAlignment) != 0)) break;
    }
    return done;
  }

  absl::Status WriteAt(uint64_t offset, ByteSpan from) override {
    size_t done = 0;
    while (done < from.size()) {
      const ssize_t put =
          ::pwrite(fd_.get(), from.data() + done, from.size() - done, static_cast<off_t>(offset + done));
      if (put < 0) {
        if (errno == EINTR) continue;
        return ErrnoStatus(errno, "write", path_);
      }
      if (put == 0) return ErrnoStatus(ENOSPC, "write", path_);
      done += static_cast<size_t>(put);
    }
    return absl::OkStatus();
  }

  absl::Status WriteAt(uint64_t offset, std::span<const ByteSpan> pieces) override {
    std::vector<iovec> parts;
    size_t bytes = 0;
    for (const ByteSpan& piece : pieces) {
      // The cast away from const is iovec's signature; pwritev only reads.
      parts.push_back({.iov_base = const_cast<uint8_t*>(piece.data()), .iov_len = piece.size()});
      bytes += piece.size();
    }
    if (parts.size() > kMaxPieces) return File::WriteAt(offset, pieces);
    ssize_t put = 0;
    do {
      put = ::pwritev(fd_.get(), parts.data(), static_cast<int>(parts.size()), static_cast<off_t>(offset));
    } while (put < 0 && errno == EINTR);
    if (put < 0) return ErrnoStatus(errno, "write", path_);
    if (static_cast<size_t>(put) == bytes) return absl::OkStatus();
    // Stopped half-way: whatever kept it tells its name when the rest is written piece by piece.
    return WriteRest(offset, pieces, static_cast<size_t>(put));
  }

  absl::Status Sync() override {
    if (::fdatasync(fd_.get()) != 0) return ErrnoStatus(errno, "fdatasync", path_);
    return absl::OkStatus();
  }

  absl::Status Truncate(uint64_t bytes) override {
    if (::ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0) return ErrnoStatus(errno, "truncate", path_);
    return absl::OkStatus();
  }

  absl::Status Allocate(uint64_t offset, uint64_t bytes) override {
    int result = 0;
    do {
      result = ::fallocate(fd_.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(bytes));
    } while (result != 0 && errno == EINTR);
    if (result == 0) return absl::OkStatus();
    if (errno == EOPNOTSUPP || errno == ENOSYS) return Unimplemented("fallocate ", path_, ": not supported");
    return ErrnoStatus(errno, "fallocate", path_);
  }

  absl::StatusOr<uint64_t> Size() override {
    struct stat info {};
    if (::fstat(fd_.get(), &info) != 0) return ErrnoStatus(errno, "stat", path_);
    return static_cast<uint64_t>(info.st_size);
  }

  bool direct_io() const override { return direct_; }

  std::unique_ptr<ReadQueue> NewReadQueue() override {
    // From the page cache a read is a copy: nothing to overlap.
    if (direct_) {
      if (auto queue = NewUringQueue(*rings_, *this, fd_.get())) return queue;
    }
    return File::NewReadQueue();
  }

 private:
  static constexpr size_t kMaxPieces = 16;

  absl::Status WriteRest(uint64_t offset, std::span<const ByteSpan> pieces, size_t done) {
    for (const ByteSpan& piece : pieces) {
      const size_t skip = std::min(done, piece.size());
      KDN_RETURN_IF_ERROR(WriteAt(offset + skip, piece.subspan(skip)));
      offset += piece.size();
      done -= skip;
    }
    return absl::OkStatus();
  }

  const UniqueFd fd_;
  const std::string path_;
  const bool direct_;
  const std::shared_ptr<UringPool> rings_;
};

class PosixFileLock : public FileLock {
 public:
  explicit PosixFileLock(UniqueFd fd) : fd_(std::move(fd)) {}

 private:
  const UniqueFd fd_;
};

int OpenFlags(OpenMode mode) {
  switch (mode) {
    case OpenMode::kRead:
      return O_RDONLY | O_CLOEXEC;
    case OpenMode::kReadWrite:
      return O_RDWR | O_CLOEXEC;
    case OpenMode::kCreate:
      return O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
  }
  return O_RDONLY | O_CLOEXEC;
}

}  // namespace

PosixFileSystem::PosixFileSystem() : rings_(std::make_shared<UringPool>()) {}
PosixFileSystem::~PosixFileSystem() = default;

absl::StatusOr<std::unique_ptr<File>> PosixFileSystem::Open(const std::string& path, OpenMode mode,
                                                            DirectIo direct_io) {
  int flags = OpenFlags(mode);
  if (direct_io != DirectIo::kOff) {
    const int fd = ::open(path.c_str(), flags | O_DIRECT, kFileMode);
    if (fd >= 0) return std::make_unique<PosixFile>(UniqueFd(fd), path, direct_io, rings_);
    if (errno != EINVAL) return ErrnoStatus(errno, "open", path);
    if (direct_io == DirectIo::kRequired) {
      return FailedPrecondition("open ", path, ": this file system refuses direct I/O");
    }
    // Some file systems refuse O_DIRECT only after they have created the file.
    if (mode == OpenMode::kCreate) flags &= ~O_EXCL;
  }
  const int fd = ::open(path.c_str(), flags, kFileMode);
  if (fd < 0) return ErrnoStatus(errno, "open", path);
  return std::make_unique<PosixFile>(UniqueFd(fd), path, DirectIo::kOff, rings_);
}

absl::Status PosixFileSystem::Rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return ErrnoStatus(errno, "rename", StrCat(from, " to ", to));
  return absl::OkStatus();
}

absl::Status PosixFileSystem::Remove(const std::string& path) {
  if (::unlink(path.c_str()) != 0) return ErrnoStatus(errno, "remove", path);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> PosixFileSystem::ListDir(const std::string& path) {
  std::error_code error;
  std::filesystem::directory_iterator entries(path, error);
  std::vector<std::string> names;
  const std::filesystem::directory_iterator end;
  while (!error && entries != end) {
    names.push_back(entries->path().filename().string());
    entries.increment(error);
  }
  if (error) return ErrnoStatus(error.value(), "list", path);
  return names;
}

absl::Status PosixFileSystem::CreateDirs(const std::string& path) {
  std::filesystem::path made;
  for (const std::filesystem::path& part : std::filesystem::path(path)) {
    const std::filesystem::path parent = made.empty() ? "." : made;
    made /= part;
    std::error_code error;
    const bool created = std::filesystem::create_directory(made, error);
    // What is there already and is not a directory.
    const int reason = error.value() == EEXIST ? ENOTDIR : error.value();
    if (error) return ErrnoStatus(reason, "create directory", made.string());
    if (created) KDN_RETURN_IF_ERROR(SyncDir(parent.string()));
  }
  return absl::OkStatus();
}

absl::Status PosixFileSystem::SyncDir(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) return ErrnoStatus(errno, "open directory", path);
  if (::fsync(fd.get()) != 0) return ErrnoStatus(errno, "sync directory", path);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> PosixFileSystem::FreeBytes(const std::string& path) {
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0) return ErrnoStatus(errno, "statvfs", path);
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

absl::StatusOr<std::unique_ptr<FileLock>> PosixFileSystem::Lock(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kFileMode));
  if (fd.get() < 0) return ErrnoStatus(errno, "open lock", path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoStatus(errno, "lock", path);
    char holder[32] = {};
    const ssize_t got = ::pread(fd.get(), holder, sizeof(holder) - 1, 0);
    const long pid = got > 0 ? std::strtol(holder, nullptr, 10) : 0;
    if (pid <= 0) return FailedPrecondition("lock ", path, ": held by another process");
    return FailedPrecondition("lock ", path, ": held by process ", pid);
  }
  const std::string pid = StrCat(static_cast<int64_t>(::getpid()), "\n");
  if (::ftruncate(fd.get(), 0) != 0 || ::pwrite(fd.get(), pid.data(), pid.size(), 0) < 0) {
    // The lock holds without the number in it; only the other side's message would be poorer. A full disk must not
    // keep the daemon from starting.
    if (errno != ENOSPC && errno != EDQUOT) return ErrnoStatus(errno, "write lock", path);
  }
  return std::make_unique<PosixFileLock>(std::move(fd));
}

}  // namespace kdn
