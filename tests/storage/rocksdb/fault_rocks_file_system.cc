#include "tests/storage/rocksdb/fault_rocks_file_system.h"

#include <algorithm>
#include <cstdarg>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/status.h"

namespace kdn::testing {
namespace {

using rocksdb::FileOptions;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

IOStatus ToIo(const absl::Status& status) {
  if (status.ok()) return IOStatus::OK();
  const std::string message(FromAbsl(status.message()));
  if (absl::IsResourceExhausted(status)) return IOStatus::NoSpace(message);
  if (absl::IsNotFound(status)) return IOStatus::PathNotFound(message);
  if (absl::IsFailedPrecondition(status)) return IOStatus::IOError("While lock file: " + message);
  return IOStatus::IOError(message);
}

// Folders are named without a slash at the end.
std::string Trim(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

IOStatus ReadInto(File& file, uint64_t offset, size_t bytes, Slice* result, char* scratch) {
  const auto got = file.ReadAt(offset, {reinterpret_cast<uint8_t*>(scratch), bytes});
  if (!got.ok()) return ToIo(got.status());
  *result = Slice(scratch, *got);
  return IOStatus::OK();
}

class SequentialFile final : public rocksdb::FSSequentialFile {
 public:
  explicit SequentialFile(std::unique_ptr<File> file) : file_(std::move(file)) {}
  IOStatus Read(size_t bytes, const IOOptions&, Slice* result, char* scratch, IODebugContext*) override {
    const IOStatus status = ReadInto(*file_, offset_, bytes, result, scratch);
    if (status.ok()) offset_ += result->size();
    return status;
  }
  IOStatus Skip(uint64_t bytes) override {
    offset_ += bytes;
    return IOStatus::OK();
  }

 private:
  const std::unique_ptr<File> file_;
  uint64_t offset_ = 0;
};

class RandomAccessFile final : public rocksdb::FSRandomAccessFile {
 public:
  explicit RandomAccessFile(std::unique_ptr<File> file) : file_(std::move(file)) {}
  IOStatus Read(uint64_t offset, size_t bytes, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) const override {
    return ReadInto(*file_, offset, bytes, result, scratch);
  }

 private:
  const std::unique_ptr<File> file_;
};

class WritableFile final : public rocksdb::FSWritableFile {
 public:
  WritableFile(std::unique_ptr<File> file, uint64_t size) : file_(std::move(file)), size_(size) {}
  using rocksdb::FSWritableFile::Append;
  IOStatus Append(const Slice& data, const IOOptions&, IODebugContext*) override {
    const absl::Status written = file_->WriteAt(size_, AsBytes({data.data(), data.size()}));
    if (written.ok()) size_ += data.size();
    return ToIo(written);
  }
  IOStatus Truncate(uint64_t size, const IOOptions&, IODebugContext*) override {
    size_ = size;
    return ToIo(file_->Truncate(size));
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Flush(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Sync(const IOOptions&, IODebugContext*) override { return ToIo(file_->Sync()); }
  bool IsSyncThreadSafe() const override { return true; }
  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override { return size_; }

 private:
  const std::unique_ptr<File> file_;
  uint64_t size_;
};

class Directory final : public rocksdb::FSDirectory {
 public:
  Directory(FaultFileSystem& disk, std::string path) : disk_(disk), path_(std::move(path)) {}
  IOStatus Fsync(const IOOptions&, IODebugContext*) override { return ToIo(disk_.SyncDir(path_)); }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }

 private:
  FaultFileSystem& disk_;
  const std::string path_;
};

class HeldLock final : public rocksdb::FileLock {
 public:
  explicit HeldLock(std::unique_ptr<kdn::FileLock> lock) : lock_(std::move(lock)) {}

 private:
  const std::unique_ptr<kdn::FileLock> lock_;
};

class SilentLogger final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
  size_t GetLogFileSize() const override { return 0; }
};

class FaultRocksFileSystem final : public rocksdb::FileSystem {
 public:
  explicit FaultRocksFileSystem(FaultFileSystem& disk) : disk_(disk) {}
  const char* Name() const override { return "FaultRocksFileSystem"; }

  IOStatus NewSequentialFile(const std::string& path, const FileOptions&,
                             std::unique_ptr<rocksdb::FSSequentialFile>* result, IODebugContext*) override {
    auto file = disk_.Open(path, OpenMode::kRead, DirectIo::kOff);
    if (file.ok()) *result = std::make_unique<SequentialFile>(*std::move(file));
    return ToIo(file.status());
  }
  IOStatus NewRandomAccessFile(const std::string& path, const FileOptions&,
                               std::unique_ptr<rocksdb::FSRandomAccessFile>* result, IODebugContext*) override {
    auto file = disk_.Open(path, OpenMode::kRead, DirectIo::kOff);
    if (file.ok()) *result = std::make_unique<RandomAccessFile>(*std::move(file));
    return ToIo(file.status());
  }
  IOStatus NewWritableFile(const std::string& path, const FileOptions&,
                           std::unique_ptr<rocksdb::FSWritableFile>* result, IODebugContext*) override {
    const absl::Status removed = disk_.Remove(path);
    if (!removed.ok() && !absl::IsNotFound(removed)) return ToIo(removed);
    auto file = disk_.Open(path, OpenMode::kCreate, DirectIo::kOff);
    if (file.ok()) *result = std::make_unique<WritableFile>(*std::move(file), 0);
    return ToIo(file.status());
  }
  IOStatus ReopenWritableFile(const std::string& path, const FileOptions&,
                              std::unique_ptr<rocksdb::FSWritableFile>* result, IODebugContext*) override {
    auto file = disk_.Open(path, OpenMode::kReadWrite, DirectIo::kOff);
    if (!file.ok()) return ToIo(file.status());
    const auto size = (*file)->Size();
    if (!size.ok()) return ToIo(size.status());
    *result = std::make_unique<WritableFile>(*std::move(file), *size);
    return IOStatus::OK();
  }
  IOStatus NewDirectory(const std::string& path, const IOOptions&, std::unique_ptr<rocksdb::FSDirectory>* result,
                        IODebugContext*) override {
    const auto names = disk_.ListDir(Trim(path));
    if (names.ok()) *result = std::make_unique<Directory>(disk_, Trim(path));
    return ToIo(names.status());
  }
  IOStatus FileExists(const std::string& path, const IOOptions&, IODebugContext*) override {
    if (disk_.ListDir(Trim(path)).ok()) return IOStatus::OK();
    const auto file = disk_.Open(path, OpenMode::kRead, DirectIo::kOff);
    return absl::IsNotFound(file.status()) ? IOStatus::NotFound(path) : ToIo(file.status());
  }
  IOStatus GetChildren(const std::string& path, const IOOptions&, std::vector<std::string>* result,
                       IODebugContext*) override {
    auto names = disk_.ListDir(Trim(path));
    if (names.ok()) *result = *std::move(names);
    return absl::IsNotFound(names.status()) ? IOStatus::NotFound(path) : ToIo(names.status());
  }
  IOStatus DeleteFile(const std::string& path, const IOOptions&, IODebugContext*) override {
    return ToIo(disk_.Remove(path));
  }
  IOStatus CreateDir(const std::string& path, const IOOptions&, IODebugContext*) override {
    return ToIo(disk_.CreateDirs(Trim(path)));
  }
  IOStatus CreateDirIfMissing(const std::string& path, const IOOptions&, IODebugContext*) override {
    return ToIo(disk_.CreateDirs(Trim(path)));
  }
  IOStatus DeleteDir(const std::string&, const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus GetFileSize(const std::string& path, const IOOptions&, uint64_t* bytes, IODebugContext*) override {
    const auto file = disk_.Open(path, OpenMode::kRead, DirectIo::kOff);
    if (!file.ok()) return ToIo(file.status());
    const auto size = (*file)->Size();
    if (size.ok()) *bytes = *size;
    return ToIo(size.status());
  }
  IOStatus GetFileModificationTime(const std::string&, const IOOptions&, uint64_t* seconds, IODebugContext*) override {
    *seconds = 0;
    return IOStatus::OK();
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions&, IODebugContext*) override {
    const auto names = disk_.ListDir(Trim(from));
    if (!names.ok()) return ToIo(disk_.Rename(from, to));
    absl::Status status = disk_.CreateDirs(Trim(to));
    for (const std::string& name : *names) {
      if (status.ok()) status = disk_.Rename(Trim(from) + "/" + name, Trim(to) + "/" + name);
    }
    if (status.ok()) status = disk_.SyncDir(Trim(from));
    if (status.ok()) status = disk_.SyncDir(Trim(to));
    return ToIo(status);
  }
  IOStatus LockFile(const std::string& path, const IOOptions&, rocksdb::FileLock** lock, IODebugContext*) override {
    auto held = disk_.Lock(path);
    if (held.ok()) *lock = new HeldLock(*std::move(held));
    return ToIo(held.status());
  }
  IOStatus UnlockFile(rocksdb::FileLock* lock, const IOOptions&, IODebugContext*) override {
    delete lock;
    return IOStatus::OK();
  }
  IOStatus GetTestDirectory(const IOOptions&, std::string* path, IODebugContext*) override {
    *path = "/tests";
    return IOStatus::OK();
  }
  IOStatus GetAbsolutePath(const std::string& path, const IOOptions&, std::string* out, IODebugContext*) override {
    *out = path;
    return IOStatus::OK();
  }
  IOStatus IsDirectory(const std::string& path, const IOOptions&, bool* is_directory, IODebugContext*) override {
    *is_directory = disk_.ListDir(Trim(path)).ok();
    return IOStatus::OK();
  }
  IOStatus GetFreeSpace(const std::string& path, const IOOptions&, uint64_t* bytes, IODebugContext*) override {
    const auto free = disk_.FreeBytes(path);
    if (free.ok()) *bytes = *free;
    return ToIo(free.status());
  }
  // RocksDB's own log of events is not what is tested.
  IOStatus NewLogger(const std::string&, const IOOptions&, std::shared_ptr<rocksdb::Logger>* result,
                     IODebugContext*) override {
    *result = std::make_shared<SilentLogger>();
    return IOStatus::OK();
  }

 private:
  FaultFileSystem& disk_;
};

}  // namespace

std::shared_ptr<rocksdb::FileSystem> MakeFaultRocksFileSystem(FaultFileSystem& disk) {
  return std::make_shared<FaultRocksFileSystem>(disk);
}

}  // namespace kdn::testing
