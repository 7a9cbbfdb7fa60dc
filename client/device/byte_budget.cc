#include "client/device/byte_budget.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/time/time.h"
#include "kernels/base/status.h"

namespace kdn {
namespace {

constexpr size_t kSmallestCapacity = size_t{64} << 10;

// Four sizes per power of two: returned buffers fit the next request of about the same size.
size_t CapacityFor(uint64_t bytes) {
  const uint64_t wanted = std::max<uint64_t>(bytes, kSmallestCapacity);
  return AlignUp(wanted, std::bit_floor(wanted) / 4);
}

}  // namespace

uint64_t ByteBudget::used_bytes() const {
  absl::MutexLock lock(&mutex_);
  return used_bytes_;
}

bool ByteBudget::TryAcquire(uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  if (bytes > limit_bytes_ - used_bytes_) return false;
  used_bytes_ += bytes;
  return true;
}

absl::Status ByteBudget::Acquire(uint64_t bytes, int64_t deadline_nanos, CancelToken* cancel) {
  if (bytes > limit_bytes_) {
    return ResourceExhausted(name_, " is limited to ", limit_bytes_, " bytes, ", bytes, " are needed at once");
  }
  if (TryAcquire(bytes)) return absl::OkStatus();
  const ScopedCancelCallback on_cancel(cancel, [this] {
    absl::MutexLock lock(&mutex_);
    changed_.SignalAll();
  });
  absl::MutexLock lock(&mutex_);
  while (bytes > limit_bytes_ - used_bytes_) {
    const int64_t left_nanos = deadline_nanos - clock_.MonotonicNanos();
    if (cancel != nullptr && cancel->cancelled()) return Cancelled("cancelled by the caller");
    if (left_nanos <= 0) return DeadlineExceeded("no room in ", name_, " before the deadline");
    changed_.WaitWithTimeout(&mutex_, absl::Nanoseconds(left_nanos));
  }
  used_bytes_ += bytes;
  return absl::OkStatus();
}

void ByteBudget::Release(uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  used_bytes_ -= bytes;
  changed_.SignalAll();
}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  if (memory_ != nullptr) pool_->Return(std::move(memory_), capacity_);
  pool_ = other.pool_;
  memory_ = std::move(other.memory_);
  size_ = std::exchange(other.size_, 0);
  capacity_ = std::exchange(other.capacity_, 0);
  return *this;
}

Buffer::~Buffer() {
  if (memory_ != nullptr) pool_->Return(std::move(memory_), capacity_);
}

absl::StatusOr<Buffer> BufferPool::Acquire(uint64_t bytes, int64_t deadline_nanos, CancelToken* cancel) {
  if (bytes > budget_.limit_bytes()) return budget_.Acquire(bytes, deadline_nanos, cancel);
  const size_t capacity = std::min<uint64_t>(CapacityFor(bytes), budget_.limit_bytes());
  KDN_RETURN_IF_ERROR(budget_.Acquire(capacity, deadline_nanos, cancel));
  Buffer buffer;
  buffer.pool_ = this;
  buffer.size_ = bytes;
  buffer.capacity_ = capacity;
  {
    absl::MutexLock lock(&mutex_);
    for (Idle& idle : idle_) {
      if (idle.capacity != capacity) continue;
      buffer.memory_ = std::move(idle.memory);
      idle_bytes_ -= capacity;
      idle = std::move(idle_.back());
      idle_.pop_back();
      return buffer;
    }
  }
  buffer.memory_ = std::make_unique_for_overwrite<uint8_t[]>(capacity);
  return buffer;
}

void BufferPool::Return(std::unique_ptr<uint8_t[]> memory, size_t capacity) {
  {
    absl::MutexLock lock(&mutex_);
    if (idle_.size() < kMaxIdleBuffers && idle_bytes_ + capacity <= budget_.limit_bytes() / kIdleFraction) {
      idle_.push_back({std::move(memory), capacity});
      idle_bytes_ += capacity;
    }
  }
  memory.reset();
  budget_.Release(capacity);
}

}  // namespace kdn
