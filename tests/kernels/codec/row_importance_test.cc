#include "kernels/codec/row_importance.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/codec/chunk_codec.h"
#include "tests/kernels/codec/transform_objects.h"

namespace kdn {
namespace {

constexpr uint32_t kTokens = 75;
constexpr uint64_t kPosition = 40;
constexpr uint32_t kQueries = 5;

// Two layers of two heads in one group, a third alone; fp32-free K [layer][token][head][channel] bf16.
struct World {
  World() : spec(TransformTestSpec(DType::kBf16, 3, 2, 32, 16)) {
    plan.queries = kQueries;
    plan.groups = {MakeGroup(spec, kQueries, {0, 2, 0, 2, BaseCut::kJoint}, 1),
                   MakeGroup(spec, kQueries, {2, 1, 0, 2, BaseCut::kSeparate}, 2)};
    object = TransformObject::Parse(ObjectBytes(spec, plan), spec).value();
    std::mt19937_64 random(3);
    for (uint32_t layer = 0; layer < 3; ++layer) {
      k.emplace_back(size_t{kTokens} * 2 * 32);
      v.emplace_back(size_t{kTokens} * 2 * 16);
      for (uint16_t& element : k.back()) element = ToBf16(RoughNormal(random));
    }
    view.num_tokens = kTokens;
    view.head_count = 2;
    for (uint32_t layer = 0; layer < 3; ++layer) {
      view.layers.push_back({layer,
                             0,
                             {reinterpret_cast<uint8_t*>(k[layer].data()), 128, 64, 2, 0},
                             {reinterpret_cast<uint8_t*>(v[layer].data()), 64, 32, 2, 0}});
    }
  }

  // Attention by the definition, in fp64.
  std::vector<double> LayerImportance(uint32_t layer) const {
    const GroupPlan& group = plan.groups[layer / 2];
    const RopeTable rope(spec.ropes[0], RopeDirection::kRotate, kPosition + kTokens, kQueries);
    std::vector<double> importance(kTokens);
    for (uint32_t head = 0; head < 2; ++head) {
      std::vector<float> queries(size_t{kQueries} * 32);
      for (size_t i = 0; i < queries.size(); ++i) {
        queries[i] = WidenBf16(group.queries[((layer % 2) * 2 + head) * queries.size() + i]);
      }
      rope.Apply(Isa::kScalar, 0, kQueries, 32, queries.data());
      for (uint32_t q = 0; q < kQueries; ++q) {
        std::vector<double> weights;
        double sum = 0;
        for (uint32_t t = 0; t < kTokens; ++t) {
          double score = 0;
          for (uint32_t i = 0; i < 32; ++i) {
            score += double{queries[q * 32 + i]} * WidenBf16(k[layer][(size_t{t} * 2 + head) * 32 + i]);
          }
          weights.push_back(std::exp(score));
          sum += weights.back();
        }
        for (uint32_t t = 0; t < kTokens; ++t) importance[t] += weights[t] / sum;
      }
    }
    return importance;
  }

  ModelSpec spec;
  ObjectPlan plan;
  std::shared_ptr<const TransformObject> object;
  std::vector<std::vector<uint16_t>> k;
  std::vector<std::vector<uint16_t>> v;
  KvView view;
};

// How far a row is from the middle between two classes, in octaves above the median: [token].
std::vector<double> Octaves(std::vector<double> importance) {
  std::vector<double> sorted = importance;
  std::sort(sorted.begin(), sorted.end());
  const double median = sorted[sorted.size() / 2];
  for (double& a : importance) a = std::log2(a / median);
  return importance;
}

TEST(RowImportanceTest, ClassesAreOctavesOfAttentionAboveTheMedian) {
  const World world;
  std::vector<double> both = world.LayerImportance(0);
  const std::vector<double> second = world.LayerImportance(1);
  for (uint32_t t = 0; t < kTokens; ++t) both[t] = std::sqrt(both[t] * second[t]);
  const std::vector<double> octaves[2] = {Octaves(both), Octaves(world.LayerImportance(2))};
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (!IsaSupported(isa)) continue;
    const RowClasses classes = ClassesFromQueries(world.spec, *world.object, world.view, kPosition, isa).value();
    ASSERT_EQ(classes.size(), 2u);
    uint32_t finer = 0;
    for (size_t group = 0; group < 2; ++group) {
      ASSERT_EQ(classes[group].size(), kTokens);
      for (uint32_t t = 0; t < kTokens; ++t) {
        EXPECT_NEAR(classes[group][t], std::clamp(octaves[group][t], 0.0, 8.0), 0.501) << group << " " << t;
        finer += classes[group][t] > 0;
      }
    }
    EXPECT_GT(finer, 20u);
    EXPECT_LT(finer, kTokens);
  }
}

TEST(RowImportanceTest, OfColumnSums) {
  const World world;
  std::vector<std::vector<float>> sums(3);
  for (uint32_t layer = 0; layer < 2; ++layer) {
    for (const double a : world.LayerImportance(layer)) sums[layer].push_back(static_cast<float>(a * (5 + layer)));
  }
  const RowClasses classes = ClassesFromColumnSums(*world.object, world.view, sums).value();
  const RowClasses expected = ClassesFromQueries(world.spec, *world.object, world.view, kPosition).value();
  EXPECT_EQ(classes[0], expected[0]);
  EXPECT_TRUE(classes[1].empty());
  sums[2].resize(3);
  EXPECT_EQ(ClassesFromColumnSums(*world.object, world.view, sums).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(RowImportanceTest, GroupsThatTheViewLacksInPartAreEmpty) {
  World world;
  world.view.layers.pop_back();
  RowClasses classes = ClassesFromQueries(world.spec, *world.object, world.view, kPosition).value();
  EXPECT_EQ(classes[0].size(), kTokens);
  EXPECT_TRUE(classes[1].empty());
  world.view.head_count = 1;
  classes = ClassesFromQueries(world.spec, *world.object, world.view, kPosition).value();
  EXPECT_TRUE(classes[0].empty());
}

TEST(RowImportanceTest, AbsentAndUnattendableRowsAreOfClassZero) {
  World world;
  for (KvLayerView& layer : world.view.layers) layer.first_row = 30;
  for (uint32_t i = 0; i < 32; ++i) world.k[2][(size_t{50} * 2) * 32 + i] = 0x7fc0;
  world.k[2][(size_t{51} * 2) * 32] = 0x7f80;
  const RowClasses classes = ClassesFromQueries(world.spec, *world.object, world.view, kPosition).value();
  for (uint32_t t = 0; t < 30; ++t) EXPECT_EQ(classes[2 - 1][t], 0);
  uint32_t finer = 0;
  for (uint32_t t = 30; t < kTokens; ++t) finer += classes[1][t] > 0;
  EXPECT_GT(finer, 3u);
  EXPECT_LT(finer, 30u);
}

TEST(RowImportanceTest, WithoutQueriesAllRowsAreAlike) {
  const World world;
  ObjectPlan plan = world.plan;
  plan.queries = 0;
  for (GroupPlan& group : plan.groups) group.queries.clear();
  const auto object = TransformObject::Parse(ObjectBytes(world.spec, plan), world.spec).value();
  const RowClasses classes = ClassesFromQueries(world.spec, *object, world.view, kPosition).value();
  EXPECT_EQ(classes[0], std::vector<uint8_t>(kTokens, 0));
}

TEST(RowImportanceTest, RefusesDeviceMemory) {
  World world;
  world.view.memory = MemoryKind::kDevice;
  EXPECT_EQ(ClassesFromQueries(world.spec, *world.object, world.view, kPosition).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kdn
