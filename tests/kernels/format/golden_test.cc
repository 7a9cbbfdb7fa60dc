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

TEST(GoldenContainerTest, Version1Dot0IsFrozen) {
  const ModelSpec spec = testing::SlidingSpec(6, 16, 64);
  const CellMap map(spec, 32);
  testing::ContainerRecipe recipe;
  recipe.num_tokens = 20;
  recipe.tile_tokens = 16;
  recipe.windowed_first_row = 3;
  const std::vector<uint8_t> built = testing::MakeContainer(spec, map, recipe);
  const std::string path = KDN_SOURCE_DIR "/tests/kernels/format/golden/container-1.0.bin";
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

}  // namespace
}  // namespace kdn
