#include "server/rpc/frames.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "kernels/base/crc32c.h"

namespace kdn {
namespace {

std::string SampleFrame() {
  v1::StoreFrame frame;
  frame.mutable_begin()->set_container_bytes(10);
  frame.mutable_begin()->set_document("doc");
  frame.set_chunk_index(300);
  frame.set_offset(uint64_t{1} << 40);
  frame.set_crc32c(0xdeadbeef);
  frame.set_data("payload");
  return frame.SerializeAsString();
}

std::string Join(const StoreFrameView& frame) {
  std::string data;
  for (const ByteSpan piece : frame.data) data.append(AsStringView(piece));
  return data;
}

TEST(StoreFrameTest, ReadsWhatGeneratedCodeWritesHoweverItIsCut) {
  const std::string message = SampleFrame();
  StoreFrameView frame;
  for (size_t cut = 0; cut <= message.size(); ++cut) {
    const ByteSpan pieces[] = {AsBytes(message).first(cut), AsBytes(message).subspan(cut)};
    ASSERT_TRUE(ParseStoreFrame(pieces, frame).ok());
    EXPECT_TRUE(frame.has_begin);
    EXPECT_EQ(frame.begin.document(), "doc");
    EXPECT_EQ(frame.chunk_index, 300u);
    EXPECT_EQ(frame.offset, uint64_t{1} << 40);
    EXPECT_EQ(frame.crc32c, 0xdeadbeef);
    EXPECT_EQ(frame.data_bytes, 7u);
    EXPECT_EQ(Join(frame), "payload");
  }
}

TEST(StoreFrameTest, AgreesWithGeneratedCodeOnEveryTruncationAndBitFlip) {
  const std::string message = SampleFrame();
  StoreFrameView frame;
  int accepted = 0;
  for (size_t i = 0; i < message.size() * 9; ++i) {
    std::string bytes = message;
    if (i < message.size()) {
      bytes.resize(i);
    } else {
      bytes[(i - message.size()) / 8] = static_cast<char>(bytes[(i - message.size()) / 8] ^ 1 << (i % 8));
    }
    const ByteSpan pieces[] = {AsBytes(bytes)};
    if (!ParseStoreFrame(pieces, frame).ok()) continue;
    ++accepted;
    v1::StoreFrame generated;
    ASSERT_TRUE(generated.ParseFromString(bytes)) << i;
    EXPECT_EQ(generated.data(), Join(frame)) << i;
    EXPECT_EQ(generated.offset(), frame.offset) << i;
    EXPECT_EQ(generated.chunk_index(), frame.chunk_index) << i;
    EXPECT_EQ(generated.crc32c(), frame.crc32c) << i;
  }
  EXPECT_GT(accepted, 0);
}

TEST(StoreFrameTest, RefusesABeginBeyondItsLimit) {
  v1::StoreFrame message;
  message.mutable_begin()->set_document(std::string(kMaxStoreBeginBytes, 'x'));
  const std::string bytes = message.SerializeAsString();
  const ByteSpan pieces[] = {AsBytes(bytes)};
  StoreFrameView frame;
  EXPECT_EQ(ParseStoreFrame(pieces, frame).code(), absl::StatusCode::kInvalidArgument);
}

SharedBytes Bytes(const std::string& text) {
  const auto owner = std::make_shared<const std::string>(text);
  return SharedBytes(owner, AsBytes(*owner));
}

std::vector<v1::RetrieveFrame> FramesOf(RetrievedChunk chunk, uint64_t max_frame_bytes) {
  ChunkFramer framer(7, std::move(chunk), max_frame_bytes);
  std::vector<v1::RetrieveFrame> frames;
  while (!framer.done()) {
    const RetrieveFrame frame = framer.Next();
    std::string bytes(frame.header.begin(), frame.header.end());
    for (const SharedBytes& piece : frame.payload) bytes.append(AsStringView(piece.span()));
    EXPECT_TRUE(frames.emplace_back().ParseFromString(bytes));
    EXPECT_EQ(frames.back().data().size(), frame.payload_bytes);
    EXPECT_EQ(frames.back().chunk_index(), 7u);
    if (frame.payload_bytes > 0) {
      EXPECT_EQ(frames.back().crc32c(), Crc32c(AsBytes(frames.back().data())));
    }
  }
  return frames;
}

TEST(ChunkFramerTest, CutsPartsAndGapsIntoFrames) {
  RetrievedChunk chunk;
  chunk.parts.resize(2);
  chunk.parts[0].container_bytes = 20;
  chunk.parts[0].header_bytes = 4;
  chunk.parts[0].cells = CellSet::All(9);
  chunk.parts[0].slices = {{0, Bytes("head")}, {4, Bytes("ab")}, {10, Bytes("cdefg")}};
  chunk.parts[1].container_bytes = 3;
  chunk.parts[1].header_bytes = 3;
  chunk.parts[1].slices = {{0, Bytes("xyz")}};
  const std::vector<v1::RetrieveFrame> frames = FramesOf(std::move(chunk), 4);
  ASSERT_EQ(frames.size(), 5u);
  EXPECT_EQ(frames[0].data(), "head");
  EXPECT_EQ(frames[0].part_begin().sent_bytes(), 11u);
  EXPECT_EQ(frames[0].part_begin().cells().bitmap(), std::string("\xff\x01"));
  EXPECT_EQ(frames[1].data(), "ab");
  EXPECT_EQ(frames[1].offset(), 4u);
  EXPECT_FALSE(frames[1].has_part_begin());
  EXPECT_EQ(frames[2].data(), "cdef");
  EXPECT_EQ(frames[2].offset(), 10u);
  EXPECT_EQ(frames[3].data(), "g");
  EXPECT_FALSE(frames[3].chunk_end());
  EXPECT_EQ(frames[4].data(), "xyz");
  EXPECT_EQ(frames[4].part(), 1u);
  EXPECT_TRUE(frames[4].has_part_begin());
  EXPECT_TRUE(frames[4].chunk_end());
}

TEST(ChunkFramerTest, JoinsContiguousSlicesUpToTheirNumber) {
  RetrievedChunk chunk;
  RetrievedPart& part = chunk.parts.emplace_back();
  for (uint64_t i = 0; i < 2 * kMaxPiecesPerFrame; ++i) part.slices.push_back({i, Bytes("x")});
  const std::vector<v1::RetrieveFrame> frames = FramesOf(std::move(chunk), 1 << 20);
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(frames[0].data().size(), kMaxPiecesPerFrame);
  EXPECT_TRUE(frames[1].chunk_end());
}

TEST(ChunkFramerTest, AMissIsOneFrameWithABoundedMessage) {
  RetrievedChunk chunk;
  chunk.miss = MissReason::kCorrupt;
  chunk.miss_message = std::string(5000, 'x');
  const std::vector<v1::RetrieveFrame> frames = FramesOf(std::move(chunk), 10);
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].miss(), v1::CORRUPT);
  EXPECT_EQ(frames[0].miss_message().size(), kMaxMissMessageBytes);
}

TEST(ChunkFramerTest, AChunkWithoutPartsStillEnds) {
  const std::vector<v1::RetrieveFrame> frames = FramesOf({}, 10);
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_TRUE(frames[0].chunk_end());
}

}  // namespace
}  // namespace kdn
