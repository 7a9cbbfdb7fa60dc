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

TEST(Crc32cTest, CopyReturnsTheCrcOfTheCopy) {
  std::vector<uint8_t> from(100'003);
  std::iota(from.begin(), from.end(), uint8_t{0});
  std::vector<uint8_t> to(from.size());
  EXPECT_EQ(CopyAndCrc32c(0, from, to.data()), Crc32c(from));
  EXPECT_EQ(from, to);
}

}  // namespace
}  // namespace kdn
