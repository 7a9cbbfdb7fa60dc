#include "kernels/base/crc32c.h"

#include <gtest/gtest.h>

#include <numeric>

namespace kdn {
namespace {

TEST(Crc32cTest, MatchesPublishedVectors) {
  EXPECT_EQ(Crc32c(AsBytes("123456789")), 0xE3069283u);
  // RFC 3720, appendix B.4: 32 bytes of zeroes and of ones.
  EXPECT_EQ(Crc32c(std::vector<uint8_t>(32, 0)), 0x8A9136AAu);
  EXPECT_EQ(Crc32c(std::vector<uint8_t>(32, 0xff)), 0x62A8AB43u);
  EXPECT_EQ(Crc32c({}), 0u);
}

TEST(Crc32cTest, ExtendEqualsWhole) {
  const std::string_view text = "The quick brown fox";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    const uint32_t head = Crc32c(AsBytes(text.substr(0, cut)));
    EXPECT_EQ(Crc32cExtend(head, AsBytes(text.substr(cut))), Crc32c(AsBytes(text)));
  }
}

TEST(Crc32cTest, CombineEqualsWhole) {
  std::vector<uint8_t> bytes(70'001);
  std::iota(bytes.begin(), bytes.end(), uint8_t{3});
  const ByteSpan whole(bytes);
  for (const size_t cut : {size_t{0}, size_t{1}, size_t{4'096}, size_t{65'536}, size_t{69'999}, bytes.size()}) {
    EXPECT_EQ(Crc32cCombine(Crc32c(whole.first(cut)), Crc32c(whole.subspan(cut)), bytes.size() - cut), Crc32c(whole))
        << cut;
  }
}

TEST(Crc32cTest, CombineKnowsLengthsBeyondFourGigabytes) {
  // Zeros appended by doubling: 2^36 of them at once are 2^35 twice.
  const uint32_t crc = Crc32c(AsBytes("123456789"));
  const std::vector<uint8_t> zeros(1 << 12);
  uint32_t of_zeros = Crc32c(zeros);
  for (int i = 12; i < 35; ++i) of_zeros = Crc32cCombine(of_zeros, of_zeros, uint64_t{1} << i);
  const uint64_t half = uint64_t{1} << 35;
  const uint32_t of_all_zeros = Crc32cCombine(of_zeros, of_zeros, half);
  EXPECT_EQ(Crc32cCombine(crc, of_all_zeros, 2 * half),
            Crc32cCombine(Crc32cCombine(crc, of_zeros, half), of_zeros, half));
}

TEST(Crc32cTest, CopyReturnsTheCrcOfTheCopy) {
  std::vector<uint8_t> from(100'003);
  std::iota(from.begin(), from.end(), uint8_t{0});
  std::vector<uint8_t> to(from.size());
  EXPECT_EQ(CopyAndCrc32c(0, from, to.data()), Crc32c(from));
  EXPECT_EQ(from, to);
}

}  // namespace
}  // namespace kdn
