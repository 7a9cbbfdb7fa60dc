#include "kernels/codec/transform_object.h"

#include <gtest/gtest.h>

#include "tests/kernels/codec/transform_objects.h"

namespace kdn {
namespace {

using absl::StatusCode;

ModelSpec Spec() { return TransformTestSpec(DType::kBf16, 4, 3, 32, 16); }

// Two groups that lie side by side over two layers, and one of one layer.
ObjectPlan Plan(const ModelSpec& spec) {
  ObjectPlan plan;
  plan.queries = 3;
  plan.groups = {MakeGroup(spec, 3, {0, 2, 0, 2, BaseCut::kJoint}, 1),
                 MakeGroup(spec, 3, {0, 2, 2, 1, BaseCut::kSeparate, 5}, 2),
                 MakeGroup(spec, 3, {2, 1, 0, 3, BaseCut::kSeparate, 1}, 3)};
  return plan;
}

StatusCode ParseCode(const ModelSpec& spec, const ObjectPlan& plan) {
  return TransformObject::Parse(ObjectBytes(spec, plan), spec).status().code();
}

TEST(TransformObjectTest, ParsesWhatWasWritten) {
  const ModelSpec spec = Spec();
  const ObjectPlan plan = Plan(spec);
  const std::vector<uint8_t> bytes = ObjectBytes(spec, plan);
  const auto object = TransformObject::Parse(bytes, spec);
  ASSERT_TRUE(object.ok()) << object.status();
  EXPECT_EQ((*object)->digest(), Sha256::Of(bytes));
  EXPECT_EQ((*object)->queries_per_head(), 3u);
  ASSERT_EQ((*object)->levels().size(), 2u);
  ASSERT_EQ((*object)->groups().size(), 3u);
  EXPECT_EQ((*object)->FindGroup(1, 2), &(*object)->groups()[1]);
  EXPECT_EQ((*object)->FindGroup(3, 0), nullptr);
  const TransformGroup& group = (*object)->groups()[1];
  EXPECT_EQ(group.width(), 2u * 48);
  ASSERT_EQ(group.bases.size(), 2u);
  const TransformBase& base = group.bases[0];
  const BasePlan& planned = plan.groups[1].bases[0];
  EXPECT_EQ(base.width, 64u);
  EXPECT_EQ(base.rank, 59u);
  EXPECT_EQ(base.means, planned.means);
  EXPECT_EQ(base.scales, planned.scales);
  EXPECT_TRUE(std::equal(base.sigmas.begin(), base.sigmas.end(), planned.sigmas.begin(), planned.sigmas.end()));
  EXPECT_TRUE(std::equal(base.matrix.begin(), base.matrix.end(), planned.matrix.begin(), planned.matrix.end()));
  EXPECT_EQ(base.pairs[(size_t{3} * 64 + 7) * 2 + 1], planned.matrix[7 * 59 + 7]);
  EXPECT_EQ(base.pairs[(size_t{29} * 64 + 7) * 2 + 1], 0);
  EXPECT_EQ(LoadLe<uint16_t>(group.queries.data()), plan.groups[1].queries[0]);
}

TEST(TransformObjectTest, ChannelsRunLayerKindHead) {
  const ModelSpec spec = Spec();
  const auto object = TransformObject::Parse(ObjectBytes(spec, Plan(spec)), spec).value();
  const std::vector<TransformSlice>& slices = object->groups()[0].bases[0].slices;
  ASSERT_EQ(slices.size(), 8u);
  const uint32_t expected[8][4] = {{0, 0, 0, 0},  {0, 1, 0, 32},  {0, 0, 1, 64},  {0, 1, 1, 80},
                                   {1, 0, 0, 96}, {1, 1, 0, 128}, {1, 0, 1, 160}, {1, 1, 1, 176}};
  for (size_t i = 0; i < slices.size(); ++i) {
    EXPECT_EQ(slices[i].layer, expected[i][0]);
    EXPECT_EQ(slices[i].head, expected[i][1]);
    EXPECT_EQ(static_cast<uint32_t>(slices[i].kind), expected[i][2]);
    EXPECT_EQ(slices[i].channel, expected[i][3]);
    EXPECT_EQ(slices[i].dim, i % 4 < 2 ? 32u : 16u);
  }
}

TEST(TransformObjectTest, LatentsHaveOneKBase) {
  const ModelSpec spec = TransformTestSpec(DType::kBf16, 2, 1, 64, 0);
  ObjectPlan plan;
  plan.groups = {MakeGroup(spec, 0, {0, 2, 0, 1}, 1)};
  const auto object = TransformObject::Parse(ObjectBytes(spec, plan), spec);
  ASSERT_TRUE(object.ok()) << object.status();
  EXPECT_EQ((*object)->groups()[0].bases[0].slices.size(), 2u);
}

TEST(TransformObjectTest, RefusesAnotherModelsObject) {
  const ModelSpec spec = Spec();
  const std::vector<uint8_t> bytes = ObjectBytes(spec, Plan(spec));
  ModelSpec other = spec;
  other.weights_digest = Sha256::Of(AsBytes("other"));
  EXPECT_EQ(TransformObject::Parse(bytes, other).status().code(), StatusCode::kFailedPrecondition);
}

TEST(TransformObjectTest, RefusesWhatBreaksARule) {
  const ModelSpec spec = Spec();
  const ObjectPlan good = Plan(spec);
  const auto broken = [&](auto change) {
    ObjectPlan plan = good;
    change(plan);
    return ParseCode(spec, plan);
  };
  const StatusCode invalid = StatusCode::kInvalidArgument;
  EXPECT_EQ(broken([](ObjectPlan& p) {}), StatusCode::kOk);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups.clear(); }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.levels.clear(); }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.levels.resize(17); }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { std::swap(p.levels[0], p.levels[1]); }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.levels[0].step = -1025; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.queries = 257; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[2].layer = 4; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[2].head_count = 4; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[2].layer = 1; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { std::swap(p.groups[0], p.groups[1]); }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[0].bases.clear(); }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[1].bases[1].kind = 0; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[1].bases[0].kind = 3; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[2].bases[0].rank = 0; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[2].bases[0].rank = 97; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[2].bases[0].means[4] = INFINITY; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[2].bases[0].scales[4] = NAN; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[2].bases[0].scales[4] = 0x1p-101f; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[2].bases[0].scales[4] = 0x1p61f; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[2].bases[0].scales[4] = -1.0f; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[2].bases[0].scales[4] = 0.0f; }), StatusCode::kOk);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[2].bases[0].sigmas.back() = 127; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[2].bases[0].matrix[9] = -128; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[2].queries[9] = 0xff80; }), invalid);
  EXPECT_EQ(broken([](ObjectPlan& p) { p.groups[2].queries.resize(5); }), invalid);
}

TEST(TransformObjectTest, RefusesLayersOfDifferentGeometryInOneGroup) {
  ModelSpec spec = Spec();
  const ObjectPlan plan = Plan(spec);
  spec.layers[1].attention = AttentionKind::kSlidingWindow;
  spec.layers[1].window = 64;
  EXPECT_EQ(ParseCode(spec, plan), StatusCode::kInvalidArgument);
}

TEST(TransformObjectTest, EveryTruncationAndFlippedBitIsRefusedOrAnotherObject) {
  const ModelSpec spec = TransformTestSpec(DType::kBf16, 2, 1, 32, 16);
  ObjectPlan plan;
  plan.queries = 1;
  plan.groups = {MakeGroup(spec, 1, {0, 1, 0, 1, BaseCut::kSeparate, 3}, 1),
                 MakeGroup(spec, 1, {1, 1, 0, 1, BaseCut::kJoint, 3}, 2)};
  const std::vector<uint8_t> bytes = ObjectBytes(spec, plan);
  ASSERT_TRUE(TransformObject::Parse(bytes, spec).ok());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(TransformObject::Parse(ByteSpan(bytes).first(size), spec).ok()) << size;
  }
  const Digest digest = Sha256::Of(bytes);
  std::vector<uint8_t> flipped = bytes;
  for (size_t i = 0; i < bytes.size(); ++i) {
    flipped[i] ^= static_cast<uint8_t>(1 << i % 8);
    const auto object = TransformObject::Parse(flipped, spec);
    if (object.ok()) {
      EXPECT_NE((*object)->digest(), digest);
    }
    flipped[i] = bytes[i];
  }
  std::vector<uint8_t> longer = bytes;
  longer.resize(bytes.size() + 16);
  EXPECT_FALSE(TransformObject::Parse(longer, spec).ok());
}

// synthesis x analysis of a base, as a matrix over coefficients: the identity where there is an inverse.
double LargestDeviationFromIdentity(const TransformObject& object, uint32_t group, uint32_t index) {
  const TransformBase& base = object.groups()[group].bases[index];
  const std::span<const float> analysis = object.Analysis(group, index);
  const uint32_t stride = TransformObject::AnalysisStride(base);
  double largest = 0;
  for (uint32_t j = 0; j < base.rank; ++j) {
    for (uint32_t k = 0; k < base.rank; ++k) {
      double sum = j == k ? -1 : 0;
      for (uint32_t i = 0; i < base.width; ++i) {
        sum += double{analysis[size_t{i} * stride + j]} * 32 * double{base.scales[i]} *
               base.matrix[size_t{i} * base.rank + k];
      }
      largest = std::max(largest, std::fabs(sum));
    }
  }
  return largest;
}

TEST(TransformObjectTest, AnalysisInvertsTheSynthesis) {
  const ModelSpec spec = Spec();
  const auto object = TransformObject::Parse(ObjectBytes(spec, Plan(spec)), spec).value();
  for (uint32_t group = 0; group < 3; ++group) {
    for (uint32_t base = 0; base < object->groups()[group].bases.size(); ++base) {
      EXPECT_LT(LargestDeviationFromIdentity(*object, group, base), 1e-4) << group << " " << base;
    }
  }
}

TEST(TransformObjectTest, AnalysisOfDeadChannelsAndCoefficientsIsFinite) {
  const ModelSpec spec = Spec();
  ObjectPlan plan = Plan(spec);
  BasePlan& base = plan.groups[0].bases[0];
  for (uint32_t i = 40; i < 60; ++i) base.scales[i] = 0;
  for (uint32_t i = 0; i < base.means.size(); ++i) base.matrix[size_t{i} * base.rank + 5] = 0;
  const auto object = TransformObject::Parse(ObjectBytes(spec, plan), spec).value();
  for (const float entry : object->Analysis(0, 0)) ASSERT_TRUE(std::isfinite(entry));
}

TEST(TransformObjectsTest, FindsByDigest) {
  const ModelSpec spec = Spec();
  const auto object = TransformObject::Parse(ObjectBytes(spec, Plan(spec)), spec).value();
  TransformObjects objects;
  EXPECT_EQ(objects.Find(object->digest()), nullptr);
  objects.Add(object);
  objects.Add(object);
  EXPECT_EQ(objects.Find(object->digest()), object);
}

}  // namespace
}  // namespace kdn
