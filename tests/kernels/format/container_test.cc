#include "kernels/format/container.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"
#include "kernels/format/container_layout.h"
#include "tests/kernels/format/test_containers.h"
#include "tests/kernels/layout/test_specs.h"

namespace kdn {
namespace {

using ::testing::HasSubstr;

// Recomputes the header CRC after a deliberate change, so that the checks behind it are reached.
void FixHeaderCrc(std::vector<uint8_t>& container) {
  const uint32_t header_bytes = LoadLe<uint32_t>(container.data() + 16);
  StoreLe<uint32_t>(0, container.data() + kHeaderCrcOffset);
  StoreLe<uint32_t>(Crc32c(ByteSpan(container).first(header_bytes)), container.data() + kHeaderCrcOffset);
}

class ContainerTest : public ::testing::Test {
 protected:
  const ModelSpec spec_ = testing::SlidingSpec(6, 32, 64);
  const CellMap map_{spec_, 256};
  const std::vector<uint8_t> container_ = testing::MakeContainer(spec_, map_, {});
};

TEST_F(ContainerTest, ParsesWhatItBuilt) {
  const auto header = ParseContainerHeader(container_);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->fingerprint, FingerprintOf(spec_));
  EXPECT_EQ(header->chunk_digest, Sha256::Of(AsBytes("chunk")));
  EXPECT_EQ(header->num_tokens, 256u);
  EXPECT_EQ(header->sections.size(), 12u);
  EXPECT_EQ(header->tiles.size(), 48u);
  EXPECT_EQ(header->header_bytes + header->body_bytes, container_.size());
  EXPECT_TRUE(CheckAgainstModel(*header, spec_, map_).ok()) << CheckAgainstModel(*header, spec_, map_);
  for (const SectionEntry& section : header->sections) {
    EXPECT_TRUE(
        VerifySection(section, ByteSpan(container_).subspan(header->header_bytes + section.offset, section.length))
            .ok());
  }
}

TEST_F(ContainerTest, RandomShapesRoundTrip) {
  std::mt19937 rng(3);
  for (int i = 0; i < 200; ++i) {
    const ModelSpec spec = testing::RandomSpec(rng);
    const uint32_t chunk_tokens = 16 * (1 + rng() % 8);
    const CellMap map(spec, chunk_tokens);
    testing::ContainerRecipe recipe;
    recipe.num_tokens = 1 + rng() % chunk_tokens;
    recipe.tile_tokens = 16 * (1 + rng() % 4);
    recipe.windowed_first_row = rng() % recipe.num_tokens;
    CellSet cells(map.num_cells());
    cells.Insert(rng() % map.num_cells());
    for (uint32_t cell = 0; cell < map.num_cells(); ++cell) {
      if (rng() % 2) cells.Insert(cell);
    }
    recipe.cells = cells;
    const std::vector<uint8_t> bytes = testing::MakeContainer(spec, map, recipe);
    const auto header = ParseContainerHeader(bytes);
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->cells, cells);
    EXPECT_TRUE(CheckAgainstModel(*header, spec, map).ok()) << CheckAgainstModel(*header, spec, map);
    for (const uint32_t cell : cells.ToVector()) {
      const bool windowed = map.BandOfCell(cell).window > 0;
      EXPECT_EQ(FirstRowOfCell(*header, map, cell), windowed ? recipe.windowed_first_row : 0);
    }
  }
}

TEST_F(ContainerTest, ExtensionsAndCalibrationRoundTrip) {
  ContainerHeader header = ParseContainerHeader(container_).value();
  header.calibration = {Sha256::Of(AsBytes("table"))};
  header.extensions = {{7, {1, 2, 3}}, {9, {}}};
  header.optional_features = 0x80;
  ContainerBuilder builder(header);
  for (const SectionEntry& section : header.sections) {
    builder.BeginSection(section);
    for (const TileEntry& tile : header.TilesOf(section)) {
      builder.AddTile(tile.profile, std::vector<uint8_t>(tile.length, 5));
    }
  }
  const auto bytes = std::move(builder).Finish();
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  const auto parsed = ParseContainerHeader(*bytes);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->calibration, header.calibration);
  ASSERT_EQ(parsed->extensions.size(), 2u);
  EXPECT_EQ(parsed->extensions[0].bytes, (std::vector<uint8_t>{1, 2, 3}));
  EXPECT_EQ(parsed->optional_features, 0x80u);
}

TEST_F(ContainerTest, EveryHeaderTruncationIsRefused) {
  const uint32_t header_bytes = ParseContainerHeader(container_)->header_bytes;
  for (size_t size = 0; size < header_bytes; ++size) {
    EXPECT_FALSE(ParseContainerHeader(ByteSpan(container_).first(size)).ok()) << size;
  }
  EXPECT_TRUE(ParseContainerHeader(ByteSpan(container_).first(header_bytes)).ok());
}

TEST_F(ContainerTest, EveryHeaderBitFlipIsRefused) {
  const uint32_t header_bytes = ParseContainerHeader(container_)->header_bytes;
  for (size_t bit = 0; bit < size_t{header_bytes} * 8; ++bit) {
    std::vector<uint8_t> flipped = container_;
    flipped[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    EXPECT_FALSE(ParseContainerHeader(flipped).ok()) << "bit " << bit;
  }
}

TEST_F(ContainerTest, EveryBodyBitFlipIsCaughtByItsSection) {
  const ContainerHeader header = ParseContainerHeader(container_).value();
  std::mt19937 rng(4);
  for (int i = 0; i < 500; ++i) {
    const SectionEntry& section = header.sections[rng() % header.sections.size()];
    const ByteSpan intact = ByteSpan(container_).subspan(header.header_bytes + section.offset, section.length);
    std::vector<uint8_t> damaged(intact.begin(), intact.end());
    damaged[rng() % damaged.size()] ^= static_cast<uint8_t>(1u << (rng() % 8));
    EXPECT_EQ(VerifySection(section, damaged).code(), absl::StatusCode::kDataLoss);
  }
}

TEST_F(ContainerTest, LyingHeadersWithAGoodCrcNeverCrashOrOverrun) {
  std::mt19937 rng(5);
  const uint32_t header_bytes = ParseContainerHeader(container_)->header_bytes;
  for (int i = 0; i < 20000; ++i) {
    std::vector<uint8_t> lying = container_;
    for (uint32_t changes = 1 + rng() % 4; changes > 0; --changes) {
      const size_t at = rng() % header_bytes;
      if (at >= 16 && at < 24) continue;
      lying[at] = static_cast<uint8_t>(rng());
    }
    FixHeaderCrc(lying);
    const auto header = ParseContainerHeader(lying);
    if (!header.ok()) continue;
    for (const SectionEntry& section : header->sections) {
      ASSERT_LE(section.offset + section.length, header->body_bytes);
      for (const TileEntry& tile : header->TilesOf(section)) ASSERT_LE(tile.offset + tile.length, section.length);
    }
    CheckAgainstModel(*header, spec_, map_).IgnoreError();
  }
}

struct HeaderLie {
  const char* name;
  size_t offset;
  std::vector<uint8_t> bytes;
  absl::StatusCode code;
};

TEST_F(ContainerTest, NamedLiesGetTheirCode) {
  const HeaderLie lies[] = {
      {"magic", 0, {'X'}, absl::StatusCode::kInvalidArgument},
      {"major version", 4, {2}, absl::StatusCode::kUnimplemented},
      {"reserved", 6, {1}, absl::StatusCode::kInvalidArgument},
      {"required feature", 8, {2}, absl::StatusCode::kUnimplemented},
      {"feature of wide sections without one", 8, {1}, absl::StatusCode::kInvalidArgument},
      {"huge body", 24, {0, 0, 0, 0, 0, 1}, absl::StatusCode::kInvalidArgument},
      {"section count", 32, {0xff, 0xff, 0xff, 0x00}, absl::StatusCode::kInvalidArgument},
      {"tile directory size", 36, {0xff, 0xff, 0xff, 0x7f}, absl::StatusCode::kInvalidArgument},
      {"token count", 120, {0, 0, 0, 0}, absl::StatusCode::kInvalidArgument},
      {"tile tokens", 124, {5, 0, 0, 0}, absl::StatusCode::kInvalidArgument},
      {"dtype", 128, {77}, absl::StatusCode::kInvalidArgument},
      {"rope state", 129, {0}, absl::StatusCode::kInvalidArgument},
      {"cell count", 136, {0xff, 0xff, 0xff, 0x7f}, absl::StatusCode::kInvalidArgument},
  };
  for (const HeaderLie& lie : lies) {
    std::vector<uint8_t> lying = container_;
    std::copy(lie.bytes.begin(), lie.bytes.end(), lying.begin() + lie.offset);
    FixHeaderCrc(lying);
    EXPECT_EQ(ParseContainerHeader(lying).status().code(), lie.code) << lie.name;
  }
  // An unknown optional feature is no reason to refuse.
  std::vector<uint8_t> optional = container_;
  optional[12] = 0xff;
  FixHeaderCrc(optional);
  EXPECT_TRUE(ParseContainerHeader(optional).ok());
}

TEST_F(ContainerTest, ModelMismatchesAreNamed) {
  const ContainerHeader good = ParseContainerHeader(container_).value();
  const std::pair<const char*, std::function<void(ContainerHeader&)>> lies[] = {
      {"holds fp16", [](ContainerHeader& h) { h.dtype = DType::kFp16; }},
      {"tokens", [](ContainerHeader& h) { h.num_tokens = 300; }},
      {"cells", [](ContainerHeader& h) { h.cells = CellSet::All(5); }},
      {"claims cell", [](ContainerHeader& h) { h.sections.pop_back(); }},
      {"does not claim", [](ContainerHeader& h) { h.cells.Erase(0); }},
      {"twice", [](ContainerHeader& h) { h.sections[1] = h.sections[0]; }},
      {"layer 9", [](ContainerHeader& h) { h.sections[0].layer = 9; }},
      {"head 1", [](ContainerHeader& h) { h.sections[0].head_begin = 1; }},
      {"reaches into cell", [](ContainerHeader& h) { h.sections[0].layer_count = 6; }},
      {"lacks rows", [](ContainerHeader& h) { h.sections.back().first_row = 16; }},
      {"start at rows", [](ContainerHeader& h) { h.sections[0].first_row = 16; }},
  };
  for (const auto& [words, lie] : lies) {
    ContainerHeader header = good;
    lie(header);
    const absl::Status status = CheckAgainstModel(header, spec_, map_);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << words;
    EXPECT_THAT(std::string(FromAbsl(status.message())), HasSubstr(words));
  }
}

TEST_F(ContainerTest, CellContentDigestIgnoresCompanionsAndSeesContent) {
  const ModelSpec spec = testing::FullAttentionSpec(2, 4, 32);
  const CellMap map(spec, 256);
  testing::ContainerRecipe recipe;
  const ContainerHeader whole = ParseContainerHeader(testing::MakeContainer(spec, map, recipe)).value();
  recipe.cells = CellSet(map.num_cells());
  recipe.cells->Insert(2);
  const ContainerHeader alone = ParseContainerHeader(testing::MakeContainer(spec, map, recipe)).value();
  EXPECT_EQ(CellContentDigest(whole, map, 2), CellContentDigest(alone, map, 2));
  EXPECT_NE(CellContentDigest(whole, map, 2), CellContentDigest(whole, map, 3));
  recipe.salt = 1;
  const ContainerHeader other = ParseContainerHeader(testing::MakeContainer(spec, map, recipe)).value();
  EXPECT_NE(CellContentDigest(alone, map, 2), CellContentDigest(other, map, 2));
}

TEST(ContainerBuilderTest, RefusesTilesOfAnotherWidthThanTheirSection) {
  for (const bool wide : {false, true}) {
    ContainerHeader header;
    header.num_tokens = 16;
    header.tile_tokens = 16;
    header.cells = CellSet::All(1);
    ContainerBuilder builder(header);
    SectionEntry scope;
    scope.wide = wide;
    builder.BeginSection(scope);
    builder.AddTile(wide ? ProfileId::kRaw : ProfileId::kTransform, std::vector<uint8_t>(64));
    EXPECT_EQ(std::move(builder).Finish().status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(ContainerBuilderTest, RefusesTheWrongNumberOfTiles) {
  const ModelSpec spec = testing::FullAttentionSpec(1, 1, 32);
  ContainerHeader header;
  header.num_tokens = 100;
  header.tile_tokens = 64;
  header.cells = CellSet::All(1);
  ContainerBuilder builder(header);
  builder.BeginSection({});
  builder.AddTile(ProfileId::kRaw, std::vector<uint8_t>(64));
  EXPECT_EQ(std::move(builder).Finish().status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ProfileTest, NamesRoundTrip) {
  for (uint8_t i = 0; i <= kMaxProfileId; ++i) {
    EXPECT_EQ(ParseProfile(ProfileName(static_cast<ProfileId>(i))), static_cast<ProfileId>(i));
  }
  EXPECT_EQ(ProfileName(static_cast<ProfileId>(200)), "unknown");
  EXPECT_FALSE(ParseProfile("gzip").has_value());
}

TEST(ProfileTest, WhoAcceptsAProfileAcceptsThoseThatLoseLess) {
  EXPECT_TRUE(LosesNoMoreThan(ProfileId::kRaw, ProfileId::kLossless));
  EXPECT_TRUE(LosesNoMoreThan(ProfileId::kLossless, ProfileId::kRaw));
  EXPECT_FALSE(LosesNoMoreThan(ProfileId::kInt8, ProfileId::kLossless));
  EXPECT_TRUE(LosesNoMoreThan(ProfileId::kLossless, ProfileId::kInt8));
  EXPECT_TRUE(LosesNoMoreThan(ProfileId::kInt8, ProfileId::kQ4));
  EXPECT_FALSE(LosesNoMoreThan(ProfileId::kQ4, ProfileId::kInt8));
  EXPECT_FALSE(LosesNoMoreThan(static_cast<ProfileId>(200), ProfileId::kTransform));
  EXPECT_TRUE(LosesAlike(ProfileId::kRaw, ProfileId::kLossless));
  EXPECT_TRUE(LosesAlike(ProfileId::kTransform, ProfileId::kCacheGen));
  EXPECT_FALSE(LosesAlike(ProfileId::kLossless, ProfileId::kInt8));
}

TEST_F(ContainerTest, WhatReadersMustAcceptFollowsFromTilesAndRotation) {
  ContainerHeader header = ParseContainerHeader(container_).value();
  EXPECT_EQ(RequiredProfile(header, spec_), ProfileId::kRaw);
  header.tiles[3].profile = ProfileId::kInt8;
  EXPECT_EQ(RequiredProfile(header, spec_), ProfileId::kInt8);
  header.rope_state = RopeState::kUnrotated;
  EXPECT_EQ(RequiredProfile(header, spec_), ProfileId::kQ4);
  header.tiles[5].profile = ProfileId::kTransform;
  EXPECT_EQ(RequiredProfile(header, spec_), ProfileId::kTransform);
  header.tiles[6].profile = static_cast<ProfileId>(77);
  EXPECT_EQ(RequiredProfile(header, spec_), ProfileId::kTransform);
  ModelSpec still = spec_;
  for (RopeSpec& rope : still.ropes) rope = {};
  EXPECT_EQ(RequiredProfile(ProfileId::kLossless, RopeState::kUnrotated, still), ProfileId::kLossless);
}

}  // namespace
}  // namespace kdn
