#ifndef KDN_STORAGE_FILE_ALIGNED_BUFFER_H_
#define KDN_STORAGE_FILE_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "kernels/base/bytes.h"
#include "storage/file/file_system.h"

namespace kdn {

// Uninitialised memory that direct I/O can use: address and size are multiples of kIoAlignment. Move-only. Empty (size
// 0, no memory) when default-constructed or when the memory could not be had.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  // At least `bytes`, rounded up.
  explicit AlignedBuffer(size_t bytes);
  AlignedBuffer(AlignedBuffer&& other) noexcept { Swap(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    Swap(other);
    return *this;
  }
  ~AlignedBuffer();

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  MutableByteSpan span() const { return {data_, size_}; }

 private:
  void Swap(AlignedBuffer& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }

  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Buffers of one size for reuse: a write needs some for a moment, and fresh pages cost more than the copy into them.
// Keeps at most `max_idle` of them. Thread-safe.
class BufferPool {
 public:
  BufferPool(size_t buffer_bytes, size_t max_idle) : buffer_bytes_(buffer_bytes), max_idle_(max_idle) {}

  // A buffer of buffer_bytes(); empty when the memory could not be had.
  AlignedBuffer Take();
  void Return(AlignedBuffer buffer);
  size_t buffer_bytes() const { return buffer_bytes_; }

 private:
  const size_t buffer_bytes_;
  const size_t max_idle_;
  absl::Mutex mu_;
  std::vector<AlignedBuffer> idle_ ABSL_GUARDED_BY(mu_);
};

// Buffers of any size for reuse, in size classes at most an eighth apart. A large read into fresh memory spends more
// time on page faults than on the read, with every allocator that gives large blocks back. Keeps at most
// `max_idle_bytes`. Thread-safe; buffers outlive the cache where they have to.
class BufferCache {
 public:
  explicit BufferCache(size_t max_idle_bytes);
  ~BufferCache();

  // At least `bytes`; given back by the last owner. Null when the memory could not be had.
  std::shared_ptr<AlignedBuffer> Take(size_t bytes);

 private:
  struct Idle;
  const std::shared_ptr<Idle> idle_;
};

}  // namespace kdn

#endif  // KDN_STORAGE_FILE_ALIGNED_BUFFER_H_
