#include "kernels/cuda/tile_check.h"

#include <gtest/gtest.h>

#include "kernels/cuda/tile_decode.h"
#include "tests/kernels/cuda/coded_tile.h"

namespace kdn {
namespace {

class TileCheckTest : public testing::Test {
 protected:
  absl::Status Check() { return CheckTileJob(tile_.geometry, job_, tile_.coded, LosslessTables::BuiltIn()); }

  CodedTile tile_ = MakeCodedTile({{DType::kBf16, 40, 64, 1, 0, KvKind::kK}, ProfileId::kLossless}, 3);
  TileJob job_ = [this] {
    TileJob job = JobOf(tile_);
    job.lossless_table = LosslessTables::BuiltIn().DecodeTable(0);
    return job;
  }();
};

TEST_F(TileCheckTest, AcceptsWhatTheEncoderWrote) { EXPECT_EQ(Check(), absl::OkStatus()); }

TEST_F(TileCheckTest, RefusesRowsBeyondTheTile) {
  job_.row_begin = 20;
  job_.row_count = 21;
  EXPECT_TRUE(absl::IsInvalidArgument(Check())) << Check();
  job_.row_begin = UINT32_MAX;
  EXPECT_TRUE(absl::IsInvalidArgument(Check())) << Check();
}

TEST_F(TileCheckTest, RefusesRotationBeyondTheRow) {
  const float cos_sin[2] = {};
  job_.rope = {cos_sin, 16, 25};
  EXPECT_TRUE(absl::IsInvalidArgument(Check())) << Check();
  job_.rope = {cos_sin, UINT32_MAX, UINT32_MAX};
  EXPECT_TRUE(absl::IsInvalidArgument(Check())) << Check();
}

TEST_F(TileCheckTest, RefusesAnotherGeometryThanTheTiles) {
  job_.dim = 128;
  EXPECT_TRUE(absl::IsInvalidArgument(Check())) << Check();
}

TEST_F(TileCheckTest, RefusesTablesThatAreNotThere) {
  job_.lossless_table = nullptr;
  EXPECT_TRUE(absl::IsInvalidArgument(Check())) << Check();
}

TEST_F(TileCheckTest, RefusesProfilesWithoutAKernel) {
  job_.profile = ProfileId::kCacheGen;
  EXPECT_TRUE(absl::IsUnimplemented(Check())) << Check();
}

// Whatever is cut off: the header's words and escapes can no longer be there.
TEST_F(TileCheckTest, RefusesTruncatedTiles) {
  for (const ProfileId profile : {ProfileId::kRaw, ProfileId::kLossless, ProfileId::kInt8, ProfileId::kQ4}) {
    tile_ = MakeCodedTile({{DType::kBf16, 40, 64, 1, 0, KvKind::kK}, profile}, 3);
    tile_.coded.resize(100);
    job_.profile = profile;
    job_.coded_bytes = 100;
    EXPECT_TRUE(absl::IsDataLoss(Check())) << Check();
  }
}

TEST(TileBatchTest, ABuildWithoutCudaNamesTheOption) {
  const absl::Status available = DeviceDecodeAvailable();
  if (!absl::IsUnimplemented(available)) GTEST_SKIP() << "built with CUDA: " << available;
  const absl::Status launched = LaunchTileDecode({}, nullptr);
  EXPECT_TRUE(absl::IsUnimplemented(launched)) << launched;
  EXPECT_NE(launched.message().find("KDN_WITH_CUDA"), absl::string_view::npos) << launched;
}

}  // namespace
}  // namespace kdn
