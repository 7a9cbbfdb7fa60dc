#include "storage/file/aligned_buffer.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <iterator>
#include <map>

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

struct BufferCache::Idle {
  explicit Idle(size_t limit) : max_bytes(limit) {}

  AlignedBuffer Take(size_t size) {
    absl::MutexLock lock(&mu);
    const auto found = buffers.find(size);
    if (found == buffers.end()) return {};
    AlignedBuffer buffer = std::move(found->second.back());
    found->second.pop_back();
    if (found->second.empty()) buffers.erase(found);
    bytes -= size;
    return buffer;
  }

  // Other sizes make room: a store whose values have changed must not keep buffers for those it had.
  void Return(AlignedBuffer buffer) {
    const size_t size = buffer.size();
    absl::MutexLock lock(&mu);
    while (bytes + size > max_bytes && !buffers.empty()) {
      auto victim = buffers.begin();
      if (victim->first == size && std::next(victim) != buffers.end()) ++victim;
      bytes -= victim->first;
      victim->second.pop_back();
      if (victim->second.empty()) buffers.erase(victim);
    }
    if (bytes + size > max_bytes) return;
    bytes += size;
    buffers[size].push_back(std::move(buffer));
  }

  const size_t max_bytes;
  absl::Mutex mu;
  size_t bytes ABSL_GUARDED_BY(mu) = 0;
  std::map<size_t, std::vector<AlignedBuffer>> buffers ABSL_GUARDED_BY(mu);
};

BufferCache::BufferCache(size_t max_idle_bytes) : idle_(std::make_shared<Idle>(max_idle_bytes)) {}
BufferCache::~BufferCache() = default;

std::shared_ptr<AlignedBuffer> BufferCache::Take(size_t bytes) {
  constexpr size_t kClassesPerDoubling = 8;
  const size_t spacing = std::max(kIoAlignment, std::bit_floor(std::max<size_t>(bytes, 1)) / kClassesPerDoubling);
  const size_t size = AlignUp(std::max<size_t>(bytes, 1), spacing);
  AlignedBuffer buffer = idle_->Take(size);
  if (buffer.size() == 0) buffer = AlignedBuffer(size);
  if (buffer.size() == 0) return nullptr;
  return {new AlignedBuffer(std::move(buffer)), [idle = idle_](AlignedBuffer* returned) {
            idle->Return(std::move(*returned));
            delete returned;
          }};
}

}  // namespace kdn
