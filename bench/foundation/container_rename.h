#ifndef KDN_BENCH_FOUNDATION_CONTAINER_RENAME_H_
#define KDN_BENCH_FOUNDATION_CONTAINER_RENAME_H_

#include "kernels/base/bytes.h"
#include "kernels/base/sha256.h"

namespace kdn::bench {

// Gives a whole container (version 1, see kernels/format/FORMAT.md) another chunk digest, in place: a new chunk to
// every store, at the price of a checksum over the header.
void RenameContainer(MutableByteSpan container, const Digest& chunk_digest);

}  // namespace kdn::bench

#endif  // KDN_BENCH_FOUNDATION_CONTAINER_RENAME_H_
