#ifndef KDN_STORAGE_FILE_FILE_SYSTEM_H_
#define KDN_STORAGE_FILE_FILE_SYSTEM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/bytes.h"

// Files as a dependency: everything of storage that touches a disk gets a FileSystem by constructor, so that tests can
// put one below it that loses, tears and refuses writes. Errors: NotFound (no such file), AlreadyExists,
// ResourceExhausted (disk or quota full), PermissionDenied, DataLoss (the device could not give the bytes back),
// Internal (everything else), each naming operation, path and errno.

namespace kdn {

// Direct I/O moves whole blocks: offsets, lengths and addresses are multiples of this.
inline constexpr size_t kIoAlignment = 4096;

enum class DirectIo {
  kOff,       // through the page cache
  kAuto,      // past the page cache where the file system allows; File::direct_io() tells
  kRequired,  // opening fails with FailedPrecondition where the file system refuses
};

enum class OpenMode {
  kRead,
  kReadWrite,
  kCreate,  // read and write; AlreadyExists when there is one
};

// Overlapping reads of one file. One thread at a time; each read is finished, in the order submitted, by one
// WaitOldest. Destruction waits for everything submitted: the memory of a read must stay until then.
class ReadQueue {
 public:
  virtual ~ReadQueue() = default;

  // Starts reading `to.size()` bytes (at most 1 GiB) at `offset`. The alignment rules of File::ReadAt hold; pending()
  // must be below max_pending().
  virtual void Submit(uint64_t offset, MutableByteSpan to) = 0;
  // Waits for the oldest unfinished read, of which there must be one, and returns the bytes read: fewer than asked for
  // only at the end of the file.
  virtual absl::StatusOr<size_t> WaitOldest() = 0;
  // Reads submitted and not yet waited for.
  virtual size_t pending() const = 0;
  virtual size_t max_pending() const = 0;
};

// An open file. Thread-safe; concurrent writes must not overlap. Closed by destruction.
class File {
 public:
  virtual ~File() = default;

  // Reads at `offset` into `to`; returns the bytes read, fewer than asked for only at the end of the file. With
  // direct_io() offset, address and size are multiples of kIoAlignment.
  virtual absl::StatusOr<size_t> ReadAt(uint64_t offset, MutableByteSpan to) = 0;
  // Writes all of `from` at `offset`, extending the file where needed. After an error any part may have been written.
  virtual absl::Status WriteAt(uint64_t offset, ByteSpan from) = 0;
  // Writes the pieces one behind the other; with direct_io() address and size of each are multiples of kIoAlignment.
  virtual absl::Status WriteAt(uint64_t offset, std::span<const ByteSpan> pieces);
  // A queue for overlapping reads; the default does each one when it is submitted.
  virtual std::unique_ptr<ReadQueue> NewReadQueue();
  // Makes all finished writes durable, with what is needed to read them back (size, extents). After an error the file
  // must be taken as not durable, for good: the operating system reports a lost page once.
  virtual absl::Status Sync() = 0;
  virtual absl::Status Truncate(uint64_t bytes) = 0;
  // Reserves disk space for [offset, offset + bytes), beyond the end of the file too, so that writing there cannot fail
  // for want of it. The size does not change; Truncate gives back what is reserved behind it. After an error a part may
  // have been reserved. Unimplemented where the file system cannot.
  virtual absl::Status Allocate(uint64_t offset, uint64_t bytes) = 0;
  virtual absl::StatusOr<uint64_t> Size() = 0;
  // True when reads and writes go past the page cache.
  virtual bool direct_io() const = 0;
};

// Held until destroyed, or until the process ends.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

// Thread-safe. Paths are absolute or relative to the working directory; names in listings have no directory.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode, DirectIo direct_io) = 0;
  // Renames within one file system, replacing `to`. Durable after SyncDir.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  // Removes a file. Open files stay usable. Durable after SyncDir.
  virtual absl::Status Remove(const std::string& path) = 0;
  // Names of the entries of a directory, in no order, without "." and "..".
  virtual absl::StatusOr<std::vector<std::string>> ListDir(const std::string& path) = 0;
  // Creates a directory and its parents, durably; OK when it exists.
  virtual absl::Status CreateDirs(const std::string& path) = 0;
  // Makes creations, renames and removals in a directory durable.
  virtual absl::Status SyncDir(const std::string& path) = 0;
  // Bytes an unprivileged process may still allocate on the file system of `path`.
  virtual absl::StatusOr<uint64_t> FreeBytes(const std::string& path) = 0;
  // Takes the exclusive lock on `path`, creating the file and writing this process's id into it. FailedPrecondition,
  // naming the holder's process id, when somebody else (or another lock of this process) has it.
  virtual absl::StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) = 0;
};

}  // namespace kdn

#endif  // KDN_STORAGE_FILE_FILE_SYSTEM_H_
