#include "storage/file/uring_queue.h"

#include <liburing.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <optional>

#include "storage/file/errno_status.h"

namespace kdn {
namespace {

class UringQueue : public ReadQueue {
 public:
  UringQueue(UringPool& pool, io_uring* ring, File& file, int fd) : pool_(pool), ring_(ring), file_(file), fd_(fd) {}

  ~UringQueue() override {
    while (pending() > 0) WaitOldest().IgnoreError();
    pool_.Return(ring_);
  }

  void Submit(uint64_t offset, MutableByteSpan to) override {
    assert(pending() < kDepth);
    Operation& operation = operations_[submitted_++ % kDepth];
    operation = {.offset = offset, .to = to};
    io_uring_sqe* entry = io_uring_get_sqe(ring_);
    io_uring_prep_read(entry, fd_, to.data(), static_cast<unsigned>(to.size()), offset);
    io_uring_sqe_set_data(entry, &operation);
    int submitted = 0;
    do {
      submitted = io_uring_submit(ring_);
    } while (submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY);
    if (submitted < 0) operation.result = submitted;
  }

  absl::StatusOr<size_t> WaitOldest() override {
    Operation& operation = operations_[finished_ % kDepth];
    while (!operation.result.has_value()) Reap();
    ++finished_;
    return Complete(operation);
  }

  size_t pending() const override { return submitted_ - finished_; }
  size_t max_pending() const override { return kDepth; }

 private:
  static constexpr size_t kDepth = UringPool::kEntries;

  struct Operation {
    uint64_t offset = 0;
    MutableByteSpan to = {};
    std::optional<int> result = std::nullopt;  // bytes, or a negative errno
  };

  void Reap() {
    io_uring_cqe* completion = nullptr;
    if (io_uring_wait_cqe(ring_, &completion) != 0) return;
    static_cast<Operation*>(io_uring_cqe_get_data(completion))->result = completion->res;
    io_uring_cqe_seen(ring_, completion);
  }

  // What the kernel read only in part, or wants tried again, is finished the plain way.
  absl::StatusOr<size_t> Complete(const Operation& operation) {
    const int result = *operation.result;
    const size_t done = result > 0 ? static_cast<size_t>(result) : 0;
    if (done == operation.to.size()) return done;
    if (result < 0 && result != -EINTR && result != -EAGAIN) {
      return ReadErrnoStatus(-result, "read", "through io_uring");
    }
    // Not whole blocks: the end of the file, and nothing a direct read could go on from.
    if (done % kIoAlignment != 0) return done;
    const auto rest = file_.ReadAt(operation.offset + done, operation.to.subspan(done));
    if (!rest.ok()) return rest.status();
    return done + *rest;
  }

  UringPool& pool_;
  io_uring* const ring_;
  File& file_;
  const int fd_;
  std::array<Operation, kDepth> operations_;
  size_t submitted_ = 0;
  size_t finished_ = 0;
};

}  // namespace

UringPool::~UringPool() {
  for (io_uring* ring : idle_) {
    io_uring_queue_exit(ring);
    delete ring;
  }
}

io_uring* UringPool::Take() {
  {
    absl::MutexLock lock(&mu_);
    if (refused_) return nullptr;
    if (!idle_.empty()) {
      io_uring* ring = idle_.back();
      idle_.pop_back();
      return ring;
    }
  }
  auto ring = std::make_unique<io_uring>();
  if (const int result = io_uring_queue_init(kEntries, ring.get(), 0); result != 0) {
    absl::MutexLock lock(&mu_);
    // A ring may also be refused for want of memory, for this once.
    refused_ = refused_ || result == -ENOSYS || result == -EPERM || result == -EACCES;
    return nullptr;
  }
  return ring.release();
}

void UringPool::Return(io_uring* ring) {
  {
    absl::MutexLock lock(&mu_);
    if (idle_.size() < kMaxIdle) {
      idle_.push_back(ring);
      return;
    }
  }
  io_uring_queue_exit(ring);
  delete ring;
}

std::unique_ptr<ReadQueue> NewUringQueue(UringPool& pool, File& file, int fd) {
  io_uring* ring = pool.Take();
  if (ring == nullptr) return nullptr;
  return std::make_unique<UringQueue>(pool, ring, file, fd);
}

}  // namespace kdn
