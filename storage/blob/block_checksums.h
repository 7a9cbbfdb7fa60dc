#ifndef KDN_STORAGE_BLOB_BLOCK_CHECKSUMS_H_
#define KDN_STORAGE_BLOB_BLOCK_CHECKSUMS_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "kernels/base/bytes.h"
#include "kernels/base/crc32c.h"

namespace kdn {

// CRC-32Cs of a value that stays in memory and is sent again and again, in the frames that its readers ask for: those
// of its blocks, each computed when it is first asked for and remembered. A reader that checks them notices bytes that
// changed in memory since. Thread-safe.
class BlockChecksums {
 public:
  static constexpr uint64_t kBlockBytes = uint64_t{256} << 10;

  explicit BlockChecksums(uint64_t value_bytes)
      : value_bytes_(value_bytes), blocks_(CeilDiv(value_bytes, kBlockBytes)) {}

  // The CRC of A followed by `piece`, the part of the value at `offset`, where `crc` is the CRC of A. What is no whole
  // block is computed anew.
  uint32_t Extend(uint32_t crc, uint64_t offset, ByteSpan piece) {
    while (!piece.empty()) {
      const uint64_t begin = offset / kBlockBytes * kBlockBytes;
      const uint64_t end = std::min(begin + kBlockBytes, value_bytes_);
      const ByteSpan part = piece.first(std::min<uint64_t>(piece.size(), end - offset));
      const bool whole = offset == begin && part.size() == end - begin;
      crc = whole ? Crc32cCombine(crc, OfBlock(offset / kBlockBytes, part), part.size()) : Crc32cExtend(crc, part);
      piece = piece.subspan(part.size());
      offset += part.size();
    }
    return crc;
  }

 private:
  static constexpr uint64_t kKnown = uint64_t{1} << 32;

  uint32_t OfBlock(uint64_t index, ByteSpan block) {
    const uint64_t known = blocks_[index].load(std::memory_order_relaxed);
    if (known != 0) return static_cast<uint32_t>(known);
    const uint32_t crc = Crc32c(block);
    blocks_[index].store(kKnown | crc, std::memory_order_relaxed);
    return crc;
  }

  const uint64_t value_bytes_;
  std::vector<std::atomic<uint64_t>> blocks_;  // kKnown | CRC, or 0
};

}  // namespace kdn

#endif  // KDN_STORAGE_BLOB_BLOCK_CHECKSUMS_H_
