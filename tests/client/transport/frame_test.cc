#include "client/transport/frame.h"

#include <gtest/gtest.h>

#include <string>

namespace kdn {
namespace {

v1::RetrieveFrame Sample() {
  v1::RetrieveFrame frame;
  frame.set_chunk_index(300);
  frame.set_part(2);
  frame.set_offset(uint64_t{1} << 40);
  frame.set_crc32c(0x89abcdef);
  frame.mutable_part_begin()->set_container_bytes(99);
  frame.mutable_part_begin()->set_tier("disk");
  frame.set_chunk_end(true);
  frame.set_data(std::string(1000, 'd'));
  return frame;
}

std::string Joined(const RetrieveFrameView& frame) {
  std::string data;
  for (const ByteSpan piece : frame.data) data.append(AsStringView(piece));
  return data;
}

TEST(ParseRetrieveFrameTest, ReadsWhatGeneratedCodeWrites) {
  const std::string bytes = Sample().SerializeAsString();
  RetrieveFrameView frame;
  // However the message is cut into pieces.
  for (size_t cut = 0; cut <= bytes.size(); cut += cut < 64 ? 1 : 97) {
    const ByteSpan pieces[] = {AsBytes(bytes).first(cut), {}, AsBytes(bytes).subspan(cut)};
    ASSERT_TRUE(ParseRetrieveFrame(pieces, frame).ok()) << cut;
    EXPECT_EQ(frame.chunk_index, 300u);
    EXPECT_EQ(frame.part, 2u);
    EXPECT_EQ(frame.offset, uint64_t{1} << 40);
    EXPECT_EQ(frame.crc32c, 0x89abcdefu);
    ASSERT_TRUE(frame.has_part_begin);
    EXPECT_EQ(frame.part_begin.tier(), "disk");
    EXPECT_TRUE(frame.chunk_end);
    EXPECT_EQ(frame.miss, 0u);
    EXPECT_EQ(Joined(frame), std::string(1000, 'd'));
  }
}

TEST(ParseRetrieveFrameTest, AcceptsAnyFieldOrderAndSkipsUnknownFields) {
  v1::RetrieveFrame data, rest;
  data.set_data("payload");
  rest.set_miss(v1::EVICTED);
  rest.set_miss_message("gone");
  // Field 100: varint, 101: fixed64, 102: bytes, 103: fixed32.
  const std::string unknown("\xa0\x06\x05\xa9\x06xxxxxxxx\xb2\x06\x02yy\xbd\x06zzzz", 24);
  const std::string bytes = data.SerializeAsString() + unknown + rest.SerializeAsString();
  const ByteSpan pieces[] = {AsBytes(bytes)};
  RetrieveFrameView frame;
  ASSERT_TRUE(ParseRetrieveFrame(pieces, frame).ok());
  EXPECT_EQ(Joined(frame), "payload");
  EXPECT_EQ(frame.miss, static_cast<uint32_t>(v1::EVICTED));
  EXPECT_EQ(frame.miss_message, "gone");
}

TEST(ParseRetrieveFrameTest, RefusesEveryTruncationInsideAField) {
  v1::RetrieveFrame sample = Sample();
  sample.set_data("0123456789");
  const std::string bytes = sample.SerializeAsString();
  for (size_t size = 1; size < bytes.size(); ++size) {
    const ByteSpan pieces[] = {AsBytes(bytes).first(size)};
    RetrieveFrameView frame;
    const bool ours = ParseRetrieveFrame(pieces, frame).ok();
    v1::RetrieveFrame theirs;
    EXPECT_EQ(ours, theirs.ParseFromArray(bytes.data(), static_cast<int>(size))) << size;
  }
}

TEST(ParseRetrieveFrameTest, RefusesRepeatedOversizedAndMalformedFields) {
  v1::RetrieveFrame once;
  once.set_data("x");
  RetrieveFrameView frame;
  const std::string twice = once.SerializeAsString() + once.SerializeAsString();
  const ByteSpan repeated[] = {AsBytes(twice)};
  EXPECT_TRUE(absl::IsInvalidArgument(ParseRetrieveFrame(repeated, frame)));
  once.set_data(std::string(kMaxFrameDataBytes + 1, 'x'));
  const std::string large = once.SerializeAsString();
  const ByteSpan oversized[] = {AsBytes(large)};
  EXPECT_TRUE(absl::IsInvalidArgument(ParseRetrieveFrame(oversized, frame)));
  for (const std::string& bad : {std::string("\x0b"), std::string("\x00", 1), std::string(11, '\xff'),
                                 std::string("\x7a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")}) {
    const ByteSpan pieces[] = {AsBytes(bad)};
    EXPECT_TRUE(absl::IsInvalidArgument(ParseRetrieveFrame(pieces, frame)));
  }
}

TEST(EncodeStoreFrameHeaderTest, IsTheBeginningOfAMessage) {
  v1::StoreBegin begin;
  begin.set_container_bytes(77);
  begin.set_document("d");
  for (const bool first : {true, false}) {
    const std::vector<uint8_t> header = EncodeStoreFrameHeader({first ? &begin : nullptr, 5, 4096, 0xfeedf00d, 3});
    v1::StoreFrame frame;
    ASSERT_TRUE(frame.ParseFromString(std::string(AsStringView(header)) + "abc"));
    EXPECT_EQ(frame.has_begin(), first);
    EXPECT_EQ(frame.begin().container_bytes(), first ? 77u : 0u);
    EXPECT_EQ(frame.chunk_index(), 5u);
    EXPECT_EQ(frame.offset(), 4096u);
    EXPECT_EQ(frame.crc32c(), 0xfeedf00du);
    EXPECT_EQ(frame.data(), "abc");
  }
}

}  // namespace
}  // namespace kdn
