#include "storage/segment/segment_appender.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/clock.h"
#include "kernels/base/crc32c.h"
#include "storage/segment/format.h"
#include "storage/segment/record_walker.h"
#include "storage/segment/recovery.h"
#include "tests/storage/torture/fault_file_system.h"
#include "tests/storage/torture/value_oracle.h"

// Orders of events that a whole store meets only by chance.

namespace kdn {
namespace {

constexpr char kPath[] = "/data/00000000000000000001.seg";
constexpr SegmentIdentity kIdentity{.id = 1, .nonce = 77};

class SegmentAppenderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(file_system_.CreateDirs("/data").ok());
    auto file = file_system_.Open(kPath, OpenMode::kCreate, DirectIo::kAuto);
    ASSERT_TRUE(file.ok());
    file_ = std::move(*file);
    AlignedBuffer block(kSegmentBlockBytes);
    EncodeSegmentHeader({.id = 1, .nonce = 77, .created_wall_ms = 5}, block.data());
    ASSERT_TRUE(file_->WriteAt(0, block.span()).ok());
    ASSERT_TRUE(file_->Sync().ok());
    ASSERT_TRUE(file_system_.SyncDir("/data").ok());
    segment_ = std::make_shared<Segment>(file_system_, kPath, kIdentity, DirectIo::kAuto);
    segment_->SetFile(file_);
    appender_ = std::make_unique<SegmentAppender>(
        segment_, file_, SegmentAppender::Limits{.segment_bytes = 1 << 20, .allocation_bytes = 1 << 16},
        [](uint64_t) { return absl::OkStatus(); });
  }

  SegmentAppender::Reservation Reserve(const TestValue& value) {
    const auto reserved = appender_->Reserve(RecordBytes(value.metadata_bytes, value.payload_bytes));
    EXPECT_TRUE(reserved.ok() && reserved->has_value());
    return **reserved;
  }

  absl::StatusOr<ValueLocation> Write(const SegmentAppender::Reservation& reservation, const TestValue& value) {
    return appender_->Write(reservation, MetadataOf(value), {.bytes = PayloadOf(value)}, staging_);
  }

  static std::vector<TestValue> ScanOf(Segment& segment) {
    std::vector<TestValue> values;
    EXPECT_TRUE(segment
                    .Scan({.verify_payload = true},
                          [&](const ScannedValue& met) {
                            EXPECT_TRUE(met.status.ok()) << met.status;
                            const auto value = ValueOf(met.metadata);
                            if (value.has_value()) values.push_back(*value);
                          })
                    .ok());
    return values;
  }

  std::shared_ptr<Segment> Recovered() {
    const auto recovered = RecoverSegment(file_system_, kPath, 1, DirectIo::kAuto);
    EXPECT_TRUE(recovered.ok()) << recovered.status();
    return recovered->segment;
  }

  FaultFileSystem file_system_{1};
  std::shared_ptr<File> file_;
  std::shared_ptr<Segment> segment_;
  std::unique_ptr<SegmentAppender> appender_;
  BufferPool staging_{1 << 20, 4};
  const TestValue a_{.seed = 1, .payload_bytes = 20000};
  const TestValue b_{.seed = 2, .payload_bytes = 9000};
  const TestValue c_{.seed = 3, .payload_bytes = 3000};
};

TEST_F(SegmentAppenderTest, AFailedWriteWithOthersBehindItLeavesAVoid) {
  const auto first = Reserve(a_);
  const auto second = Reserve(b_);
  ASSERT_TRUE(Write(second, b_).ok());
  // One refusal: the write fails, the void after it succeeds.
  file_system_.FillUpOnce();
  EXPECT_TRUE(absl::IsResourceExhausted(Write(first, a_).status()));
  EXPECT_EQ(ScanOf(*segment_), std::vector<TestValue>{b_});
  ASSERT_TRUE(Write(Reserve(c_), c_).ok());
  EXPECT_EQ(ScanOf(*segment_), (std::vector<TestValue>{b_, c_}));
  appender_->Retire();
  appender_->WaitSealed();
  EXPECT_EQ(ScanOf(*Recovered()), (std::vector<TestValue>{b_, c_}));
  EXPECT_EQ(Recovered()->state().record_count, 2u);
}

TEST_F(SegmentAppenderTest, AFailedWriteThatCannotBeUndoneEndsTheSegmentWithoutItsMark) {
  const auto first = Reserve(a_);
  const auto second = Reserve(b_);
  ASSERT_TRUE(Write(second, b_).ok());
  file_system_.FillUpAfter(0);
  EXPECT_TRUE(absl::IsResourceExhausted(Write(first, a_).status()));
  file_system_.Heal();
  const auto refused = appender_->Reserve(8192);
  ASSERT_TRUE(refused.ok());
  EXPECT_FALSE(refused->has_value());
  appender_->Retire();
  appender_->WaitSealed();
  file_ = nullptr;
  // Looked through record by record: what was acknowledged is there.
  const auto recovered = Recovered();
  EXPECT_EQ(recovered->state().record_count, 1u);
  EXPECT_EQ(recovered->state().payload_bytes, b_.payload_bytes);
}

TEST_F(SegmentAppenderTest, AFailedLastWriteGivesItsPlaceBack) {
  const auto first = Reserve(a_);
  file_system_.FillUpOnce();
  EXPECT_TRUE(absl::IsResourceExhausted(Write(first, a_).status()));
  const auto again = Reserve(c_);
  EXPECT_EQ(again.offset, first.offset);
  EXPECT_GT(again.sequence, first.sequence);
  ASSERT_TRUE(Write(again, c_).ok());
  EXPECT_EQ(ScanOf(*segment_), std::vector<TestValue>{c_});
}

TEST_F(SegmentAppenderTest, ARecordBehindAHoleSurvivesACrash) {
  const auto hole = Reserve(a_);
  const auto behind = Reserve(b_);
  ASSERT_TRUE(Write(behind, b_).ok());
  ASSERT_TRUE(appender_->Sync().ok());
  EXPECT_LT(hole.offset, behind.offset);
  file_system_.Reboot();
  EXPECT_EQ(ScanOf(*Recovered()), std::vector<TestValue>{b_});
}

TEST_F(SegmentAppenderTest, ScansStopBeforeTheFirstUnfinishedWrite) {
  ASSERT_TRUE(Write(Reserve(c_), c_).ok());
  const auto unfinished = Reserve(a_);
  ASSERT_TRUE(Write(Reserve(b_), b_).ok());
  EXPECT_EQ(ScanOf(*segment_), std::vector<TestValue>{c_});
  ASSERT_TRUE(Write(unfinished, a_).ok());
  EXPECT_EQ(ScanOf(*segment_), (std::vector<TestValue>{c_, a_, b_}));
}

TEST_F(SegmentAppenderTest, SealingWaitsForWritesInFlight) {
  const auto unfinished = Reserve(a_);
  appender_->Retire();
  EXPECT_FALSE(segment_->Describe().sealed);
  ASSERT_TRUE(Write(unfinished, a_).ok());
  EXPECT_TRUE(segment_->Describe().sealed);
  const auto refused = appender_->Reserve(8192);
  ASSERT_TRUE(refused.ok());
  EXPECT_FALSE(refused->has_value());
}

TEST_F(SegmentAppenderTest, AHeaderLeftBehindByAnOverwrittenFailureIsNotARecord) {
  // a_ and b_ fail after b_'s bytes reached the disk; c_ and one more record then take a_'s place, and b_'s header with
  // its whole payload stands right behind them.
  ASSERT_TRUE(Write(Reserve(a_), a_).ok());
  ASSERT_TRUE(Write(Reserve(b_), b_).ok());
  std::vector<uint8_t> image = file_system_.Contents(kPath);
  const std::vector<uint8_t> payload = PayloadOf(c_);
  const std::vector<uint8_t> metadata = MetadataOf(c_);
  for (const uint64_t offset : {kFirstRecordOffset, kFirstRecordOffset + RecordBytes(16, 3000)}) {
    const RecordHeader header{.segment_id = 1,
                              .segment_nonce = 77,
                              .record_offset = offset,
                              .sequence = offset,
                              .payload_bytes = payload.size(),
                              .metadata_bytes = static_cast<uint32_t>(metadata.size()),
                              .metadata_crc = Crc32c(metadata),
                              .payload_crc = Crc32c(payload)};
    EncodeRecordHeader(header, image.data() + offset);
    std::copy(metadata.begin(), metadata.end(), image.begin() + static_cast<int64_t>(offset + kRecordHeaderBytes));
    std::copy(payload.begin(), payload.end(), image.begin() + static_cast<int64_t>(header.PayloadOffset()));
  }
  file_system_.SetContents(kPath, image);
  const auto recovered = Recovered();
  EXPECT_EQ(ScanOf(*recovered), (std::vector<TestValue>{c_, c_}));
  EXPECT_EQ(recovered->state().readable_end, kFirstRecordOffset + 2 * RecordBytes(16, 3000));
}

}  // namespace
}  // namespace kdn
