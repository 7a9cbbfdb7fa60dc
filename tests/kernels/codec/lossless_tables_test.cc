#include "kernels/codec/lossless_tables.h"

#include <gtest/gtest.h>

#include <random>

namespace kdn {
namespace {

LosslessShape FlatShape(uint8_t prob_bits) {
  LosslessShape shape;
  shape.fill(static_cast<uint16_t>((1u << prob_bits) / kRansSymbols));
  return shape;
}

LosslessObjectSpec SmallSpec() {
  LosslessObjectSpec spec;
  spec.shapes_per_set = 2;
  spec.layers = 3;
  spec.set_of = {0, 1, 1, 0, 0, 0};
  spec.shapes.assign(4, FlatShape(10));
  spec.shapes[2][0] = 65;
  spec.shapes[2][1] = 63;
  return spec;
}

LosslessObjectSpec ObjectChannelSpec() {
  LosslessObjectSpec spec = SmallSpec();
  spec.channel_source = ChannelSource::kObject;
  spec.dtype = DType::kFp8E4M3;
  spec.kv_heads = 2;
  spec.k_dim = 32;
  spec.v_dim = 16;
  spec.channels.resize(3 * 2 * 48);
  for (size_t i = 0; i < spec.channels.size(); ++i) spec.channels[i] = {static_cast<uint8_t>(i), uint8_t(i % 2)};
  return spec;
}

TEST(LosslessTablesTest, BuiltInObjectNeverChanges) {
  EXPECT_EQ(LosslessTables::BuiltIn().digest().ToHex(),
            "ebd292464071bc6601ff2d1d63bee7f662f265ac379cdf65032bbcce6c279dff");
  EXPECT_EQ(LosslessTables::BuiltIn().shapes_per_set(), 8u);
  EXPECT_EQ(LosslessTables::BuiltIn().prob_bits(), 10u);
}

TEST(LosslessTablesTest, ParseRestoresWhatCreateWrote) {
  for (const LosslessObjectSpec& spec : {SmallSpec(), ObjectChannelSpec()}) {
    const auto created = LosslessTables::Create(spec);
    ASSERT_TRUE(created.ok()) << created.status();
    const auto parsed = LosslessTables::Parse(created->canonical_bytes());
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->digest(), created->digest());
    EXPECT_EQ(parsed->digest(), Sha256::Of(created->canonical_bytes()));
    EXPECT_EQ(*parsed->SetOf(1, KvKind::kK), 1u);
    EXPECT_EQ(*parsed->SetOf(1, KvKind::kV), 0u);
    EXPECT_FALSE(parsed->SetOf(3, KvKind::kV).ok());
  }
}

TEST(LosslessTablesTest, FindsTheChannelsOfAHead) {
  const auto tables = LosslessTables::Create(ObjectChannelSpec());
  ASSERT_TRUE(tables.ok()) << tables.status();
  const auto k = tables->ChannelsOf(1, KvKind::kK, 1, 32);
  ASSERT_TRUE(k.ok());
  EXPECT_EQ((*k)[0].offset, 96 + 32);
  const auto v = tables->ChannelsOf(2, KvKind::kV, 1, 16);
  ASSERT_TRUE(v.ok());
  EXPECT_EQ((*v)[0].offset, static_cast<uint8_t>(2 * 96 + 64 + 16));
  EXPECT_FALSE(tables->ChannelsOf(3, KvKind::kK, 0, 32).ok());
  EXPECT_FALSE(tables->ChannelsOf(0, KvKind::kK, 2, 32).ok());
  EXPECT_FALSE(tables->ChannelsOf(0, KvKind::kV, 0, 32).ok());
}

TEST(LosslessTablesTest, TablesOfAShapeAgree) {
  const LosslessTables& tables = LosslessTables::BuiltIn();
  for (uint32_t shape = 0; shape < tables.shapes_per_set(); ++shape) {
    for (uint32_t slot = 0; slot < 1u << tables.prob_bits(); ++slot) {
      const uint32_t entry = tables.DecodeTable(0)[(shape << tables.prob_bits()) + slot];
      const uint32_t encode = tables.EncodeTable(0)[shape * kRansSymbols + DecodeEntrySymbol(entry)];
      EXPECT_EQ(DecodeEntryFrequency(entry), EncodeEntryFrequency(encode));
      EXPECT_EQ(DecodeEntryBias(entry) + EncodeEntryCumulative(encode), slot);
    }
  }
}

TEST(LosslessTablesTest, CostsAreThoseOfTheFrequencies) {
  LosslessObjectSpec spec;
  spec.shapes_per_set = 1;
  LosslessShape shape;
  shape.fill(1);
  shape[0] = 512;
  shape[1] = 256;
  shape[2] = 243;
  spec.shapes = {shape};
  const auto tables = LosslessTables::Create(spec);
  ASSERT_TRUE(tables.ok()) << tables.status();
  const uint32_t* costs = tables->CostTable(0);
  EXPECT_EQ(costs[0 * LosslessTables::kMaxShapesInTile], 256u);
  EXPECT_EQ(costs[1 * LosslessTables::kMaxShapesInTile], 512u);
  EXPECT_EQ(costs[2 * LosslessTables::kMaxShapesInTile], 532u);  // 256 * log2(1024 / 243) = 531.2
  EXPECT_EQ(costs[kRansEscape * LosslessTables::kMaxShapesInTile], 10u * 256 + 8 * 256);
  EXPECT_EQ(costs[1], LosslessTables::kNoShapeCost);
}

TEST(LosslessTablesTest, CreateRefusesWhatBreaksARule) {
  const auto refuses = [](auto&& change) {
    LosslessObjectSpec spec = ObjectChannelSpec();
    change(spec);
    return LosslessTables::Create(spec).status().code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_FALSE(refuses([](auto&) {}));
  EXPECT_TRUE(refuses([](auto& s) { s.prob_bits = 8; }));
  EXPECT_TRUE(refuses([](auto& s) { s.prob_bits = 12; }));
  EXPECT_TRUE(refuses([](auto& s) { s.shapes_per_set = 0; }));
  EXPECT_TRUE(refuses([](auto& s) { s.shapes_per_set = 3; }));
  EXPECT_TRUE(refuses([](auto& s) { s.channel_source = static_cast<ChannelSource>(2); }));
  EXPECT_TRUE(refuses([](auto& s) { s.channel_source = ChannelSource::kTile; }));
  EXPECT_TRUE(refuses([](auto& s) { s.dtype = static_cast<DType>(0); }));
  EXPECT_TRUE(refuses([](auto& s) { s.layers = 2; }));
  EXPECT_TRUE(refuses([](auto& s) { s.set_of[0] = 2; }));
  EXPECT_TRUE(refuses([](auto& s) { s.shapes[0][4] = 0; }));
  EXPECT_TRUE(refuses([](auto& s) { s.shapes[0][4]++; }));
  EXPECT_TRUE(refuses([](auto& s) { s.shapes.clear(); }));
  EXPECT_TRUE(refuses([](auto& s) { s.channels.pop_back(); }));
  EXPECT_TRUE(refuses([](auto& s) { s.channels[7].shape = 2; }));
  EXPECT_TRUE(refuses([](auto& s) { s.k_dim = 24; }));
  EXPECT_TRUE(refuses([](auto& s) { s.kv_heads = 0; }));
}

TEST(LosslessTablesTest, ParseRefusesTruncationAndTrailingBytes) {
  const auto tables = LosslessTables::Create(ObjectChannelSpec());
  ASSERT_TRUE(tables.ok()) << tables.status();
  std::vector<uint8_t> bytes(tables->canonical_bytes().begin(), tables->canonical_bytes().end());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(
        LosslessTables::Parse(std::vector<uint8_t>(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size))).ok())
        << size;
  }
  bytes.push_back(0);
  EXPECT_FALSE(LosslessTables::Parse(bytes).ok());
}

TEST(LosslessTablesTest, ParseOfFlippedBitsIsRefusedOrCanonical) {
  const auto tables = LosslessTables::Create(ObjectChannelSpec());
  ASSERT_TRUE(tables.ok()) << tables.status();
  std::vector<uint8_t> bytes(tables->canonical_bytes().begin(), tables->canonical_bytes().end());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    const auto parsed = LosslessTables::Parse(bytes);
    if (parsed.ok()) {
      const ByteSpan canonical = parsed->canonical_bytes();
      EXPECT_TRUE(std::equal(canonical.begin(), canonical.end(), bytes.begin(), bytes.end())) << bit;
    }
    bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
  }
}

TEST(LosslessTablesTest, ParseNamesLaterVersionsUnimplemented) {
  std::vector<uint8_t> bytes(LosslessTables::BuiltIn().canonical_bytes().begin(),
                             LosslessTables::BuiltIn().canonical_bytes().end());
  bytes[4] = 2;
  EXPECT_EQ(LosslessTables::Parse(bytes).status().code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace kdn
