#include "kernels/base/sha256.h"

#include <gtest/gtest.h>

namespace kdn {
namespace {

TEST(Sha256Test, MatchesFips180Vectors) {
  EXPECT_EQ(Sha256::Of({}).ToHex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256::Of(AsBytes("abc")).ToHex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256Test, UpdatesConcatenate) {
  Sha256 hash;
  hash.Update(AsBytes("a"));
  hash.Update(AsBytes("bc"));
  EXPECT_EQ(hash.Finish(), Sha256::Of(AsBytes("abc")));
}

TEST(Sha256Test, HmacMatchesRfc4231CaseTwo) {
  EXPECT_EQ(HmacSha256(AsBytes("Jefe"), AsBytes("what do ya want for nothing?")).ToHex(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST(DigestTest, ParsesOnlyExactSizes) {
  const Digest digest = Sha256::Of(AsBytes("abc"));
  EXPECT_EQ(Digest::FromHex(digest.ToHex()), digest);
  EXPECT_EQ(Digest::FromBytes(digest.span()), digest);
  EXPECT_FALSE(Digest::FromHex(digest.ToHex().substr(2)).has_value());
  EXPECT_FALSE(Digest::FromHex(std::string(64, 'g')).has_value());
  EXPECT_FALSE(Digest::FromBytes(digest.span().first(31)).has_value());
}

TEST(DigestTest, ConstantTimeEqualComparesSizeAndBytes) {
  EXPECT_TRUE(ConstantTimeEqual(AsBytes("abc"), AsBytes("abc")));
  EXPECT_FALSE(ConstantTimeEqual(AsBytes("abc"), AsBytes("abd")));
  EXPECT_FALSE(ConstantTimeEqual(AsBytes("abc"), AsBytes("ab")));
}

}  // namespace
}  // namespace kdn
