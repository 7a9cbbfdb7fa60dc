#include "kernels/format/calibration_object.h"

#include <gtest/gtest.h>

#include <vector>

namespace kdn {
namespace {

std::vector<uint8_t> MakeObject(uint8_t kind, size_t bytes = 64) {
  std::vector<uint8_t> object(bytes);
  const uint8_t header[] = {'K', 'D', 'N', 'O', 1, 0, kind, 0};
  std::copy(std::begin(header), std::end(header), object.begin());
  for (size_t i = 0; i < Digest::kBytes; ++i) object[8 + i] = static_cast<uint8_t>(i);
  return object;
}

Fingerprint OwnFingerprint() { return *Digest::FromBytes(ByteSpan(MakeObject(2)).subspan(8, Digest::kBytes)); }

TEST(CalibrationObjectTest, KindsAreToldApart) {
  EXPECT_EQ(*CheckCalibrationHeader(MakeObject(1), Fingerprint{}), CalibrationKind::kLossless);
  EXPECT_EQ(*CheckCalibrationHeader(MakeObject(2), OwnFingerprint()), CalibrationKind::kTransform);
  EXPECT_EQ(CalibrationKindName(CalibrationKind::kTransform), "transform");
}

TEST(CalibrationObjectTest, AnotherModelsTransformsAreRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(CheckCalibrationHeader(MakeObject(2), Fingerprint{}).status()));
}

TEST(CalibrationObjectTest, FingerprintIsReadWhereThereIsOne) {
  EXPECT_EQ(*FingerprintOfCalibration(MakeObject(2)), OwnFingerprint());
  EXPECT_TRUE(absl::IsInvalidArgument(FingerprintOfCalibration(MakeObject(1)).status()));
}

TEST(CalibrationObjectTest, WhatIsNoObjectIsRefused) {
  for (const size_t offset : {0, 1, 2, 3, 6}) {
    std::vector<uint8_t> object = MakeObject(2);
    object[offset] ^= 0x40;
    EXPECT_TRUE(absl::IsInvalidArgument(PeekCalibrationKind(object).status())) << offset;
  }
  std::vector<uint8_t> object = MakeObject(2);
  object[4] = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(PeekCalibrationKind(object).status()));
  object[4] = 2;
  EXPECT_TRUE(absl::IsUnimplemented(PeekCalibrationKind(object).status()));
}

TEST(CalibrationObjectTest, TruncatedHeaderIsRefused) {
  const std::vector<uint8_t> object = MakeObject(2);
  for (size_t bytes = 0; bytes < 40; ++bytes) {
    EXPECT_TRUE(
        absl::IsInvalidArgument(CheckCalibrationHeader(ByteSpan(object).first(bytes), OwnFingerprint()).status()))
        << bytes;
  }
  EXPECT_TRUE(CheckCalibrationHeader(ByteSpan(object).first(40), OwnFingerprint()).ok());
}

}  // namespace
}  // namespace kdn
