#include "bench/foundation/container_rename.h"

#include <algorithm>

#include "bench/common/measure.h"
#include "kernels/format/container.h"

namespace kdn::bench {
namespace {

// Offsets of fixed fields in the header, as FORMAT.md has them.
constexpr size_t kCrcOffset = 20;
constexpr size_t kChunkDigestOffset = kContainerPreludeBytes + Digest::kBytes;  // behind the fingerprint

}  // namespace

void RenameContainer(MutableByteSpan container, const Digest& chunk_digest) {
  const auto sizes = PeekContainer(container);
  if (!sizes.ok()) Fail(sizes.status().ToString());
  std::copy(chunk_digest.bytes.begin(), chunk_digest.bytes.end(), container.begin() + kChunkDigestOffset);
  StoreLe<uint32_t>(0, container.data() + kCrcOffset);  // the CRC is taken with its own field zero
  StoreLe<uint32_t>(Crc32c(container.data(), sizes->header_bytes), container.data() + kCrcOffset);
}

}  // namespace kdn::bench
