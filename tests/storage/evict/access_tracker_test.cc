#include "storage/evict/access_tracker.h"

#include <map>
#include <optional>
#include <string>

#include "gtest/gtest.h"

namespace kdn {
namespace {

ChunkKey Key(uint32_t i, TenantId tenant = 1) { return {tenant, Sha256::Of(AsBytes(std::to_string(i)))}; }

TEST(AccessTrackerTest, RemembersAndForgets) {
  AccessTracker tracker;
  EXPECT_EQ(tracker.Recency(Key(1)), 0u);
  EXPECT_TRUE(tracker.Touch(Key(1)));
  EXPECT_FALSE(tracker.Touch(Key(1)));
  EXPECT_EQ(tracker.Recency(Key(1)), AccessTracker::kEpochs);
  EXPECT_EQ(tracker.Recency(Key(1, 2)), 0u);  // another tenant's
  tracker.Forget(Key(1));
  EXPECT_EQ(tracker.Recency(Key(1)), 0u);
}

TEST(AccessTrackerTest, OlderEpochsFadeAndMemoryIsBounded) {
  AccessTracker tracker(4096);
  ASSERT_TRUE(tracker.Touch(Key(0)));
  uint32_t last = AccessTracker::kEpochs;
  for (uint32_t i = 1; i < 20'000; ++i) {
    tracker.Touch(Key(i));
    const uint32_t recency = tracker.Recency(Key(0));
    ASSERT_LE(recency, last);
    last = recency;
  }
  EXPECT_EQ(last, 0u);
  uint32_t remembered = 0;
  for (uint32_t i = 0; i < 20'000; ++i) remembered += tracker.Recency(Key(i)) > 0 ? 1 : 0;
  EXPECT_LE(remembered, 4096u);
  EXPECT_GT(remembered, 2048u);
}

TEST(AccessTrackerTest, TouchesAncestorsOnceAnEpoch) {
  AccessTracker tracker;
  uint32_t calls = 0;
  std::map<ChunkKey, ChunkKey> parents;
  for (uint32_t i = 1; i < 100; ++i) parents.emplace(Key(i), Key(i - 1));
  const auto parent_of = [&](const ChunkKey& key) -> std::optional<ChunkKey> {
    ++calls;
    const auto it = parents.find(key);
    if (it == parents.end()) return std::nullopt;
    return it->second;
  };
  tracker.TouchWithAncestors(Key(49), parent_of);
  EXPECT_EQ(calls, 50u);
  for (uint32_t i = 0; i < 50; ++i) EXPECT_GT(tracker.Recency(Key(i)), 0u);
  EXPECT_EQ(tracker.Recency(Key(50)), 0u);
  tracker.TouchWithAncestors(Key(50), parent_of);
  EXPECT_EQ(calls, 51u);
  tracker.TouchWithAncestors(Key(50), parent_of);
  EXPECT_EQ(calls, 51u);
}

TEST(AccessTrackerTest, CycleOfParentsEnds) {
  AccessTracker tracker;
  tracker.TouchWithAncestors(Key(0),
                             [](const ChunkKey& key) { return std::optional(key == Key(0) ? Key(1) : Key(0)); });
  EXPECT_GT(tracker.Recency(Key(1)), 0u);
}

}  // namespace
}  // namespace kdn
