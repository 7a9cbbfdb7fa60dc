#include "kernels/base/wire_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace kdn {
namespace {

// Field 1 varint 300, field 4 fixed32, field 2 fixed64, field 15 bytes "payload".
std::vector<uint8_t> Message() {
  std::vector<uint8_t> out;
  out.reserve(64);
  ByteWriter writer(out);
  writer.U8(1 << 3);
  writer.Varint(300);
  writer.U8(4 << 3 | 5);
  writer.U32(0xdeadbeef);
  writer.U8(2 << 3 | 1);
  writer.U64(7);
  writer.U8(15 << 3 | 2);
  writer.Varint(7);
  writer.Bytes(AsBytes("payload"));
  return out;
}

std::string ReadPayload(WireReader& reader) {
  std::string payload;
  while (reader.ok() && reader.remaining() > 0) {
    const WireTag tag = reader.Tag();
    if (tag.field == 1) {
      EXPECT_EQ(reader.Varint(), 300u);
    } else if (tag.field == 4) {
      EXPECT_EQ(reader.Fixed32(), 0xdeadbeefu);
    } else if (tag.field == 15) {
      reader.ForEachPiece(reader.Length(), [&](ByteSpan piece) { payload.append(AsStringView(piece)); });
    } else {
      reader.SkipValue(tag.type);
    }
  }
  return payload;
}

TEST(WireReaderTest, ReadsAlikeHoweverTheMessageIsCut) {
  const std::vector<uint8_t> message = Message();
  for (size_t a = 0; a <= message.size(); ++a) {
    for (size_t b = a; b <= message.size(); ++b) {
      const ByteSpan whole(message);
      const ByteSpan pieces[] = {whole.first(a), {}, whole.subspan(a, b - a), whole.subspan(b)};
      WireReader reader(pieces);
      EXPECT_EQ(ReadPayload(reader), "payload");
      EXPECT_TRUE(reader.AtEnd());
    }
  }
}

TEST(WireReaderTest, RefusesEveryTruncationInsideAField) {
  const std::vector<uint8_t> message = Message();
  // Ends of fields, where a shorter message is a whole one.
  const std::vector<size_t> whole = {0, 3, 8, 17, message.size()};
  for (size_t size = 0; size < message.size(); ++size) {
    const ByteSpan piece[] = {ByteSpan(message).first(size)};
    WireReader reader(piece);
    while (reader.ok() && reader.remaining() > 0) reader.SkipValue(reader.Tag().type);
    EXPECT_EQ(reader.AtEnd(), std::find(whole.begin(), whole.end(), size) != whole.end()) << size;
  }
}

TEST(WireReaderTest, RefusesGroupsFieldZeroAndLongVarints) {
  for (const std::string& bytes :
       {std::string("\x0b"), std::string("\x0c"), std::string("\x0f"), std::string(1, '\0'), std::string(11, '\xff')}) {
    const ByteSpan piece[] = {AsBytes(bytes)};
    WireReader reader(piece);
    reader.Tag();
    EXPECT_FALSE(reader.ok());
  }
}

TEST(WireReaderTest, RefusesTagsAndLengthsOfMoreThanFiveBytes) {
  const std::string five("\x88\x80\x80\x80\x00", 5);
  const std::string six("\x88\x80\x80\x80\x80\x00", 6);
  for (const std::string& bytes : {five, six}) {
    const ByteSpan piece[] = {AsBytes(bytes)};
    WireReader tags(piece);
    tags.Tag();
    EXPECT_EQ(tags.ok(), bytes.size() == 5);
    const ByteSpan with_data[] = {AsBytes(bytes), AsBytes("eight bytes")};
    WireReader lengths(with_data);
    lengths.Length();
    EXPECT_EQ(lengths.ok(), bytes.size() == 5);
    WireReader values(piece);
    EXPECT_EQ(values.Varint(), 8u);
    EXPECT_TRUE(values.ok());
  }
}

TEST(WireReaderTest, RefusesALengthBeyondTheMessage) {
  const std::vector<uint8_t> bytes = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 'x'};
  const ByteSpan piece[] = {bytes};
  WireReader reader(piece);
  EXPECT_EQ(reader.Length(), 0u);
  EXPECT_FALSE(reader.ok());
}

}  // namespace
}  // namespace kdn
