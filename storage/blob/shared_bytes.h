#ifndef KDN_STORAGE_BLOB_SHARED_BYTES_H_
#define KDN_STORAGE_BLOB_SHARED_BYTES_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "kernels/base/bytes.h"

namespace kdn {

// Immutable bytes kept alive by shared ownership: of the RAM tier, of reads in flight and of frames being sent, each
// for as long as it needs them. Copying is cheap; thread-safe like shared_ptr.
class SharedBytes {
 public:
  SharedBytes() = default;
  // `owner` keeps `bytes` alive.
  SharedBytes(std::shared_ptr<const void> owner, ByteSpan bytes) : owner_(std::move(owner)), bytes_(bytes) {}

  ByteSpan span() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  const uint8_t* data() const { return bytes_.data(); }
  // The part [offset, offset + length), which must lie inside; shares ownership.
  SharedBytes Slice(uint64_t offset, uint64_t length) const { return {owner_, bytes_.subspan(offset, length)}; }

 private:
  std::shared_ptr<const void> owner_;
  ByteSpan bytes_;
};

}  // namespace kdn

#endif  // KDN_STORAGE_BLOB_SHARED_BYTES_H_
