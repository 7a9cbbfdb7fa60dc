#include "kernels/codec/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "tests/kernels/codec/test_tiles.h"
#include "tests/kernels/layout/test_specs.h"

namespace kdn {
namespace {

RopeSpec MakeRope(RopeStyle style, uint32_t rotary_dim, uint32_t offset, float amplitude) {
  RopeSpec rope{style, rotary_dim, offset, {}, amplitude};
  for (uint32_t i = 0; i < rotary_dim / 2; ++i) {
    rope.inv_freq.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / rotary_dim)));
  }
  return rope;
}

struct Case {
  RopeSpec rope;
  uint32_t dim;
  uint64_t position;
};

std::vector<Case> Cases() {
  return {{MakeRope(RopeStyle::kHalfSplit, 64, 0, 1.0f), 64, 0},
          {MakeRope(RopeStyle::kHalfSplit, 64, 0, 1.0f), 64, 131001},
          {MakeRope(RopeStyle::kInterleaved, 128, 0, 1.0f), 128, 777},
          {MakeRope(RopeStyle::kHalfSplit, 32, 0, 1.3f), 80, 4096},
          {MakeRope(RopeStyle::kInterleaved, 64, 512, 0.8f), 576, 100000},
          {MakeRope(RopeStyle::kHalfSplit, 2, 14, 1.0f), 16, 5},
          {MakeRope(RopeStyle::kInterleaved, 22, 10, 1.5f), 48, (uint64_t{1} << 22) + 7}};
}

std::vector<float> RandomRows(uint32_t rows, uint32_t dim, uint32_t seed) {
  std::mt19937_64 random(seed);
  std::vector<float> values(size_t{rows} * dim);
  for (float& value : values) value = RoughNormal(random) * 3;
  return values;
}

// Position and channel of the pair's partner, by the definition.
struct Pair {
  uint32_t first;
  uint32_t second;
};

Pair PairOf(const RopeSpec& rope, uint32_t i) {
  if (rope.style == RopeStyle::kInterleaved) return {rope.rotary_offset + 2 * i, rope.rotary_offset + 2 * i + 1};
  return {rope.rotary_offset + i, rope.rotary_offset + rope.rotary_dim / 2 + i};
}

TEST(RopeTableTest, RotatesAsTheDefinitionInDoublePrecision) {
  constexpr uint32_t kRows = 37;
  for (const Case& c : Cases()) {
    SCOPED_TRACE(::testing::Message() << c.dim << " at " << c.position);
    const RopeTable table(c.rope, RopeDirection::kRotate, c.position, kRows);
    const std::vector<float> before = RandomRows(kRows, c.dim, 1);
    std::vector<float> after = before;
    table.Apply(Isa::kScalar, 0, kRows, c.dim, after.data());
    for (uint32_t row = 0; row < kRows; ++row) {
      std::vector<bool> rotates(c.dim);
      for (uint32_t i = 0; i < c.rope.rotary_dim / 2; ++i) {
        const Pair pair = PairOf(c.rope, i);
        const double angle = static_cast<double>(c.position + row) * double{c.rope.inv_freq[i]};
        const double x = before[row * c.dim + pair.first];
        const double y = before[row * c.dim + pair.second];
        const double bound = std::hypot(x, y) * c.rope.amplitude * std::ldexp(1.0, -22);
        const double expected_x = (x * std::cos(angle) - y * std::sin(angle)) * c.rope.amplitude;
        const double expected_y = (y * std::cos(angle) + x * std::sin(angle)) * c.rope.amplitude;
        ASSERT_NEAR(after[row * c.dim + pair.first], expected_x, bound);
        ASSERT_NEAR(after[row * c.dim + pair.second], expected_y, bound);
        rotates[pair.first] = rotates[pair.second] = true;
      }
      for (uint32_t channel = 0; channel < c.dim; ++channel) {
        if (rotates[channel]) continue;
        ASSERT_EQ(after[row * c.dim + channel], before[row * c.dim + channel]) << channel;
      }
    }
  }
}

TEST(RopeTableTest, EntriesAreRoundedOnceFromDoublePrecision) {
  const RopeSpec rope = MakeRope(RopeStyle::kHalfSplit, 64, 0, 1.0f);
  constexpr uint32_t kRows = 256;
  const RopeTable table(rope, RopeDirection::kRotate, 12345, kRows);
  for (uint32_t row = 0; row < kRows; ++row) {
    for (uint32_t pair = 0; pair < 32; ++pair) {
      const double angle = (12345.0 + row) * double{rope.inv_freq[pair]};
      // Half a unit in the last place of the entry, and what double precision leaves.
      const double half_ulp = std::ldexp(1.0, std::ilogb(table.cosine(row, pair)) - 24);
      ASSERT_NEAR(table.cosine(row, pair), std::cos(angle), half_ulp + 1e-14);
      ASSERT_NEAR(table.sine(row, pair), std::sin(angle),
                  std::ldexp(1.0, std::ilogb(table.sine(row, pair)) - 24) + 1e-14);
    }
  }
}

TEST(RopeTableTest, UnrotatingUndoesRotating) {
  constexpr uint32_t kRows = 64;
  for (const Case& c : Cases()) {
    const RopeTable rotate(c.rope, RopeDirection::kRotate, c.position, kRows);
    const RopeTable unrotate(c.rope, RopeDirection::kUnrotate, c.position, kRows);
    const std::vector<float> before = RandomRows(kRows, c.dim, 2);
    std::vector<float> after = before;
    rotate.Apply(BestIsa(), 0, kRows, c.dim, after.data());
    unrotate.Apply(BestIsa(), 0, kRows, c.dim, after.data());
    for (uint32_t row = 0; row < kRows; ++row) {
      for (uint32_t i = 0; i < c.rope.rotary_dim / 2; ++i) {
        const Pair pair = PairOf(c.rope, i);
        const size_t x = row * c.dim + pair.first;
        const size_t y = row * c.dim + pair.second;
        const double bound = std::hypot(before[x], before[y]) * std::ldexp(1.0, -21);
        ASSERT_NEAR(after[x], before[x], bound);
        ASSERT_NEAR(after[y], before[y], bound);
      }
    }
  }
}

TEST(RopeTableTest, EveryInstructionSetGivesTheSameBits) {
  constexpr uint32_t kRows = 21;
  for (const Case& c : Cases()) {
    const RopeTable table(c.rope, RopeDirection::kRotate, c.position, kRows);
    const std::vector<float> before = RandomRows(kRows - 2, c.dim, 3);
    std::vector<float> reference = before;
    table.Apply(Isa::kScalar, 2, kRows - 2, c.dim, reference.data());
    for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
      if (!IsaSupported(isa)) continue;
      std::vector<float> rows = before;
      table.Apply(isa, 2, kRows - 2, c.dim, rows.data());
      EXPECT_EQ(std::memcmp(rows.data(), reference.data(), rows.size() * sizeof(float)), 0) << IsaName(isa);
    }
  }
}

TEST(RopeTableTest, RowsContinueWhereverTheTableStarts) {
  const RopeSpec rope = MakeRope(RopeStyle::kHalfSplit, 64, 0, 1.0f);
  const RopeTable whole(rope, RopeDirection::kRotate, 1000, 64);
  const RopeTable part(rope, RopeDirection::kRotate, 1032, 32);
  for (uint32_t row = 0; row < 32; ++row) {
    for (uint32_t pair = 0; pair < 32; ++pair) ASSERT_EQ(part.cosine(row, pair), whole.cosine(32 + row, pair));
  }
}

TEST(RopeTableCacheTest, FindsTheTableOfTheLayersRope) {
  ModelSpec spec = testing::SlidingSpec(6, 64, 32);
  RopeTableCache cache;
  const RopeTable* full = cache.Find(spec, 5, RopeDirection::kRotate, 100, 32);
  ASSERT_NE(full, nullptr);
  EXPECT_FLOAT_EQ(full->cosine(0, 1), static_cast<float>(std::cos(100 * double{spec.ropes[0].inv_freq[1]})));
  const RopeTable* sliding = cache.Find(spec, 0, RopeDirection::kRotate, 100, 32);
  EXPECT_FLOAT_EQ(sliding->cosine(0, 1), static_cast<float>(std::cos(100 * double{spec.ropes[1].inv_freq[1]})));
  const float sine = sliding->sine(0, 1);
  EXPECT_EQ(cache.Find(spec, 0, RopeDirection::kUnrotate, 100, 32)->sine(0, 1), -sine);
  EXPECT_EQ(cache.Find(spec, 0, RopeDirection::kRotate, 107, 8)->position(), 107u);
  spec.ropes[1] = RopeSpec{};
  EXPECT_EQ(cache.Find(spec, 0, RopeDirection::kRotate, 100, 32), nullptr);
}

}  // namespace
}  // namespace kdn
