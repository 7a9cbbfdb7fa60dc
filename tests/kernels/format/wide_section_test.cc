#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"
#include "kernels/format/container.h"
#include "kernels/format/container_layout.h"
#include "tests/kernels/format/test_containers.h"
#include "tests/kernels/layout/test_specs.h"

// Sections that code several cells together.

namespace kdn {
namespace {

using ::testing::HasSubstr;

// 6 layers x 4 heads in one band; layers 0-1 and 2-4 are coded over heads 0-1 and 2-3, layer 5 narrow.
class WideSectionTest : public ::testing::Test {
 protected:
  static testing::ContainerRecipe Recipe() {
    testing::ContainerRecipe recipe;
    recipe.wide = {{0, 2, 0, 2}, {0, 2, 2, 2}, {2, 3, 0, 2}, {2, 3, 2, 2}};
    return recipe;
  }
  std::vector<uint8_t> Make(const testing::ContainerRecipe& recipe) {
    return testing::MakeContainer(spec_, map_, recipe);
  }
  ContainerHeader Parse(const testing::ContainerRecipe& recipe) { return ParseContainerHeader(Make(recipe)).value(); }

  const ModelSpec spec_ = testing::FullAttentionSpec(6, 4, 32);
  const CellMap map_{spec_, 256};
};

TEST_F(WideSectionTest, ParsesWhatItBuiltWithOneTileARowGroup) {
  ASSERT_EQ(map_.bands().size(), 1u);
  const ContainerHeader header = Parse(Recipe());
  EXPECT_EQ(header.required_features, kFeatureWideSections);
  EXPECT_TRUE(header.HasWideSections());
  EXPECT_TRUE(CheckAgainstModel(header, spec_, map_).ok()) << CheckAgainstModel(header, spec_, map_);
  ASSERT_EQ(header.sections.size(), 4u + 8u);
  const SectionEntry& first = header.sections[0];
  EXPECT_TRUE(first.wide);
  EXPECT_EQ(first.kind, SectionKind::kJointKv);
  EXPECT_EQ(first.layer_count, 2);
  EXPECT_EQ(first.head_count, 2);
  EXPECT_EQ(first.tile_count, 4u);
  EXPECT_EQ(header.TilesOf(first)[0].profile, ProfileId::kTransform);
  EXPECT_FALSE(header.sections[4].wide);
}

TEST_F(WideSectionTest, NarrowContainersDoNotNeedTheFeature) {
  ContainerHeader header = Parse({});
  EXPECT_EQ(header.required_features, 0u);
  // Not even when they are made of the header of a wide one.
  header.required_features = kFeatureWideSections;
  ContainerBuilder builder(header);
  for (const SectionEntry& section : header.sections) {
    builder.BeginSection(section);
    for (const TileEntry& tile : header.TilesOf(section)) {
      builder.AddTile(tile.profile, std::vector<uint8_t>(tile.length));
    }
  }
  EXPECT_EQ(ParseContainerHeader(std::move(builder).Finish().value())->required_features, 0u);
}

TEST_F(WideSectionTest, BelongsToTheCellsOfAllItsHeads) {
  const ContainerHeader header = Parse(Recipe());
  const CellRange second = CellsOfSection(header.sections[1], map_);
  EXPECT_EQ(second.begin, 2u);
  EXPECT_EQ(second.end, 4u);
  CellSet one(map_.num_cells());
  one.Insert(3);
  EXPECT_TRUE(second.Intersects(one));
  EXPECT_FALSE(CellsOfSection(header.sections[0], map_).Intersects(one));
  const CellRange narrow = CellsOfSection(header.sections.back(), map_);
  EXPECT_EQ(narrow.begin, 3u);
  EXPECT_EQ(narrow.end, 4u);
}

TEST_F(WideSectionTest, ContentDigestOfACellSeesEverySectionOfIt) {
  const ContainerHeader header = Parse(Recipe());
  for (size_t i = 0; i < header.sections.size(); ++i) {
    ContainerHeader other = header;
    other.sections[i].crc32c ^= 1;
    const CellRange cells = CellsOfSection(header.sections[i], map_);
    for (uint32_t cell = 0; cell < map_.num_cells(); ++cell) {
      const bool same = CellContentDigest(header, map_, cell) == CellContentDigest(other, map_, cell);
      EXPECT_EQ(same, cell < cells.begin || cell >= cells.end) << "section " << i << ", cell " << cell;
    }
  }
}

TEST_F(WideSectionTest, ContentDigestIgnoresCellsThatShareNoSection) {
  testing::ContainerRecipe recipe = Recipe();
  const ContainerHeader whole = Parse(recipe);
  recipe.cells = CellSet(map_.num_cells());
  recipe.cells->Insert(2);
  recipe.cells->Insert(3);
  const ContainerHeader half = Parse(recipe);
  EXPECT_EQ(CellContentDigest(whole, map_, 2), CellContentDigest(half, map_, 2));
  recipe.cells->Erase(3);
  EXPECT_NE(CellContentDigest(whole, map_, 2), CellContentDigest(Parse(recipe), map_, 2));
}

TEST_F(WideSectionTest, CellsOfWindowedBandsShareTheirFirstRow) {
  const ModelSpec spec = testing::SlidingSpec(6, 32, 64);
  const CellMap map(spec, 256);
  testing::ContainerRecipe recipe;
  recipe.windowed_first_row = 100;
  for (const LayerBand& band : map.bands()) {
    if (band.window > 0) recipe.wide = {{static_cast<uint16_t>(band.layers[0]), 1, 0, 1}};
  }
  ASSERT_EQ(recipe.wide.size(), 1u);
  const auto header = ParseContainerHeader(testing::MakeContainer(spec, map, recipe));
  ASSERT_TRUE(header.ok()) << header.status();
  ASSERT_TRUE(CheckAgainstModel(*header, spec, map).ok()) << CheckAgainstModel(*header, spec, map);
  EXPECT_TRUE(header->HasWideSections());
  EXPECT_EQ(FirstRowOfCell(*header, map, map.CellOf(recipe.wide[0].layer, 0)), 100u);
  for (const SectionEntry& section : header->sections) {
    EXPECT_EQ(section.tile_count, section.first_row == 0 ? 4u : 3u);
  }
}

TEST_F(WideSectionTest, ModelMismatchesAreNamed) {
  const ContainerHeader good = Parse(Recipe());
  const std::pair<const char*, std::function<void(ContainerHeader&)>> lies[] = {
      {"does not claim", [](ContainerHeader& h) { h.cells.Erase(1); }},
      {"claims cell", [](ContainerHeader& h) { h.sections.erase(h.sections.begin()); }},
      {"twice", [](ContainerHeader& h) { h.sections[1] = h.sections[0]; }},
      {"twice", [](ContainerHeader& h) { h.sections[0].layer_count = 3; }},
      {"head 4", [](ContainerHeader& h) { h.sections[1].head_count = 3; }},
      {"lacks rows", [](ContainerHeader& h) { h.sections[0].first_row = 16; }},
      {"wide section of K alone", [](ContainerHeader& h) { h.sections[0].kind = SectionKind::kK; }},
      {"reaches into cell 1", [](ContainerHeader& h) { h.sections[0].wide = false; }},
  };
  for (const auto& [words, lie] : lies) {
    ContainerHeader header = good;
    lie(header);
    const absl::Status status = CheckAgainstModel(header, spec_, map_);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << words;
    EXPECT_THAT(std::string(FromAbsl(status.message())), HasSubstr(words));
  }
}

TEST_F(WideSectionTest, SectionsAcrossBandsAreRefused) {
  const ModelSpec spec = testing::SlidingSpec(6, 32, 64);
  const CellMap map(spec, 256);
  ContainerHeader header = ParseContainerHeader(testing::MakeContainer(spec, map, {})).value();
  header.sections[0].wide = true;
  header.sections[0].kind = SectionKind::kJointKv;
  header.sections[0].layer_count = 6;
  const absl::Status status = CheckAgainstModel(header, spec, map);
  EXPECT_THAT(std::string(FromAbsl(status.message())), HasSubstr("reaches into cell"));
}

TEST_F(WideSectionTest, NamedLiesAreRefused) {
  const std::vector<uint8_t> good = Make(Recipe());
  const size_t directory = kContainerPreludeBytes + kIdentityBytes + 1;  // 4 cells, no calibration, no extension
  const size_t tiles = directory + 12 * kSectionEntryBytes;
  ASSERT_EQ(good[directory + 3], 0x82);
  ASSERT_EQ(good[tiles], static_cast<uint8_t>(ProfileId::kTransform));
  struct Lie {
    const char* name;
    size_t offset;
    uint8_t byte;
  };
  const Lie lies[] = {
      {"feature missing", 8, 0},
      {"wide V", directory + 3, 0x81},
      {"wide of an unknown kind", directory + 3, 0x83},
      {"wide section called narrow", directory + 3, 0x02},
      {"narrow section called wide", directory + 4 * kSectionEntryBytes + 3, 0x80},
      {"wide tile of another profile", tiles, static_cast<uint8_t>(ProfileId::kQ4)},
  };
  for (const Lie& lie : lies) {
    std::vector<uint8_t> lying = good;
    lying[lie.offset] = lie.byte;
    StoreLe<uint32_t>(0, lying.data() + kHeaderCrcOffset);
    const uint32_t header_bytes = LoadLe<uint32_t>(lying.data() + 16);
    StoreLe<uint32_t>(Crc32c(ByteSpan(lying).first(header_bytes)), lying.data() + kHeaderCrcOffset);
    EXPECT_EQ(ParseContainerHeader(lying).status().code(), absl::StatusCode::kInvalidArgument) << lie.name;
  }
}

TEST_F(WideSectionTest, EveryTruncationAndBitFlipOfTheHeaderIsRefused) {
  const std::vector<uint8_t> good = Make(Recipe());
  const uint32_t header_bytes = Parse(Recipe()).header_bytes;
  for (size_t size = 0; size < header_bytes; ++size) {
    EXPECT_FALSE(ParseContainerHeader(ByteSpan(good).first(size)).ok()) << size;
  }
  for (size_t bit = 0; bit < size_t{header_bytes} * 8; ++bit) {
    std::vector<uint8_t> flipped = good;
    flipped[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    EXPECT_FALSE(ParseContainerHeader(flipped).ok()) << "bit " << bit;
  }
}

TEST_F(WideSectionTest, LyingHeadersWithAGoodCrcNeverCrashOrOverrun) {
  std::mt19937 rng(7);
  const std::vector<uint8_t> good = Make(Recipe());
  const uint32_t header_bytes = Parse(Recipe()).header_bytes;
  for (int i = 0; i < 20000; ++i) {
    std::vector<uint8_t> lying = good;
    for (uint32_t changes = 1 + rng() % 4; changes > 0; --changes) {
      const size_t at = rng() % header_bytes;
      if (at >= 16 && at < 24) continue;
      lying[at] = static_cast<uint8_t>(rng());
    }
    StoreLe<uint32_t>(0, lying.data() + kHeaderCrcOffset);
    StoreLe<uint32_t>(Crc32c(ByteSpan(lying).first(header_bytes)), lying.data() + kHeaderCrcOffset);
    const auto header = ParseContainerHeader(lying);
    if (!header.ok()) continue;
    for (const SectionEntry& section : header->sections) {
      ASSERT_LE(section.offset + section.length, header->body_bytes);
      for (const TileEntry& tile : header->TilesOf(section)) ASSERT_LE(tile.offset + tile.length, section.length);
    }
    if (!CheckAgainstModel(*header, spec_, map_).ok()) continue;
    for (const SectionEntry& section : header->sections) {
      const CellRange cells = CellsOfSection(section, map_);
      ASSERT_LT(cells.begin, cells.end);
      for (uint32_t cell = cells.begin; cell < cells.end; ++cell) ASSERT_TRUE(header->cells.Contains(cell));
    }
  }
}

}  // namespace
}  // namespace kdn
