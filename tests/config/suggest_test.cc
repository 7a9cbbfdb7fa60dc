#include "config/suggest.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace kdn::config {
namespace {

TEST(EditDistanceTest, CountsInsertionsDeletionsSubstitutionsAndSwaps) {
  EXPECT_EQ(EditDistance("", ""), 0u);
  EXPECT_EQ(EditDistance("", "abc"), 3u);
  EXPECT_EQ(EditDistance("abc", ""), 3u);
  EXPECT_EQ(EditDistance("listen", "listen"), 0u);
  EXPECT_EQ(EditDistance("lisen", "listen"), 1u);
  EXPECT_EQ(EditDistance("listenn", "listen"), 1u);
  EXPECT_EQ(EditDistance("listan", "listen"), 1u);
  EXPECT_EQ(EditDistance("litsen", "listen"), 1u);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
}

TEST(EditDistanceTest, TakesOverlongNamesAsFarApart) {
  const std::string longest(kMaxSuggestBytes, 'x');
  EXPECT_EQ(EditDistance(longest, longest), 0u);
  EXPECT_EQ(EditDistance(longest + "x", "x"), std::numeric_limits<size_t>::max());
}

TEST(DidYouMeanTest, OffersTheNearestKeyOfTheSection) {
  EXPECT_EQ(DidYouMeanKey("server.lisen"), ", did you mean 'listen'?");
  EXPECT_EQ(DidYouMeanKey("storage.sync_intervall"), ", did you mean 'sync_interval'?");
}

TEST(DidYouMeanTest, OffersTheKeyOfAnotherSection) {
  EXPECT_EQ(DidYouMeanKey("storage.block_cache"), ", did you mean 'memory.block_cache'?");
  EXPECT_EQ(DidYouMeanKey("sever.drain_timeout"), ", did you mean 'server.drain_timeout'?");
}

TEST(DidYouMeanTest, IsSilentWhenNothingIsNear) {
  EXPECT_EQ(DidYouMeanKey("server.colour"), "");
  EXPECT_EQ(DidYouMeanKey(""), "");
  EXPECT_EQ(DidYouMeanKey(std::string(1000, 'x')), "");
  EXPECT_EQ(DidYouMeanSection("kubernetes"), "");
}

TEST(DidYouMeanTest, TellsWhereAKeyWithoutItsSectionGoes) {
  EXPECT_EQ(DidYouMeanSection("sevrer"), ", did you mean 'server'?");
  EXPECT_EQ(DidYouMeanSection("server.keepalive"), ", write it as 'keepalive:' under 'server:'");
  EXPECT_EQ(DidYouMeanSection("keepalive"), ", write it as 'keepalive:' under 'server:'");
}

}  // namespace
}  // namespace kdn::config
