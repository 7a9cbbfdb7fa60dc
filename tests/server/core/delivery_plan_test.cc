#include "server/core/delivery_plan.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

namespace kdn {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

// Exact, int8, q4 and an eighth, of chunks of 1,000 exact bytes.
DeliveryChunk Chunk(uint32_t tokens = 256) { return {tokens, {{1000, 0.0}, {500, 0.0001}, {250, 0.003}, {125, 0.02}}}; }

TEST(PlanDeliveryTest, WithoutALimitEveryChunkComesAtItsLeastLoss) {
  const std::vector<DeliveryChunk> chunks(3, Chunk());
  const DeliveryPlan plan = PlanDelivery(chunks, {1000.0, 0}, {});
  EXPECT_EQ(plan.variants, (std::vector<uint32_t>{0, 0, 0}));
  EXPECT_EQ(plan.bytes, 3000u);
  EXPECT_EQ(plan.loss, 0.0);
  EXPECT_TRUE(plan.keeps_goal);
}

TEST(PlanDeliveryTest, ADeadlineTakesWhatFitsTheLinkBesidesItsLatency) {
  const std::vector<DeliveryChunk> chunks(2, Chunk());
  DeliveryGoal goal;
  goal.deadline_nanos = 3 * kSecond / 2;
  const DeliveryPlan plan = PlanDelivery(chunks, {1000.0, kSecond / 2}, goal);  // one second: 1,000 bytes
  EXPECT_EQ(plan.variants, (std::vector<uint32_t>{1, 1}));
  EXPECT_TRUE(plan.keeps_goal);
  EXPECT_DOUBLE_EQ(plan.seconds, 1.5);
}

TEST(PlanDeliveryTest, AByteBudgetIsNeverExceeded) {
  const std::vector<DeliveryChunk> chunks(4, Chunk());
  for (uint64_t budget = 500; budget <= 4200; budget += 50) {
    DeliveryGoal goal;
    goal.byte_budget = budget;
    const DeliveryPlan plan = PlanDelivery(chunks, {1.0, 0}, goal);
    EXPECT_TRUE(plan.keeps_goal) << budget;
    EXPECT_LE(plan.bytes, budget);
  }
}

TEST(PlanDeliveryTest, AnImpossibleGoalGivesTheSmallestVariantsAndSaysSo) {
  const std::vector<DeliveryChunk> chunks(4, Chunk());
  DeliveryGoal goal;
  goal.byte_budget = 499;
  const DeliveryPlan plan = PlanDelivery(chunks, {1.0, 0}, goal);
  EXPECT_EQ(plan.variants, (std::vector<uint32_t>{3, 3, 3, 3}));
  EXPECT_FALSE(plan.keeps_goal);
}

TEST(PlanDeliveryTest, TheLeastQualityHoldsWhateverTheDeadline) {
  const std::vector<DeliveryChunk> chunks(2, Chunk());
  DeliveryGoal goal;
  goal.byte_budget = 0;
  goal.max_loss = 0.0001;
  const DeliveryPlan plan = PlanDelivery(chunks, {1.0, 0}, goal);
  EXPECT_EQ(plan.variants, (std::vector<uint32_t>{1, 1}));
  EXPECT_FALSE(plan.keeps_goal);
}

TEST(PlanDeliveryTest, ThePrefixEndsAtTheFirstChunkWithoutAnAcceptableVariant) {
  std::vector<DeliveryChunk> chunks(4, Chunk());
  chunks[2].variants = {{125, 0.02}};
  DeliveryGoal goal;
  goal.max_loss = 0.001;
  EXPECT_EQ(PlanDelivery(chunks, {1.0, 0}, goal).variants.size(), 2u);
  chunks[0].variants.clear();
  EXPECT_TRUE(PlanDelivery(chunks, {1.0, 0}, {}).variants.empty());
}

TEST(PlanDeliveryTest, VariantsThatAreLargerAndLoseMoreAreNeverTaken) {
  const std::vector<DeliveryChunk> chunks = {{256, {{500, 0.01}, {600, 0.02}, {400, 0.01}, {1000, 0.0}}}};
  for (uint64_t budget = 400; budget < 1000; budget += 100) {
    DeliveryGoal goal;
    goal.byte_budget = budget;
    EXPECT_EQ(PlanDelivery(chunks, {1.0, 0}, goal).variants, (std::vector<uint32_t>{2})) << budget;
  }
}

TEST(PlanDeliveryTest, AFastEngineRecomputesTheEndOfThePrefix) {
  const std::vector<DeliveryChunk> chunks(8, Chunk());
  DeliveryGoal goal;
  goal.deadline_nanos = kSecond;
  const LinkState link = {2000.0, 0};  // two of the eight chunks exactly in that time
  const DeliveryPlan loaded = PlanDelivery(chunks, link, goal);
  EXPECT_EQ(loaded.variants.size(), 8u);
  EXPECT_GT(loaded.loss, 0.0);
  goal.prefill_tokens_per_second = 256.0 * 16;
  const DeliveryPlan mixed = PlanDelivery(chunks, link, goal);
  EXPECT_LT(mixed.variants.size(), 8u);
  EXPECT_LT(mixed.loss, loaded.loss);
  EXPECT_TRUE(mixed.keeps_goal);
  EXPECT_LE(mixed.seconds, 1.0);
}

TEST(PlanDeliveryTest, ASlowEngineLoadsEverything) {
  const std::vector<DeliveryChunk> chunks(8, Chunk());
  DeliveryGoal goal;
  goal.deadline_nanos = kSecond;
  goal.prefill_tokens_per_second = 10.0;
  EXPECT_EQ(PlanDelivery(chunks, {2000.0, 0}, goal).variants.size(), 8u);
}

TEST(PlanDeliveryTest, TheFirstChunkLeavesTimeForTheOthersAtTheWorstRate) {
  const std::vector<DeliveryChunk> chunks(8, Chunk());
  DeliveryGoal goal;
  goal.deadline_nanos = kSecond;
  LinkState link = {8000.0, 0};
  EXPECT_EQ(PlanDelivery(chunks, link, goal).variants.front(), 0u);
  link.worst_bytes_per_second = 1400.0;  // 1,400 bytes: seven smallest take 875, beside which 500 fit but not 1,000
  const DeliveryPlan hedged = PlanDelivery(chunks, link, goal);
  EXPECT_EQ(hedged.variants, (std::vector<uint32_t>{1, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(hedged.bytes, 7500u);
  EXPECT_DOUBLE_EQ(hedged.loss, 0.0001 / 8);
  link.worst_bytes_per_second = 100.0;  // hopeless: the smallest
  EXPECT_EQ(PlanDelivery(chunks, link, goal).variants.front(), 3u);
}

// Against every choice there is: greedy along the hull stays within one chunk's step of the best.
TEST(PlanDeliveryTest, LosesHardlyMoreThanTheBestOfAllPlans) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<DeliveryChunk> chunks(5);
    double largest_step = 0.0;
    double tokens = 0.0;
    for (DeliveryChunk& chunk : chunks) {
      chunk.tokens = 16 * static_cast<uint32_t>(1 + random() % 16);
      tokens += chunk.tokens;
      for (int v = 0; v < 4; ++v) {
        chunk.variants.push_back({100 + random() % 900, static_cast<double>(random() % 1000) / 1e5});
        largest_step = std::max(largest_step, chunk.variants.back().loss * chunk.tokens);
      }
    }
    DeliveryGoal goal;
    goal.byte_budget = 1500 + random() % 2500;
    double best = 1e9;
    const std::function<void(size_t, uint64_t, double)> tryAll = [&](size_t at, uint64_t bytes, double loss) {
      if (bytes > *goal.byte_budget) return;
      if (at == chunks.size()) {
        best = std::min(best, loss);
        return;
      }
      for (const DeliveryVariant& v : chunks[at].variants)
        tryAll(at + 1, bytes + v.bytes, loss + v.loss * chunks[at].tokens);
    };
    tryAll(0, 0, 0.0);
    const DeliveryPlan plan = PlanDelivery(chunks, {1.0, 0}, goal);
    EXPECT_EQ(plan.keeps_goal, best < 1e9);
    if (plan.keeps_goal) {
      EXPECT_LE(plan.loss * tokens, best + largest_step);
      EXPECT_GE(plan.loss * tokens, best - 1e-12);
    }
  }
}

TEST(LinkEstimateTest, AFallShowsAtOnceAndARiseHasToLast) {
  LinkEstimate link(1e6);
  EXPECT_DOUBLE_EQ(link.bytes_per_second(), 1e6);
  for (int i = 0; i < 20; ++i) link.Observe(1000, kSecond / 1000);
  EXPECT_NEAR(link.bytes_per_second(), 1e6, 1.0);
  link.Observe(1000, kSecond / 100);
  EXPECT_NEAR(link.bytes_per_second(), 1e5, 1.0);
  link.Observe(1000, kSecond / 1000);
  EXPECT_LT(link.bytes_per_second(), 5e5);
  for (int i = 0; i < 40; ++i) link.Observe(1000, kSecond / 1000);
  EXPECT_NEAR(link.bytes_per_second(), 1e6, 1e4);
}

TEST(LinkEstimateTest, TheWorstRateIsForgottenSlowly) {
  LinkEstimate link(1e6);
  link.Observe(1000, kSecond / 1000);
  link.Observe(1000, kSecond / 100);
  for (int i = 0; i < 50; ++i) link.Observe(1000, kSecond / 1000);
  EXPECT_LT(link.worst_bytes_per_second(), 1.2e5);
  for (int i = 0; i < 10'000; ++i) link.Observe(1000, kSecond / 1000);
  EXPECT_NEAR(link.worst_bytes_per_second(), 1e6, 1e4);
}

TEST(LinkEstimateTest, TransfersOfNothingSayNothing) {
  LinkEstimate link(1e6);
  link.Observe(0, kSecond);
  link.Observe(1000, 0);
  EXPECT_DOUBLE_EQ(link.bytes_per_second(), 1e6);
}

}  // namespace
}  // namespace kdn
