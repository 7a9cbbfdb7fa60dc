#include "storage/index/value_metadata.h"

#include <gtest/gtest.h>

#include <random>

#include "storage/index/utf8.h"
#include "tests/storage/index/memory_values.h"
#include "tests/storage/rocksdb/index_test_support.h"

namespace kdn {
namespace {

using testing::MakeChunk;
using testing::MakePart;
using testing::Named;

v1::ValueMetadata Valid() {
  const auto bytes = SerializeChunkMetadata("alpha", Named("key"), MakeChunk("a"), MakePart(4, 5));
  v1::ValueMetadata metadata;
  EXPECT_TRUE(bytes.ok() && metadata.ParseFromString(*bytes)) << bytes.status();
  return metadata;
}

absl::Status Parsed(const v1::ValueMetadata& metadata) {
  return ParseValueMetadata(AsBytes(metadata.SerializeAsString())).status();
}

TEST(ValueMetadataTest, ChunkTravelsWithoutItsLocation) {
  v1::ChunkRecord row = MakeChunk("a");
  *row.add_parts() = MakePart(1, 2);
  const auto bytes = SerializeChunkMetadata("alpha", Named("key"), row, MakePart(4, 5, {7}));
  ASSERT_TRUE(bytes.ok());
  const auto parsed = ParseValueMetadata(AsBytes(*bytes));
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->tenant(), "alpha");
  ASSERT_EQ(parsed->chunk().parts_size(), 1);
  EXPECT_EQ(parsed->chunk().parts(0).cells(0).cell(), 7u);
  EXPECT_EQ(parsed->chunk().parts(0).value_group(), 0u);
  EXPECT_EQ(parsed->chunk().parts(0).value_offset(), 0u);
}

TEST(ValueMetadataTest, RefusesWhatIsNotExactlyOneValidRecord) {
  EXPECT_TRUE(Parsed(Valid()).ok());
  v1::ValueMetadata metadata = Valid();
  metadata.mutable_model();
  EXPECT_TRUE(absl::IsDataLoss(Parsed(metadata)));
  metadata = Valid();
  metadata.clear_chunk();
  EXPECT_TRUE(absl::IsDataLoss(Parsed(metadata)));
  metadata = Valid();
  metadata.clear_tenant();
  EXPECT_TRUE(absl::IsDataLoss(Parsed(metadata)));
  metadata = Valid();
  metadata.set_storage_key("short");
  EXPECT_TRUE(absl::IsDataLoss(Parsed(metadata)));
  metadata = Valid();
  metadata.mutable_chunk()->set_fingerprint("short");
  EXPECT_TRUE(absl::IsDataLoss(Parsed(metadata)));
  metadata = Valid();
  metadata.mutable_chunk()->set_parent_key("short");
  EXPECT_TRUE(absl::IsDataLoss(Parsed(metadata)));
  metadata = Valid();
  metadata.mutable_chunk()->clear_parts();
  EXPECT_TRUE(absl::IsDataLoss(Parsed(metadata)));
  metadata = Valid();
  metadata.clear_format();
  EXPECT_TRUE(absl::IsDataLoss(Parsed(metadata)));
  metadata.set_format(2);
  EXPECT_TRUE(absl::IsFailedPrecondition(Parsed(metadata)));
  metadata = {};
  metadata.set_format(1);
  metadata.set_tenant("alpha");
  metadata.mutable_tombstone()->add_chunk_keys("short");
  EXPECT_TRUE(absl::IsDataLoss(Parsed(metadata)));
}

TEST(ValueMetadataTest, RefusesMoreThanItsLimit) {
  v1::ChunkRecord row = MakeChunk("a");
  for (int i = 0; i < 2000; ++i) row.add_documents(std::string(40, 'x'));
  EXPECT_TRUE(absl::IsInvalidArgument(SerializeChunkMetadata("alpha", Named("key"), row, MakePart(1, 1)).status()));
  EXPECT_TRUE(absl::IsDataLoss(ParseValueMetadata(AsBytes(std::string(kMaxValueMetadataBytes + 1, 'x'))).status()));
}

TEST(ValueMetadataTest, RefusesNamesThatAreNotUtf8) {
  v1::ChunkRecord row = MakeChunk("a");
  EXPECT_FALSE(SerializeChunkMetadata("a\xff", Named("key"), row, MakePart(1, 1)).ok());
  row.add_documents("\xc0\xaf");
  EXPECT_FALSE(SerializeChunkMetadata("alpha", Named("key"), row, MakePart(1, 1)).ok());
}

TEST(Utf8Test, AcceptsWellFormedTextOnly) {
  for (const std::string_view good : {"", "plain", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf"}) {
    EXPECT_TRUE(IsUtf8(good)) << good;
  }
  for (const std::string_view bad : {"\x80", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                     "\xf0\x9f\x98", "\xe2\x28\xa1", "a\xff"}) {
    EXPECT_FALSE(IsUtf8(bad));
  }
}

TEST(ValueMetadataTest, TruncatedAndFlippedBytesNeverCrash) {
  v1::ChunkRecord row = MakeChunk("a");
  row.add_documents("manual");
  const std::string bytes = *SerializeChunkMetadata("alpha", Named("key"), row, MakePart(1, 1, {0, 1, 2, 3}));
  for (size_t length = 0; length < bytes.size(); ++length) {
    ParseValueMetadata(AsBytes(bytes).first(length)).status().IgnoreError();
  }
  int refused = 0;
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const auto parsed = ParseValueMetadata(AsBytes(flipped));
    refused += !parsed.ok();
    if (parsed.ok() && parsed->has_chunk()) {
      ASSERT_EQ(parsed->chunk().fingerprint().size(), Digest::kBytes);
      ASSERT_EQ(parsed->storage_key().size(), Digest::kBytes);
    }
  }
  EXPECT_GT(refused, 0);
}

TEST(ValueMetadataTest, LongDeletionsAreSplitOverSeveralValues) {
  testing::MemoryValues values;
  Deletions deletions;
  for (int i = 0; i < 4000; ++i) deletions.chunk_keys.push_back(Named(std::to_string(i)));
  deletions.text_keys.push_back(Named("text"));
  deletions.fingerprints.push_back(Named("model"));
  ASSERT_TRUE(PutTombstones(values, std::string(kMaxTenantNameBytes, 'n'), deletions).ok());
  int keys = 0;
  for (const auto& value : values.groups[1]) {
    const auto parsed = ParseValueMetadata(AsBytes(value.metadata));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    const v1::Tombstone& tombstone = parsed->tombstone();
    keys += tombstone.chunk_keys_size() + tombstone.text_keys_size() + tombstone.fingerprints_size();
  }
  EXPECT_EQ(keys, 4002);
  EXPECT_GT(values.groups[1].size(), 1u);
  ASSERT_TRUE(PutTombstones(values, "alpha", {}).ok());
  EXPECT_EQ(values.groups[1].size(), 3u);
}

}  // namespace
}  // namespace kdn
