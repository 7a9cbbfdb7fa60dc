#include "storage/file/aligned_buffer.h"

#include <cstdlib>

namespace kdn {

AlignedBuffer::AlignedBuffer(size_t bytes) {
  if (bytes == 0) return;
  const size_t rounded = AlignUp(bytes, kIoAlignment);
  data_ = static_cast<uint8_t*>(std::aligned_alloc(kIoAlignment, rounded));
  if (data_ != nullptr) size_ = rounded;
}

AlignedBuffer::~AlignedBuffer() { std::free(data_); }

AlignedBuffer BufferPool::Take() {
  {
    absl::MutexLock lock(&mu_);
    if (!idle_.empty()) {
      AlignedBuffer buffer = std::move(idle_.back());
      idle_.pop_back();
      return buffer;
    }
  }
  return AlignedBuffer(buffer_bytes_);
}

void BufferPool::Return(AlignedBuffer buffer) {
  if (buffer.size() == 0) return;
  absl::MutexLock lock(&mu_);
  if (idle_.size() < max_idle_) idle_.push_back(std::move(buffer));
}

}  // namespace kdn
