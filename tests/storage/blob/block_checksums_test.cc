#include "storage/blob/block_checksums.h"

#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace kdn {
namespace {

constexpr uint64_t kBlock = BlockChecksums::kBlockBytes;

std::vector<uint8_t> RandomBytes(size_t size) {
  std::mt19937 random(1);
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

TEST(BlockChecksumsTest, EveryPieceHasItsOwnCrcWhateverWasAskedBefore) {
  const std::vector<uint8_t> value = RandomBytes(3 * kBlock + 1'234);
  BlockChecksums checksums(value.size());
  const uint64_t cuts[] = {0, 1, kBlock - 1, kBlock, kBlock + 1, 2 * kBlock, 3 * kBlock, 3 * kBlock + 7, value.size()};
  for (int round = 0; round < 2; ++round) {  // the second meets what the first has remembered
    for (const uint64_t begin : cuts) {
      for (const uint64_t end : cuts) {
        if (end < begin) continue;
        const ByteSpan piece = ByteSpan(value).subspan(begin, end - begin);
        EXPECT_EQ(checksums.Extend(0, begin, piece), Crc32c(piece)) << begin << " to " << end;
        EXPECT_EQ(checksums.Extend(77, begin, piece), Crc32cExtend(77, piece)) << begin << " to " << end;
      }
    }
  }
}

TEST(BlockChecksumsTest, BytesThatChangedSinceDoNotMatch) {
  std::vector<uint8_t> value = RandomBytes(2 * kBlock);
  BlockChecksums checksums(value.size());
  const uint32_t before = checksums.Extend(0, 0, value);
  value[kBlock + 5] ^= 1;
  EXPECT_EQ(checksums.Extend(0, 0, value), before);
  EXPECT_NE(Crc32c(value), before);
}

}  // namespace
}  // namespace kdn
