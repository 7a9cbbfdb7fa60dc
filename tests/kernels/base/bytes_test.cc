#include "kernels/base/bytes.h"

#include <gtest/gtest.h>

#include <limits>

namespace kdn {
namespace {

TEST(BytesTest, LittleEndianStoresLowByteFirst) {
  uint8_t raw[4];
  StoreLe<uint32_t>(0x01020304u, raw);
  EXPECT_EQ(raw[0], 4);
  EXPECT_EQ(raw[3], 1);
  EXPECT_EQ(LoadLe<uint32_t>(raw), 0x01020304u);
}

TEST(BytesTest, WriterAndReaderRoundTripEveryKind) {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.U8(7);
  writer.U16(0xbeef);
  writer.U32(0xdeadbeef);
  writer.U64(0x0123456789abcdefull);
  writer.F32(1.5f);
  writer.Bytes(AsBytes("abc"));
  writer.PadTo(16);
  EXPECT_EQ(out.size() % 16, 0u);
  ByteReader reader(out);
  EXPECT_EQ(reader.U8(), 7);
  EXPECT_EQ(reader.U16(), 0xbeef);
  EXPECT_EQ(reader.U32(), 0xdeadbeef);
  EXPECT_EQ(reader.U64(), 0x0123456789abcdefull);
  EXPECT_EQ(reader.F32(), 1.5f);
  EXPECT_EQ(AsStringView(reader.Bytes(3)), "abc");
  EXPECT_TRUE(reader.ok());
}

TEST(BytesTest, VarintsRoundTripAtTheirEdges) {
  const uint64_t unsigned_values[] = {0, 1, 127, 128, 16383, 16384, std::numeric_limits<uint64_t>::max()};
  const int64_t signed_values[] = {0, -1, 1, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()};
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  for (const uint64_t value : unsigned_values) writer.Varint(value);
  for (const int64_t value : signed_values) writer.SignedVarint(value);
  ByteReader reader(out);
  for (const uint64_t value : unsigned_values) EXPECT_EQ(reader.Varint(), value);
  for (const int64_t value : signed_values) EXPECT_EQ(reader.SignedVarint(), value);
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(reader.remaining(), 0u);
}

TEST(BytesTest, ReaderPastTheEndStaysFailed) {
  const uint8_t raw[2] = {1, 2};
  ByteReader reader(raw);
  EXPECT_EQ(reader.U32(), 0u);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.U8(), 0);
  EXPECT_FALSE(reader.ok());
}

TEST(BytesTest, ReaderRefusesVarintOfMoreThan64Bits) {
  const std::vector<uint8_t> raw(11, 0xff);
  ByteReader reader(raw);
  reader.Varint();
  EXPECT_FALSE(reader.ok());
}

TEST(BytesTest, HexRoundTripsAndRefusesWhatIsNotHex) {
  std::vector<uint8_t> raw;
  ASSERT_TRUE(ParseHex("00fFa5", raw));
  EXPECT_EQ(Hex(raw), "00ffa5");
  EXPECT_FALSE(ParseHex("abc", raw));
  EXPECT_FALSE(ParseHex("zz", raw));
}

}  // namespace
}  // namespace kdn
