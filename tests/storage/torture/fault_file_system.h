#ifndef KDN_TESTS_STORAGE_TORTURE_FAULT_FILE_SYSTEM_H_
#define KDN_TESTS_STORAGE_TORTURE_FAULT_FILE_SYSTEM_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "storage/file/file_system.h"

// A file system in memory that forgets like a real one. What it models:
//
// - A write or truncation reaches the disk when File::Sync of that file returns OK, not before. When the power fails,
// of
//   the operations since the last Sync any of these survive, drawn from the seed: none; the first few
//   in order, the last of them torn at a byte or sector; or any subset of 512-byte sectors of all of them.
// - A creation, rename or removal reaches the disk with SyncDir of its directory; at a power failure the first few of
//   those pending survive. Syncing a file does not make its name durable. Directories themselves always survive.
// - A Sync that fails loses what it should have written for good: it stays visible until the power fails, and no later
//   Sync brings it to the disk.
// - KillProcess ends the process alone: everything written stays, open files and locks are gone.
// - A full disk: a write may get part of its bytes down before it fails.
//
// To put it below something that has a file interface of its own (rocksdb::FileSystemWrapper), map: append to WriteAt
// at the file's size, Sync and Fsync to File::Sync, Directory::Fsync to SyncDir, the rest by name; open with
// DirectIo::kOff, then nothing needs to be aligned. Thread-safe.

namespace kdn {

class FaultFileSystem : public FileSystem {
 public:
  explicit FaultFileSystem(uint32_t seed);
  ~FaultFileSystem() override;

  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode, DirectIo direct_io) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> ListDir(const std::string& path) override;
  absl::Status CreateDirs(const std::string& path) override;
  absl::Status SyncDir(const std::string& path) override;
  absl::StatusOr<uint64_t> FreeBytes(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<FileLock>> Lock(const std::string& path) override;

  // Lets `operations` more changes (writes, truncations, allocations, syncs, creations, renames, removals) happen and
  // cuts the power during the next: it and every later call fail with Unavailable until Reboot.
  void PowerOffAfter(uint64_t operations);
  // Cuts the power now if it is on, and comes back with what survived. Files and locks opened before are dead: their
  // calls fail with Unavailable.
  void Reboot();
  // Ends the process that used it: nothing written is lost, files and locks opened before are dead.
  void KillProcess();
  // Changes so far.
  uint64_t operations() const;

  // The `nth` from now on (0: the next) of those operations that take space (writes, allocations, creations), and every
  // one after it, fails with ResourceExhausted.
  void FillUpAfter(uint64_t nth);
  // The next space-taking operation fails with ResourceExhausted, once.
  void FillUpOnce();
  // Space-taking operations so far.
  uint64_t space_operations() const;
  // Total bytes of all files; FreeBytes reports what is left.
  void SetCapacity(uint64_t bytes);
  // The `nth` Sync from now on (0: the next) fails with Internal, once.
  void FailSync(uint64_t nth);
  // Makes File::Sync wait until ReleaseSyncs.
  void HoldSyncs();
  void ReleaseSyncs();
  // Syncs of files that were done.
  uint64_t syncs() const;
  // Reads that touch these bytes of the file fail with DataLoss.
  void MakeUnreadable(const std::string& path, uint64_t offset, uint64_t bytes);
  // Ends FillUpAfter, FailSync and MakeUnreadable.
  void Heal();
  // Whether files may be opened for direct I/O. Misaligned direct reads and writes fail with Internal.
  void SetDirectIo(bool allowed);

  // The file's bytes as a reader sees them now; empty when there is no such file.
  std::vector<uint8_t> Contents(const std::string& path) const;
  // Replaces the file, durably: what a fault of the medium leaves behind.
  void SetContents(const std::string& path, const std::vector<uint8_t>& bytes);

 private:
  struct Inode;
  struct NameChange;
  class OpenFile;
  class HeldLock;
  using Names = std::map<std::string, std::shared_ptr<Inode>>;

  absl::Status CheckPower(uint64_t generation) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Counts a change; false when the power fails during it.
  bool CountOperation() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Counts a space-taking operation; false when the disk is full for it.
  bool CountSpace() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  uint64_t UsedBytes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ChangeNames(NameChange change) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  uint64_t Draw(uint64_t below) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Lose(Inode& inode) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Write(Inode& inode, uint64_t offset, ByteSpan from) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Resize(Inode& inode, uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status SyncInode(Inode& inode) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable absl::Mutex mu_;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mu_);
  uint64_t generation_ ABSL_GUARDED_BY(mu_) = 0;
  bool powered_ ABSL_GUARDED_BY(mu_) = true;
  std::optional<uint64_t> operations_left_ ABSL_GUARDED_BY(mu_);
  uint64_t operations_ ABSL_GUARDED_BY(mu_) = 0;
  std::optional<uint64_t> space_left_ ABSL_GUARDED_BY(mu_);
  bool full_once_ ABSL_GUARDED_BY(mu_) = false;
  uint64_t space_operations_ ABSL_GUARDED_BY(mu_) = 0;
  std::optional<uint64_t> syncs_left_ ABSL_GUARDED_BY(mu_);
  uint64_t syncs_ ABSL_GUARDED_BY(mu_) = 0;
  bool hold_syncs_ ABSL_GUARDED_BY(mu_) = false;
  absl::CondVar syncs_released_;
  uint64_t capacity_ ABSL_GUARDED_BY(mu_) = UINT64_MAX / 2;
  bool direct_io_ ABSL_GUARDED_BY(mu_) = true;

  std::set<std::string> directories_ ABSL_GUARDED_BY(mu_);
  std::set<std::string> locks_ ABSL_GUARDED_BY(mu_);
  Names names_ ABSL_GUARDED_BY(mu_);          // as seen
  Names durable_names_ ABSL_GUARDED_BY(mu_);  // as on disk
  std::vector<NameChange> pending_names_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kdn

#endif  // KDN_TESTS_STORAGE_TORTURE_FAULT_FILE_SYSTEM_H_
