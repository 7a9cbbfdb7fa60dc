#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "kernels/format/container.h"
#include "tests/kernels/format/test_containers.h"
#include "tests/kernels/layout/test_specs.h"

// The committed container of format 1.0 and today's builder must agree byte for byte. Changing the file is changing the
// format: it is written once per version by hand with KDN_WRITE_GOLDEN, never by a test run.

namespace kdn {
namespace {

std::vector<uint8_t> ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void ExpectFrozen(const std::string& file, const ModelSpec& spec, const CellMap& map,
                  const testing::ContainerRecipe& recipe) {
  const std::vector<uint8_t> built = testing::MakeContainer(spec, map, recipe);
  const std::string path = KDN_SOURCE_DIR "/tests/kernels/format/golden/" + file;
  if (std::getenv("KDN_WRITE_GOLDEN") != nullptr) {
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(built.data()), built.size());
  }
  const std::vector<uint8_t> golden = ReadFile(path);
  ASSERT_FALSE(golden.empty()) << path;
  EXPECT_EQ(golden, built);
  const auto header = ParseContainerHeader(golden);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_TRUE(CheckAgainstModel(*header, spec, map).ok());
}

TEST(GoldenContainerTest, Version1Dot0IsFrozen) {
  const ModelSpec spec = testing::SlidingSpec(6, 16, 64);
  const CellMap map(spec, 32);
  testing::ContainerRecipe recipe;
  recipe.num_tokens = 20;
  recipe.tile_tokens = 16;
  recipe.windowed_first_row = 3;
  ExpectFrozen("container-1.0.bin", spec, map, recipe);
}

TEST(GoldenContainerTest, WideSectionsAreFrozen) {
  const ModelSpec spec = testing::FullAttentionSpec(3, 2, 16);
  const CellMap map(spec, 32);
  testing::ContainerRecipe recipe;
  recipe.num_tokens = 20;
  recipe.tile_tokens = 16;
  recipe.wide = {{0, 2, 0, 2}};
  ExpectFrozen("container-1.0-wide.bin", spec, map, recipe);
}

}  // namespace
}  // namespace kdn
