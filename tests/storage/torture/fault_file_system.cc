#include "tests/storage/torture/fault_file_system.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "kernels/base/status.h"

namespace kdn {
namespace {

constexpr uint64_t kSectorBytes = 512;

std::string DirOf(const std::string& path) { return std::filesystem::path(path).parent_path().string(); }

void Overwrite(std::vector<uint8_t>& bytes, uint64_t offset, ByteSpan from) {
  if (from.empty()) return;
  if (bytes.size() < offset + from.size()) bytes.resize(offset + from.size());
  std::copy(from.begin(), from.end(), bytes.begin() + static_cast<int64_t>(offset));
}

}  // namespace

struct FaultFileSystem::Inode {
  // A write, or a change of size where `new_size` is set.
  struct Change {
    uint64_t offset = 0;
    std::vector<uint8_t> bytes = {};
    std::optional<uint64_t> new_size = std::nullopt;

    void Apply(std::vector<uint8_t>& to) const {
      if (new_size.has_value()) {
        to.resize(*new_size);
      } else {
        Overwrite(to, offset, bytes);
      }
    }
  };

  std::vector<uint8_t> bytes = {};
  std::vector<uint8_t> durable = {};
  std::vector<Change> pending = {};
  uint64_t reserved_end = 0;

  uint64_t Space() const { return std::max<uint64_t>(bytes.size(), reserved_end); }
  uint64_t bad_begin = 0;
  uint64_t bad_end = 0;
};

struct FaultFileSystem::NameChange {
  std::string removed;  // empty: nothing
  std::string added;    // empty: nothing
  std::shared_ptr<Inode> inode;

  void Apply(Names& names) const {
    if (!removed.empty()) names.erase(removed);
    if (!added.empty()) names[added] = inode;
  }
};

class FaultFileSystem::OpenFile : public File {
 public:
  OpenFile(FaultFileSystem& owner, std::shared_ptr<Inode> inode, uint64_t generation, bool direct_io)
      : owner_(owner), inode_(std::move(inode)), generation_(generation), direct_(direct_io) {}

  absl::StatusOr<size_t> ReadAt(uint64_t offset, MutableByteSpan to) override {
    absl::MutexLock lock(&owner_.mu_);
    KDN_RETURN_IF_ERROR(owner_.CheckPower(generation_));
    KDN_RETURN_IF_ERROR(CheckAlignment(offset, to.data(), to.size()));
    if (offset < inode_->bad_end && inode_->bad_begin < offset + to.size()) return DataLoss("unreadable sector");
    if (offset >= inode_->bytes.size()) return 0;
    const size_t count = std::min<uint64_t>(to.size(), inode_->bytes.size() - offset);
    std::copy_n(inode_->bytes.begin() + static_cast<int64_t>(offset), count, to.begin());
    return count;
  }

  absl::Status WriteAt(uint64_t offset, ByteSpan from) override {
    absl::MutexLock lock(&owner_.mu_);
    KDN_RETURN_IF_ERROR(owner_.CheckPower(generation_));
    KDN_RETURN_IF_ERROR(CheckAlignment(offset, from.data(), from.size()));
    return owner_.Write(*inode_, offset, from);
  }

  absl::Status Sync() override {
    absl::MutexLock lock(&owner_.mu_);
    while (owner_.hold_syncs_) owner_.syncs_released_.Wait(&owner_.mu_);
    KDN_RETURN_IF_ERROR(owner_.CheckPower(generation_));
    return owner_.SyncInode(*inode_);
  }

  absl::Status Truncate(uint64_t bytes) override {
    absl::MutexLock lock(&owner_.mu_);
    KDN_RETURN_IF_ERROR(owner_.CheckPower(generation_));
    return owner_.Resize(*inode_, bytes);
  }

  absl::Status Allocate(uint64_t offset, uint64_t bytes) override {
    absl::MutexLock lock(&owner_.mu_);
    KDN_RETURN_IF_ERROR(owner_.CheckPower(generation_));
    const uint64_t more = offset + bytes - std::min(inode_->Space(), offset + bytes);
    if (!owner_.CountSpace() || owner_.UsedBytes() + more > owner_.capacity_) {
      return ResourceExhausted("allocate: disk full");
    }
    inode_->reserved_end = std::max(inode_->reserved_end, offset + bytes);
    return owner_.CountOperation() ? absl::OkStatus() : Unavailable("the power failed during an allocation");
  }

  absl::StatusOr<uint64_t> Size() override {
    absl::MutexLock lock(&owner_.mu_);
    KDN_RETURN_IF_ERROR(owner_.CheckPower(generation_));
    return inode_->bytes.size();
  }

  bool direct_io() const override { return direct_; }

 private:
  absl::Status CheckAlignment(uint64_t offset, const uint8_t* address, size_t bytes) const {
    const bool aligned = offset % kIoAlignment == 0 && bytes % kIoAlignment == 0 &&
                         reinterpret_cast<uintptr_t>(address) % kIoAlignment == 0;
    if (direct_ && !aligned) return Internal("misaligned direct access of ", bytes, " bytes at ", offset);
    return absl::OkStatus();
  }

  FaultFileSystem& owner_;
  const std::shared_ptr<Inode> inode_;
  const uint64_t generation_;
  const bool direct_;
};

class FaultFileSystem::HeldLock : public FileLock {
 public:
  HeldLock(FaultFileSystem& owner, std::string path, uint64_t generation)
      : owner_(owner), path_(std::move(path)), generation_(generation) {}
  ~HeldLock() override {
    absl::MutexLock lock(&owner_.mu_);
    if (generation_ == owner_.generation_) owner_.locks_.erase(path_);
  }

 private:
  FaultFileSystem& owner_;
  const std::string path_;
  const uint64_t generation_;
};

FaultFileSystem::FaultFileSystem(uint32_t seed) : random_(seed) {}
FaultFileSystem::~FaultFileSystem() = default;

uint64_t FaultFileSystem::Draw(uint64_t below) { return below == 0 ? 0 : random_() % below; }

absl::Status FaultFileSystem::CheckPower(uint64_t generation) const {
  if (!powered_) return Unavailable("the power is off");
  if (generation != generation_) return Unavailable("opened before the last restart");
  return absl::OkStatus();
}

bool FaultFileSystem::CountOperation() {
  ++operations_;
  if (!operations_left_.has_value()) return true;
  if (*operations_left_ == 0) powered_ = false;
  if (*operations_left_ > 0) --*operations_left_;
  return powered_;
}

bool FaultFileSystem::CountSpace() {
  ++space_operations_;
  if (std::exchange(full_once_, false)) return false;
  if (!space_left_.has_value()) return true;
  if (*space_left_ == 0) return false;
  --*space_left_;
  return true;
}

uint64_t FaultFileSystem::UsedBytes() const {
  uint64_t bytes = 0;
  for (const auto& [name, inode] : names_) bytes += inode->Space();
  return bytes;
}

absl::Status FaultFileSystem::Write(Inode& inode, uint64_t offset, ByteSpan from) {
  const uint64_t end = std::max<uint64_t>(inode.Space(), offset + from.size());
  const bool fits = CountSpace() && UsedBytes() + (end - inode.Space()) <= capacity_;
  // What a full disk still takes of the write is anybody's guess.
  if (!fits) from = from.first(Draw(from.size()));
  Overwrite(inode.bytes, offset, from);
  inode.pending.push_back({.offset = offset, .bytes = {from.begin(), from.end()}});
  if (!CountOperation()) return Unavailable("the power failed during a write");
  return fits ? absl::OkStatus() : ResourceExhausted("write: disk full");
}

absl::Status FaultFileSystem::Resize(Inode& inode, uint64_t bytes) {
  inode.bytes.resize(bytes);
  inode.reserved_end = bytes;
  inode.pending.push_back({.new_size = bytes});
  if (!CountOperation()) return Unavailable("the power failed during a change of size");
  return absl::OkStatus();
}

absl::Status FaultFileSystem::SyncInode(Inode& inode) {
  if (!CountOperation()) return Unavailable("the power failed during a sync");
  const bool fails = syncs_left_.has_value() && *syncs_left_ == 0;
  if (fails) {
    syncs_left_ = std::nullopt;
    inode.pending.clear();
    return Internal("sync: input/output error");
  }
  if (syncs_left_.has_value()) --*syncs_left_;
  for (const Inode::Change& change : inode.pending) change.Apply(inode.durable);
  inode.pending.clear();
  ++syncs_;
  return absl::OkStatus();
}

void FaultFileSystem::Lose(Inode& inode) {
  enum { kNone, kPrefix, kSectors, kKinds };
  const uint64_t kind = Draw(kKinds);
  if (kind == kPrefix && !inode.pending.empty()) {
    const uint64_t whole = Draw(inode.pending.size() + 1);
    for (uint64_t i = 0; i < whole; ++i) inode.pending[i].Apply(inode.durable);
    if (whole < inode.pending.size() && !inode.pending[whole].new_size.has_value()) {
      Inode::Change& torn = inode.pending[whole];
      uint64_t keep = Draw(torn.bytes.size() + 1);
      if (Draw(2) == 0) keep -= keep % kSectorBytes;
      torn.bytes.resize(keep);
      torn.Apply(inode.durable);
    }
  }
  if (kind == kSectors) {
    const uint64_t keep_percent = Draw(101);
    for (const Inode::Change& change : inode.pending) {
      if (change.new_size.has_value()) change.Apply(inode.durable);
      for (uint64_t at = 0; at < change.bytes.size(); at += kSectorBytes) {
        if (Draw(100) >= keep_percent) continue;
        const uint64_t count = std::min<uint64_t>(kSectorBytes, change.bytes.size() - at);
        Overwrite(inode.durable, change.offset + at, ByteSpan(change.bytes).subspan(at, count));
      }
    }
  }
  inode.pending.clear();
  inode.bytes = inode.durable;
  inode.reserved_end = 0;
}

void FaultFileSystem::ChangeNames(NameChange change) {
  change.Apply(names_);
  pending_names_.push_back(std::move(change));
}

absl::StatusOr<std::unique_ptr<File>> FaultFileSystem::Open(const std::string& path, OpenMode mode,
                                                            DirectIo direct_io) {
  absl::MutexLock lock(&mu_);
  KDN_RETURN_IF_ERROR(CheckPower(generation_));
  if (direct_io == DirectIo::kRequired && !direct_io_) return FailedPrecondition("open ", path, ": no direct I/O");
  const bool direct = direct_io != DirectIo::kOff && direct_io_;
  const auto found = names_.find(path);
  if (mode != OpenMode::kCreate) {
    if (found == names_.end()) return NotFound("open ", path);
    return std::make_unique<OpenFile>(*this, found->second, generation_, direct);
  }
  if (found != names_.end()) return AlreadyExists("create ", path);
  if (directories_.count(DirOf(path)) == 0) return NotFound("create ", path, ": no such directory");
  if (!CountSpace()) return ResourceExhausted("create ", path, ": disk full");
  auto inode = std::make_shared<Inode>();
  ChangeNames({.removed = "", .added = path, .inode = inode});
  if (!CountOperation()) return Unavailable("the power failed during a creation");
  return std::make_unique<OpenFile>(*this, inode, generation_, direct);
}

absl::Status FaultFileSystem::Rename(const std::string& from, const std::string& to) {
  absl::MutexLock lock(&mu_);
  KDN_RETURN_IF_ERROR(CheckPower(generation_));
  const auto found = names_.find(from);
  if (found == names_.end()) return NotFound("rename ", from);
  ChangeNames({.removed = from, .added = to, .inode = found->second});
  if (!CountOperation()) return Unavailable("the power failed during a rename");
  return absl::OkStatus();
}

absl::Status FaultFileSystem::Remove(const std::string& path) {
  absl::MutexLock lock(&mu_);
  KDN_RETURN_IF_ERROR(CheckPower(generation_));
  if (names_.count(path) == 0) return NotFound("remove ", path);
  ChangeNames({.removed = path, .added = "", .inode = nullptr});
  if (!CountOperation()) return Unavailable("the power failed during a removal");
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FaultFileSystem::ListDir(const std::string& path) {
  absl::MutexLock lock(&mu_);
  KDN_RETURN_IF_ERROR(CheckPower(generation_));
  if (directories_.count(path) == 0) return NotFound("list ", path);
  std::vector<std::string> entries;
  for (const auto& [name, inode] : names_) {
    if (DirOf(name) == path) entries.push_back(std::filesystem::path(name).filename().string());
  }
  for (const std::string& directory : directories_) {
    if (directory != path && DirOf(directory) == path) {
      entries.push_back(std::filesystem::path(directory).filename().string());
    }
  }
  return entries;
}

absl::Status FaultFileSystem::CreateDirs(const std::string& path) {
  absl::MutexLock lock(&mu_);
  KDN_RETURN_IF_ERROR(CheckPower(generation_));
  for (std::string directory = path; directories_.insert(directory).second && directory != DirOf(directory);) {
    directory = DirOf(directory);
  }
  return absl::OkStatus();
}

absl::Status FaultFileSystem::SyncDir(const std::string& path) {
  absl::MutexLock lock(&mu_);
  KDN_RETURN_IF_ERROR(CheckPower(generation_));
  if (!CountOperation()) return Unavailable("the power failed during a sync of a directory");
  std::vector<NameChange> left;
  for (NameChange& change : pending_names_) {
    const bool touches = (!change.removed.empty() && DirOf(change.removed) == path) ||
                         (!change.added.empty() && DirOf(change.added) == path);
    if (touches) {
      change.Apply(durable_names_);
    } else {
      left.push_back(std::move(change));
    }
  }
  pending_names_ = std::move(left);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> FaultFileSystem::FreeBytes(const std::string& path) {
  absl::MutexLock lock(&mu_);
  KDN_RETURN_IF_ERROR(CheckPower(generation_));
  const uint64_t used = UsedBytes();
  return used < capacity_ ? capacity_ - used : 0;
}

absl::StatusOr<std::unique_ptr<FileLock>> FaultFileSystem::Lock(const std::string& path) {
  absl::MutexLock lock(&mu_);
  KDN_RETURN_IF_ERROR(CheckPower(generation_));
  if (!locks_.insert(path).second) return FailedPrecondition("lock ", path, ": held");
  if (names_.count(path) == 0) ChangeNames({.removed = "", .added = path, .inode = std::make_shared<Inode>()});
  return std::make_unique<HeldLock>(*this, path, generation_);
}

void FaultFileSystem::PowerOffAfter(uint64_t operations) {
  absl::MutexLock lock(&mu_);
  operations_left_ = operations;
}

void FaultFileSystem::Reboot() {
  absl::MutexLock lock(&mu_);
  const uint64_t survive = Draw(pending_names_.size() + 1);
  for (uint64_t i = 0; i < survive; ++i) pending_names_[i].Apply(durable_names_);
  pending_names_.clear();
  names_ = durable_names_;
  for (const auto& [name, inode] : names_) Lose(*inode);
  locks_.clear();
  operations_left_ = std::nullopt;
  powered_ = true;
  ++generation_;
}

void FaultFileSystem::KillProcess() {
  absl::MutexLock lock(&mu_);
  locks_.clear();
  operations_left_ = std::nullopt;
  powered_ = true;
  ++generation_;
}

uint64_t FaultFileSystem::operations() const {
  absl::MutexLock lock(&mu_);
  return operations_;
}

void FaultFileSystem::FillUpAfter(uint64_t nth) {
  absl::MutexLock lock(&mu_);
  space_left_ = nth;
}

void FaultFileSystem::FillUpOnce() {
  absl::MutexLock lock(&mu_);
  full_once_ = true;
}

uint64_t FaultFileSystem::space_operations() const {
  absl::MutexLock lock(&mu_);
  return space_operations_;
}

void FaultFileSystem::SetCapacity(uint64_t bytes) {
  absl::MutexLock lock(&mu_);
  capacity_ = bytes;
}

void FaultFileSystem::FailSync(uint64_t nth) {
  absl::MutexLock lock(&mu_);
  syncs_left_ = nth;
}

void FaultFileSystem::HoldSyncs() {
  absl::MutexLock lock(&mu_);
  hold_syncs_ = true;
}

void FaultFileSystem::ReleaseSyncs() {
  absl::MutexLock lock(&mu_);
  hold_syncs_ = false;
  syncs_released_.SignalAll();
}

uint64_t FaultFileSystem::syncs() const {
  absl::MutexLock lock(&mu_);
  return syncs_;
}

void FaultFileSystem::MakeUnreadable(const std::string& path, uint64_t offset, uint64_t bytes) {
  absl::MutexLock lock(&mu_);
  const auto found = names_.find(path);
  if (found == names_.end()) return;
  found->second->bad_begin = offset;
  found->second->bad_end = offset + bytes;
}

void FaultFileSystem::Heal() {
  absl::MutexLock lock(&mu_);
  space_left_ = std::nullopt;
  syncs_left_ = std::nullopt;
  for (const auto& [name, inode] : names_) inode->bad_begin = inode->bad_end = 0;
}

void FaultFileSystem::SetDirectIo(bool allowed) {
  absl::MutexLock lock(&mu_);
  direct_io_ = allowed;
}

std::vector<uint8_t> FaultFileSystem::Contents(const std::string& path) const {
  absl::MutexLock lock(&mu_);
  const auto found = names_.find(path);
  return found == names_.end() ? std::vector<uint8_t>() : found->second->bytes;
}

void FaultFileSystem::SetContents(const std::string& path, const std::vector<uint8_t>& bytes) {
  absl::MutexLock lock(&mu_);
  auto inode = std::make_shared<Inode>();
  inode->bytes = bytes;
  inode->durable = bytes;
  names_[path] = inode;
  durable_names_[path] = inode;
  directories_.insert(DirOf(path));
}

}  // namespace kdn
