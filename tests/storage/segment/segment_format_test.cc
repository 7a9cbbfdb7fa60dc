#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "kernels/base/bytes.h"
#include "kernels/base/crc32c.h"
#include "storage/segment/format.h"

namespace kdn {
namespace {

constexpr SegmentIdentity kIdentity{.id = 7, .nonce = 0x1122334455667788};

RecordHeader ExampleRecord() {
  return {.kind = RecordKind::kValue,
          .segment_id = 7,
          .segment_nonce = 0x1122334455667788,
          .record_offset = 8192,
          .sequence = 3,
          .payload_bytes = 10000,
          .metadata_bytes = 5,
          .metadata_crc = 0xaabbccdd,
          .payload_crc = 0x01020304};
}

std::vector<uint8_t> Encoded(const RecordHeader& header) {
  std::vector<uint8_t> bytes(kRecordHeaderBytes);
  EncodeRecordHeader(header, bytes.data());
  return bytes;
}

// The bytes of SEGMENT_FORMAT.md, written out by hand: whoever changes the coding must change the format version.
TEST(SegmentFormatTest, RecordHeaderHasTheSpecifiedBytes) {
  const std::vector<uint8_t> bytes = Encoded(ExampleRecord());
  EXPECT_EQ(Hex(ByteSpan(bytes).first(60)),
            "4b524543"
            "01"
            "00"
            "0100"
            "0700000000000000"
            "8877665544332211"
            "0020000000000000"
            "0300000000000000"
            "1027000000000000"
            "05000000"
            "ddccbbaa"
            "04030201");
  EXPECT_EQ(LoadLe<uint32_t>(bytes.data() + 60), Crc32c(ByteSpan(bytes).first(60)));
}

TEST(SegmentFormatTest, HeaderAndFooterHaveTheSpecifiedBytes) {
  std::vector<uint8_t> block(kSegmentBlockBytes, 0xff);
  EncodeSegmentHeader({.id = 7, .nonce = 0x1122334455667788, .created_wall_ms = 0x0102}, block.data());
  EXPECT_EQ(Hex(ByteSpan(block).first(40)),
            "4b444e5345470d0a"
            "0100"
            "0000"
            "00100000"
            "0700000000000000"
            "8877665544332211"
            "0201000000000000");
  EXPECT_TRUE(std::all_of(block.begin() + 40, block.begin() + 4092, [](uint8_t b) { return b == 0; }));
  EXPECT_EQ(LoadLe<uint32_t>(block.data() + 4092), Crc32c(ByteSpan(block).first(4092)));

  EncodeSegmentFooter({.id = 7, .nonce = 0x1122334455667788, .record_count = 2, .payload_bytes = 3, .data_end = 0x5000},
                      block.data());
  EXPECT_EQ(Hex(ByteSpan(block).first(56)),
            "4b444e454e440d0a"
            "0100"
            "0000"
            "00100000"
            "0700000000000000"
            "8877665544332211"
            "0200000000000000"
            "0300000000000000"
            "0050000000000000");
}

TEST(SegmentFormatTest, ParsesWhatItEncodes) {
  const auto parsed = ParseRecordHeader(Encoded(ExampleRecord()), kIdentity, 8192);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->payload_bytes, 10000u);
  EXPECT_EQ(parsed->metadata_bytes, 5u);
  EXPECT_EQ(parsed->sequence, 3u);
  EXPECT_EQ(parsed->PayloadOffset(), 8192u + 4096u);
  EXPECT_EQ(parsed->End(), 8192u + 4096u + 12288u);
}

TEST(SegmentFormatTest, RefusesRecordsOfAnotherPlace) {
  const std::vector<uint8_t> bytes = Encoded(ExampleRecord());
  EXPECT_TRUE(absl::IsDataLoss(ParseRecordHeader(bytes, kIdentity, 4096).status()));
  EXPECT_TRUE(absl::IsDataLoss(ParseRecordHeader(bytes, {.id = 8, .nonce = kIdentity.nonce}, 8192).status()));
  EXPECT_TRUE(absl::IsDataLoss(ParseRecordHeader(bytes, {.id = 7, .nonce = 1}, 8192).status()));
  EXPECT_TRUE(ParseRecordHeader(bytes, {.id = 7}, 8192).ok());
}

TEST(SegmentFormatTest, RefusesRecordsThatDeclareTooMuch) {
  RecordHeader header = ExampleRecord();
  header.payload_bytes = kMaxPayloadBytes + 1;
  EXPECT_TRUE(absl::IsDataLoss(ParseRecordHeader(Encoded(header), kIdentity, 8192).status()));
  header.payload_bytes = UINT64_MAX;
  EXPECT_TRUE(absl::IsDataLoss(ParseRecordHeader(Encoded(header), kIdentity, 8192).status()));
  header = ExampleRecord();
  header.metadata_bytes = kMaxMetadataBytes + 1;
  EXPECT_TRUE(absl::IsDataLoss(ParseRecordHeader(Encoded(header), kIdentity, 8192).status()));
}

TEST(SegmentFormatTest, RefusesEveryFlippedBitAndEveryShortHeader) {
  const std::vector<uint8_t> bytes = Encoded(ExampleRecord());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::vector<uint8_t> flipped = bytes;
    flipped[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    EXPECT_TRUE(absl::IsDataLoss(ParseRecordHeader(flipped, kIdentity, 8192).status())) << bit;
  }
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_TRUE(absl::IsDataLoss(ParseRecordHeader(ByteSpan(bytes).first(size), kIdentity, 8192).status())) << size;
  }
}

TEST(SegmentFormatTest, MetadataIsRefusedWhenCutOrDamaged) {
  std::vector<uint8_t> record(kSegmentBlockBytes);
  const std::string text = "hello";
  RecordHeader header = ExampleRecord();
  header.metadata_crc = Crc32c(AsBytes(text));
  EncodeRecordHeader(header, record.data());
  std::copy(text.begin(), text.end(), record.begin() + kRecordHeaderBytes);
  ASSERT_TRUE(RecordMetadata(header, record).ok());
  EXPECT_EQ(AsStringView(*RecordMetadata(header, record)), text);
  EXPECT_TRUE(absl::IsDataLoss(RecordMetadata(header, ByteSpan(record).first(kRecordHeaderBytes + 4)).status()));
  record[kRecordHeaderBytes + 2] ^= 4;
  EXPECT_TRUE(absl::IsDataLoss(RecordMetadata(header, record).status()));
}

TEST(SegmentFormatTest, LocationsCarryTheHeadSize) {
  RecordHeader header = ExampleRecord();
  header.metadata_bytes = kMaxMetadataBytes;
  const ValueLocation location = LocationOf(header);
  EXPECT_EQ(location.group, 7u);
  EXPECT_EQ(location.length, 10000u);
  EXPECT_EQ(LocationRecordOffset(location), 8192u);
  EXPECT_EQ(LocationHeadBytes(location), header.HeadBytes());
  EXPECT_EQ(LocationHeadBytes(location), kMaxHeadBlocks * kSegmentBlockBytes);
}

TEST(SegmentFormatTest, FileNamesGoBothWaysAndOthersAreRefused) {
  EXPECT_EQ(SegmentFileName(0), "00000000000000000000.seg");
  EXPECT_EQ(SegmentFileName(UINT64_MAX), "18446744073709551615.seg");
  EXPECT_EQ(ParseSegmentFileName("00000000000000000042.seg"), std::optional<uint64_t>(42));
  EXPECT_EQ(ParseSegmentFileName(SegmentFileName(UINT64_MAX)), std::optional<uint64_t>(UINT64_MAX));
  for (const std::string name : {"", "LOCK", "42.seg", "0000000000000000004x.seg", "00000000000000000042.tmp",
                                 "18446744073709551616.seg", "-0000000000000000001.seg", "00000000000000000042.seg~"}) {
    EXPECT_EQ(ParseSegmentFileName(name), std::nullopt) << name;
  }
}

}  // namespace
}  // namespace kdn
