#ifndef KDN_KERNELS_BASE_CRC32C_H_
#define KDN_KERNELS_BASE_CRC32C_H_

#include <cstdint>

#include "kernels/base/bytes.h"

// CRC-32C (Castagnoli, reflected, initial and final inversion: RFC 3720, appendix B.4). "123456789" gives 0xE3069283.
// Thread-safe. ISA-L underneath: about 12 GB/s on one core, where RocksDB's own in Debian runs at 1.3.

namespace kdn {

// CRC of `bytes`.
uint32_t Crc32c(ByteSpan bytes);

// CRC of A followed by `bytes`, where `crc` is the CRC of A. Crc32cExtend(0, b) == Crc32c(b).
uint32_t Crc32cExtend(uint32_t crc, ByteSpan bytes);

// CRC of A followed by B, from the CRCs of both and the length of B. Takes some 0.1 us for each bit that is set in it,
// so that knowing the CRC of a stretch is worth more than its bytes from about a KiB on.
uint32_t Crc32cCombine(uint32_t crc_a, uint32_t crc_b, uint64_t b_bytes);

// Copies `from` to `to` (which must not overlap it and has room) and extends `crc` over the copied bytes, in
// cache-sized steps so that memory is read once. What is checked is what was written to `to`: a source that changes
// during the copy cannot slip past.
uint32_t CopyAndCrc32c(uint32_t crc, ByteSpan from, uint8_t* to);

}  // namespace kdn

#endif  // KDN_KERNELS_BASE_CRC32C_H_
