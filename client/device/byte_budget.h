#ifndef KDN_CLIENT_DEVICE_BYTE_BUDGET_H_
#define KDN_CLIENT_DEVICE_BYTE_BUDGET_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/transport/cancel_token.h"
#include "kernels/base/bytes.h"
#include "kernels/base/clock.h"

namespace kdn {

// A hard limit on bytes held. Thread-safe.
class ByteBudget {
 public:
  // `name` is what messages call it.
  ByteBudget(std::string_view name, uint64_t limit_bytes, const Clock& clock)
      : name_(name), limit_bytes_(limit_bytes), clock_(clock) {}
  ByteBudget(const ByteBudget&) = delete;
  ByteBudget& operator=(const ByteBudget&) = delete;

  uint64_t limit_bytes() const { return limit_bytes_; }
  uint64_t used_bytes() const;

  // False when there is no room for `bytes` now.
  bool TryAcquire(uint64_t bytes);
  // Waits for room. ResourceExhausted at once when `bytes` exceed the whole limit; DeadlineExceeded or Cancelled.
  // `cancel` may be null.
  absl::Status Acquire(uint64_t bytes, int64_t deadline_nanos, CancelToken* cancel);
  void Release(uint64_t bytes);

 private:
  const std::string name_;
  const uint64_t limit_bytes_;
  const Clock& clock_;
  mutable absl::Mutex mutex_;
  absl::CondVar changed_;
  uint64_t used_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

class BufferPool;

// Uninitialised memory from a pool, returned to it by the destructor. Movable.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  MutableByteSpan span() const { return {memory_.get(), size_}; }

 private:
  friend class BufferPool;
  BufferPool* pool_ = nullptr;
  std::unique_ptr<uint8_t[]> memory_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

// Buffers under a byte limit. Returned ones are kept for reuse, so that receiving does not fault in fresh pages: at
// most a kIdleFraction-th of the limit. Thread-safe; must outlive its buffers.
class BufferPool {
 public:
  static constexpr uint64_t kIdleFraction = 4;
  static constexpr size_t kMaxIdleBuffers = 64;

  BufferPool(std::string_view name, uint64_t limit_bytes, const Clock& clock) : budget_(name, limit_bytes, clock) {}

  // Errors as ByteBudget::Acquire.
  absl::StatusOr<Buffer> Acquire(uint64_t bytes, int64_t deadline_nanos, CancelToken* cancel);
  uint64_t used_bytes() const { return budget_.used_bytes(); }

 private:
  friend class Buffer;
  struct Idle {
    std::unique_ptr<uint8_t[]> memory;
    size_t capacity = 0;
  };
  void Return(std::unique_ptr<uint8_t[]> memory, size_t capacity);

  ByteBudget budget_;
  absl::Mutex mutex_;
  std::vector<Idle> idle_ ABSL_GUARDED_BY(mutex_);
  uint64_t idle_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace kdn

#endif  // KDN_CLIENT_DEVICE_BYTE_BUDGET_H_
