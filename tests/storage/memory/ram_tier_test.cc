#include "storage/memory/ram_tier.h"

#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace kdn {
namespace {

SharedBytes Bytes(size_t size, uint8_t fill = 0) {
  auto owner = std::make_shared<std::vector<uint8_t>>(size, fill);
  const ByteSpan span(*owner);
  return SharedBytes(std::move(owner), span);
}

ValueLocation At(uint64_t offset, uint64_t group = 1) { return {group, offset, 100}; }

TEST(RamTierTest, FindsWhatWasInserted) {
  RamTier tier(1000);
  EXPECT_FALSE(tier.Find(At(1)).has_value());
  ASSERT_TRUE(tier.Insert(At(1), Bytes(100, 7)));
  const std::optional<SharedBytes> found = tier.Find(At(1));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->size(), 100u);
  EXPECT_EQ(found->data()[99], 7);
  const RamTierStats stats = tier.Stats();
  EXPECT_EQ(stats.hits, 1u);
  EXPECT_EQ(stats.misses, 1u);
  EXPECT_EQ(stats.objects, 1u);
  EXPECT_EQ(stats.used_bytes, 100u);
}

TEST(RamTierTest, EverybodyWhoFindsAValueSharesItsChecksums) {
  RamTier tier(1000);
  ASSERT_TRUE(tier.Insert(At(1), Bytes(100, 7)));
  const std::optional<RamTier::Found> one = tier.FindWithChecksums(At(1));
  const std::optional<RamTier::Found> other = tier.FindWithChecksums(At(1));
  ASSERT_TRUE(one.has_value() && other.has_value());
  EXPECT_EQ(one->checksums, other->checksums);
  tier.Remove(At(1));
  EXPECT_EQ(one->checksums->Extend(0, 0, one->bytes.span()), Crc32c(one->bytes.span()));
}

TEST(RamTierTest, SecondInsertOfTheSameValueIsRefused) {
  RamTier tier(1000);
  ASSERT_TRUE(tier.Insert(At(1), Bytes(100)));
  EXPECT_FALSE(tier.Insert(At(1), Bytes(100)));
  EXPECT_EQ(tier.Stats().used_bytes, 100u);
}

TEST(RamTierTest, OffTierDeclinesEverything) {
  RamTier tier(0);
  EXPECT_FALSE(tier.Insert(At(1), Bytes(1)));
  EXPECT_FALSE(tier.Find(At(1)).has_value());
  EXPECT_EQ(tier.Stats().declined, 1u);
}

TEST(RamTierTest, ObjectLargerThanTheTierIsDeclined) {
  RamTier tier(1000);
  EXPECT_FALSE(tier.Insert(At(1), Bytes(1001)));
  EXPECT_TRUE(tier.Insert(At(2), Bytes(1000)));
}

TEST(RamTierTest, NeverExceedsItsLimit) {
  RamTier tier(10'000);
  std::mt19937 rng(3);
  std::vector<SharedBytes> held;
  for (uint64_t i = 0; i < 5000; ++i) {
    tier.Insert(At(i), Bytes(rng() % 3000));
    if (rng() % 3 == 0) {
      std::optional<SharedBytes> found = tier.Find(At(i - rng() % 10));
      if (found.has_value()) held.push_back(*std::move(found));
    }
    if (held.size() > 4) held.erase(held.begin());
    const RamTierStats stats = tier.Stats();
    ASSERT_LE(stats.used_bytes, stats.capacity_bytes);
    ASSERT_LE(stats.cached_bytes, stats.used_bytes);
  }
  EXPECT_GT(tier.Stats().evictions, 1000u);
}

TEST(RamTierTest, BytesHeldByReadersCountAfterRemoval) {
  RamTier tier(1000);
  ASSERT_TRUE(tier.Insert(At(1), Bytes(600, 5)));
  std::optional<SharedBytes> held = tier.Find(At(1));
  tier.Remove(At(1));
  EXPECT_FALSE(tier.Contains(At(1)));
  EXPECT_EQ(tier.Stats().used_bytes, 600u);
  EXPECT_FALSE(tier.Insert(At(2), Bytes(600)));
  EXPECT_EQ(tier.Stats().declined, 1u);
  EXPECT_EQ(held->data()[0], 5);
  held.reset();
  EXPECT_EQ(tier.Stats().used_bytes, 0u);
  EXPECT_TRUE(tier.Insert(At(2), Bytes(600)));
}

TEST(RamTierTest, ObjectsThatReadersHoldAreNotThrownOut) {
  RamTier tier(1000);
  ASSERT_TRUE(tier.Insert(At(1), Bytes(500)));
  ASSERT_TRUE(tier.Insert(At(2), Bytes(500)));
  const std::optional<SharedBytes> held = tier.Find(At(1));
  ASSERT_TRUE(tier.Insert(At(3), Bytes(500)));
  EXPECT_TRUE(tier.Contains(At(1)));
  EXPECT_FALSE(tier.Contains(At(2)));
  const std::optional<SharedBytes> also_held = tier.Find(At(3));
  EXPECT_FALSE(tier.Insert(At(4), Bytes(500)));  // everything is held
}

TEST(RamTierTest, BytesOutliveTheTier) {
  auto tier = std::make_unique<RamTier>(1000);
  ASSERT_TRUE(tier->Insert(At(1), Bytes(100, 9)));
  const std::optional<SharedBytes> held = tier->Find(At(1));
  tier.reset();
  EXPECT_EQ(held->data()[50], 9);
}

TEST(RamTierTest, ScanDoesNotWashOutWhatIsRead) {
  RamTier tier(10'000);
  for (uint64_t i = 0; i < 50; ++i) ASSERT_TRUE(tier.Insert(At(i), Bytes(100)));
  for (uint64_t i = 0; i < 50; ++i) ASSERT_TRUE(tier.Find(At(i)).has_value());
  for (uint64_t i = 1000; i < 2000; ++i) {
    ASSERT_TRUE(tier.Insert(At(i), Bytes(100)));
    if (i % 20 == 0) {
      for (uint64_t hot = 0; hot < 50; ++hot) tier.Find(At(hot));
    }
  }
  for (uint64_t i = 0; i < 50; ++i) EXPECT_TRUE(tier.Contains(At(i))) << i;
}

TEST(RamTierTest, WhatReturnsSoonGoesStraightToMain) {
  RamTier tier(1000);
  for (uint64_t i = 0; i < 20; ++i) ASSERT_TRUE(tier.Insert(At(i), Bytes(100)));
  ASSERT_FALSE(tier.Contains(At(5)));  // a ghost now
  ASSERT_TRUE(tier.Insert(At(5), Bytes(100)));
  // New objects pass through the small queue and push each other out before they reach what is in main.
  for (uint64_t i = 100; i < 130; ++i) ASSERT_TRUE(tier.Insert(At(i), Bytes(100)));
  EXPECT_TRUE(tier.Contains(At(5)));
}

TEST(RamTierTest, RekeyFollowsAMovedValue) {
  RamTier tier(1000);
  ASSERT_TRUE(tier.Insert(At(1, 1), Bytes(100, 3)));
  tier.Rekey(At(1, 1), At(7, 2));
  EXPECT_FALSE(tier.Contains(At(1, 1)));
  EXPECT_EQ(tier.Find(At(7, 2))->data()[0], 3);
  tier.RemoveGroup(1);
  EXPECT_TRUE(tier.Contains(At(7, 2)));
  tier.Remove(At(7, 2));
  EXPECT_EQ(tier.Stats().used_bytes, 0u);
}

TEST(RamTierTest, RemoveGroupTakesAllOfItAndNothingElse) {
  RamTier tier(10'000);
  for (uint64_t i = 0; i < 20; ++i) ASSERT_TRUE(tier.Insert(At(i, i % 2), Bytes(100)));
  tier.RemoveGroup(0);
  for (uint64_t i = 0; i < 20; ++i) EXPECT_EQ(tier.Contains(At(i, i % 2)), i % 2 == 1);
  EXPECT_EQ(tier.Stats().used_bytes, 1000u);
}

TEST(RamTierTest, ThreadsShareIt) {
  RamTier tier(20'000);
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 8; ++t) {
    threads.emplace_back([&tier, t] {
      std::mt19937 rng(t);
      for (int i = 0; i < 3000; ++i) {
        const ValueLocation location = At(rng() % 200, rng() % 4);
        switch (rng() % 8) {
          case 0:
            tier.Remove(location);
            break;
          case 1:
            tier.RemoveGroup(rng() % 4);
            break;
          case 2:
            tier.Rekey(location, At(rng() % 200, rng() % 4));
            break;
          case 3:
          case 4:
            tier.Insert(location, Bytes(rng() % 1000, static_cast<uint8_t>(t)));
            break;
          default:
            if (const auto found = tier.Find(location); found.has_value() && found->size() > 0) {
              // All bytes of one object are alike: another owner's writing would show.
              EXPECT_EQ(found->data()[0], found->data()[found->size() - 1]);
            }
        }
        EXPECT_LE(tier.Stats().used_bytes, 20'000u);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace kdn
