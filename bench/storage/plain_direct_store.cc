#include "bench/storage/plain_direct_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <map>

#include "bench/common/measure.h"

namespace kdn::bench {
namespace {

constexpr uint64_t kFileBytes = uint64_t{256} << 20;
constexpr uint64_t kBlockBytes = 4096;

bool Aligned(uint64_t value) { return value % kBlockBytes == 0; }

}  // namespace

// Read buffers for use again: a fresh one costs a page fault every 4 KiB.
class PlainDirectStore::Buffers {
 public:
  ~Buffers() {
    for (auto& [size, buffer] : free_) std::free(buffer);
  }

  uint8_t* Take(uint64_t size) {
    {
      std::lock_guard lock(mutex_);
      if (auto found = free_.find(size); found != free_.end()) {
        auto* buffer = static_cast<uint8_t*>(found->second);
        free_.erase(found);
        return buffer;
      }
    }
    void* buffer = std::aligned_alloc(kBlockBytes, size);
    if (buffer == nullptr) Fail("out of memory");
    return static_cast<uint8_t*>(buffer);
  }

  void GiveBack(uint8_t* buffer, uint64_t size) {
    std::lock_guard lock(mutex_);
    free_.emplace(size, buffer);
  }

 private:
  std::mutex mutex_;
  std::multimap<uint64_t, void*> free_;
};

PlainDirectStore::PlainDirectStore(std::string folder, SyncMode sync)
    : folder_(std::move(folder)), sync_(sync), buffers_(std::make_shared<Buffers>()) {
  struct stat info;
  for (uint64_t group = 0; stat(Path(group).c_str(), &info) == 0; ++group) {
    OpenGroup(group);
    const auto size = static_cast<uint64_t>(info.st_size);
    files_.back().used_bytes = size;
    files_.back().live_bytes = size;
    files_.back().sealed = true;
  }
}

PlainDirectStore::~PlainDirectStore() {
  if (absl::Status status = Close(); !status.ok()) Fail(status.ToString());
}

absl::StatusOr<ValueLocation> PlainDirectStore::Put(ByteSpan metadata, ByteSpan payload) {
  if (!Aligned(payload.size()) || !Aligned(reinterpret_cast<uintptr_t>(payload.data())) ||
      payload.size() > kFileBytes) {
    return absl::InvalidArgumentError("plain O_DIRECT takes aligned payloads only");
  }
  ValueLocation location{0, 0, payload.size()};
  int fd = -1;
  {
    std::lock_guard lock(mutex_);
    if (files_.empty() || files_.back().sealed || files_.back().used_bytes + payload.size() > kFileBytes) {
      if (!files_.empty()) files_.back().sealed = true;
      OpenGroup(files_.size());
    }
    File& file = files_.back();
    location.group = files_.size() - 1;
    location.offset = file.used_bytes;
    file.used_bytes += payload.size();
    file.live_bytes += payload.size();
    fd = file.fd;
  }
  const ssize_t written = pwrite(fd, payload.data(), payload.size(), static_cast<off_t>(location.offset));
  if (written != static_cast<ssize_t>(payload.size())) Fail("O_DIRECT write", errno);
  if (sync_ == SyncMode::kAlways && fdatasync(fd) != 0) Fail("fdatasync", errno);
  return location;
}

absl::StatusOr<SharedBytes> PlainDirectStore::Get(const ValueLocation& location, ByteRange range) {
  if (!Aligned(range.offset) || !Aligned(range.length)) return absl::InvalidArgumentError("range is not aligned");
  int fd = -1;
  {
    std::lock_guard lock(mutex_);
    if (location.group >= files_.size() || files_[location.group].fd < 0) return absl::NotFoundError("no such file");
    fd = files_[location.group].fd;
  }
  uint8_t* buffer = buffers_->Take(range.length);
  const ssize_t count = pread(fd, buffer, range.length, static_cast<off_t>(location.offset + range.offset));
  if (count != static_cast<ssize_t>(range.length)) Fail("O_DIRECT read", errno);
  // The buffers outlive the store for as long as one of them is held.
  std::shared_ptr<const void> owner(
      buffer, [buffers = buffers_, size = range.length](uint8_t* data) { buffers->GiveBack(data, size); });
  return SharedBytes(std::move(owner), ByteSpan(buffer, range.length));
}

absl::Status PlainDirectStore::Sync(uint64_t /*failures_before*/) {
  std::lock_guard lock(mutex_);
  for (const File& file : files_) {
    if (file.fd >= 0 && fdatasync(file.fd) != 0) Fail("fdatasync", errno);
  }
  return absl::OkStatus();
}

void PlainDirectStore::MarkDead(const ValueLocation& location) {
  std::lock_guard lock(mutex_);
  files_[location.group].live_bytes -= location.length;
}

std::vector<ValueGroup> PlainDirectStore::Groups() const {
  std::lock_guard lock(mutex_);
  std::vector<ValueGroup> groups;
  for (uint64_t group = 0; group < files_.size(); ++group) {
    const File& file = files_[group];
    if (file.fd >= 0) groups.push_back({group, file.used_bytes, file.live_bytes, file.sealed});
  }
  return groups;
}

absl::Status PlainDirectStore::SealActive() {
  std::lock_guard lock(mutex_);
  if (!files_.empty()) files_.back().sealed = true;
  return absl::OkStatus();
}

absl::Status PlainDirectStore::DropGroup(uint64_t group) {
  std::lock_guard lock(mutex_);
  close(files_[group].fd);
  files_[group].fd = -1;
  if (unlink(Path(group).c_str()) != 0) Fail("unlink", errno);
  return absl::OkStatus();
}

absl::Status PlainDirectStore::Scan(uint64_t group, const ScanOptions& options,
                                    const std::function<void(const ScannedValue&)>& visit) {
  return absl::UnimplementedError("plain files hold no records");
}

uint64_t PlainDirectStore::DiskBytes() const {
  uint64_t sum = 0;
  for (const ValueGroup& group : Groups()) sum += group.disk_bytes;
  return sum;
}

absl::Status PlainDirectStore::Close() {
  std::lock_guard lock(mutex_);
  for (File& file : files_) {
    if (file.fd >= 0) close(file.fd);
    file.fd = -1;
  }
  return absl::OkStatus();
}

std::string PlainDirectStore::Path(uint64_t group) const { return folder_ + "/" + std::to_string(group) + ".plain"; }

void PlainDirectStore::OpenGroup(uint64_t group) {
  const int fd = open(Path(group).c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
  if (fd < 0) Fail("open " + Path(group), errno);
  files_.push_back({fd, 0, 0, false});
}

}  // namespace kdn::bench
