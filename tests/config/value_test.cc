#include "config/value.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <string>

#include "kernels/base/status.h"

namespace kdn::config {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

template <typename T>
std::string ErrorOf(const absl::StatusOr<T>& result) {
  return result.ok() ? "no error" : std::string(FromAbsl(result.status().message()));
}

TEST(ParseBytesTest, ReadsBinaryDecimalAndPlainSizes) {
  EXPECT_EQ(ParseBytes("0").value(), 0u);
  EXPECT_EQ(ParseBytes("1048576").value(), 1048576u);
  EXPECT_EQ(ParseBytes("7B").value(), 7u);
  EXPECT_EQ(ParseBytes("1KiB").value(), 1024u);
  EXPECT_EQ(ParseBytes("256MiB").value(), 268435456u);
  EXPECT_EQ(ParseBytes("2GB").value(), 2000000000u);
  EXPECT_EQ(ParseBytes("3TiB").value(), 3298534883328u);
  EXPECT_EQ(ParseBytes("256 mib").value(), 268435456u);
}

TEST(ParseBytesTest, RefusesOtherTextAndNamesAnExample) {
  for (const char* text :
       {"", "MiB", "-1", "+1", "1.5GiB", "1 MiB ", "1  MiB", " 1MiB", "0x10", "1PiB", "1MiBs", "1e6"}) {
    EXPECT_THAT(ErrorOf(ParseBytes(text)), HasSubstr("expected a size such as 256MiB")) << text;
  }
}

TEST(ParseBytesTest, RefusesAmbiguousUnitAndOffersBoth) {
  EXPECT_EQ(ErrorOf(ParseBytes("256m")),
            "ambiguous unit in \"256m\": write MiB (powers of 1024) or MB (powers of 1000)");
}

TEST(ParseBytesTest, RefusesWhatDoesNotFit63Bits) {
  EXPECT_EQ(ParseBytes("9223372036854775807").value(), uint64_t{9223372036854775807u});
  EXPECT_THAT(ErrorOf(ParseBytes("9223372036854775808")), HasSubstr("too large"));
  EXPECT_EQ(ParseBytes("8388607TiB").value(), uint64_t{8388607} << 40);
  EXPECT_THAT(ErrorOf(ParseBytes("8388608TiB")), HasSubstr("too large"));
  EXPECT_THAT(ErrorOf(ParseBytes("99999999999999999999999")), HasSubstr("expected a size"));
}

TEST(FormatBytesTest, TakesTheUnitWithFewestDigits) {
  EXPECT_EQ(FormatBytes(0), "0");
  EXPECT_EQ(FormatBytes(1), "1");
  EXPECT_EQ(FormatBytes(1000), "1KB");
  EXPECT_EQ(FormatBytes(1024), "1KiB");
  EXPECT_EQ(FormatBytes(268435456), "256MiB");
  EXPECT_EQ(FormatBytes(2000000000), "2GB");
  EXPECT_EQ(FormatBytes(1024001), "1024001");
}

TEST(FormatBytesTest, RoundTripsThroughParseBytes) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    const uint64_t bytes = (random() >> 1 >> (random() % 63)) << (random() % 3 * 10);
    if (bytes > uint64_t{std::numeric_limits<int64_t>::max()}) continue;
    ASSERT_EQ(ParseBytes(FormatBytes(bytes)).value(), bytes) << FormatBytes(bytes);
  }
}

TEST(ParseDurationTest, ReadsEveryUnitAndSums) {
  EXPECT_EQ(ParseDuration("0").value(), milliseconds(0));
  EXPECT_EQ(ParseDuration("0s").value(), milliseconds(0));
  EXPECT_EQ(ParseDuration("50ms").value(), milliseconds(50));
  EXPECT_EQ(ParseDuration("30s").value(), milliseconds(30'000));
  EXPECT_EQ(ParseDuration("10m").value(), milliseconds(600'000));
  EXPECT_EQ(ParseDuration("168h").value(), milliseconds(604'800'000));
  EXPECT_EQ(ParseDuration("7d").value(), milliseconds(604'800'000));
  EXPECT_EQ(ParseDuration("1h30m").value(), milliseconds(5'400'000));
}

TEST(ParseDurationTest, RefusesOtherTextAndNamesAnExample) {
  for (const char* text : {"", "s", "-1s", "5 s", "1.5h", "1y", "10M", "1s ", "1h m"}) {
    EXPECT_THAT(ErrorOf(ParseDuration(text)), HasSubstr("expected a duration such as 50ms")) << text;
  }
  EXPECT_EQ(ErrorOf(ParseDuration("30")), "duration \"30\" needs a unit: ms, s, m, h or d");
}

TEST(ParseDurationTest, RefusesMoreThanAHundredYears) {
  EXPECT_TRUE(ParseDuration("36500d").ok());
  EXPECT_THAT(ErrorOf(ParseDuration("36501d")), HasSubstr("100 years"));
  EXPECT_THAT(ErrorOf(ParseDuration("36500d1ms")), HasSubstr("100 years"));
  EXPECT_THAT(ErrorOf(ParseDuration("18446744073709551615d")), HasSubstr("100 years"));
  EXPECT_THAT(ErrorOf(ParseDuration("18446744073709551616s")), HasSubstr("expected a duration"));
}

TEST(FormatDurationTest, RoundTripsThroughParseDuration) {
  EXPECT_EQ(FormatDuration(milliseconds(0)), "0s");
  EXPECT_EQ(FormatDuration(milliseconds(90'000)), "90s");
  EXPECT_EQ(FormatDuration(milliseconds(604'800'000)), "168h");
  std::mt19937_64 random(2);
  for (int i = 0; i < 1000; ++i) {
    const milliseconds duration(random() % 3'000'000'000'000);
    ASSERT_EQ(ParseDuration(FormatDuration(duration)).value(), duration);
  }
}

TEST(ParseRatioTest, ReadsDecimalsAndPercentages) {
  EXPECT_EQ(ParseRatio("0.90").value(), 0.9);
  EXPECT_EQ(ParseRatio("1").value(), 1.0);
  EXPECT_EQ(ParseRatio("90%").value(), 0.9);
}

TEST(ParseRatioTest, RefusesOtherTextAndValuesThatAreNotFinite) {
  for (const char* text : {"", "%", "nan", "inf", "-inf", "0.9x", "0,9", " 0.9", "1e999", "90%%"}) {
    EXPECT_THAT(ErrorOf(ParseRatio(text)), HasSubstr("expected a ratio such as 0.9")) << text;
  }
}

TEST(FormatRatioTest, RoundTripsThroughParseRatio) {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> ratios(0, 1);
  for (int i = 0; i < 1000; ++i) {
    const double ratio = ratios(random);
    ASSERT_EQ(ParseRatio(FormatRatio(ratio)).value(), ratio);
  }
}

TEST(ParseBoolTest, ReadsTrueAndFalseOnly) {
  EXPECT_TRUE(ParseBool("true").value());
  EXPECT_FALSE(ParseBool("false").value());
  for (const char* text : {"", "yes", "no", "on", "1", "True"}) {
    EXPECT_THAT(ErrorOf(ParseBool(text)), HasSubstr("expected true or false")) << text;
  }
}

TEST(ParseIntegerTest, ReadsDecimalIntegersOnly) {
  EXPECT_EQ(ParseInteger("-5").value(), -5);
  for (const char* text : {"", "1.0", "0x1", "1 ", "9223372036854775808", "ten"}) {
    EXPECT_THAT(ErrorOf(ParseInteger(text)), HasSubstr("expected an integer such as 128")) << text;
  }
}

TEST(ParseHostPortTest, ReadsNamesAndAddresses) {
  EXPECT_EQ(ParseHostPort("127.0.0.1:9460").value(), (HostPort{"127.0.0.1", 9460}));
  EXPECT_EQ(ParseHostPort("[::1]:9460").value(), (HostPort{"::1", 9460}));
  EXPECT_EQ(ParseHostPort("kdn-0.kdn.svc:0").value(), (HostPort{"kdn-0.kdn.svc", 0}));
}

TEST(ParseHostPortTest, RefusesOtherTextAndNamesAnExample) {
  for (const char* text : {"", ":9460", "9460", "localhost", "::1:9460", "[]:1", "[::1", "a b:1", "*:1", "[host]:1"}) {
    EXPECT_THAT(ErrorOf(ParseHostPort(text)), HasSubstr("expected host:port such as 127.0.0.1:9460")) << text;
  }
  for (const char* text : {"localhost:", "localhost:65536", "localhost:-1", "localhost:http", "localhost:1 "}) {
    EXPECT_THAT(ErrorOf(ParseHostPort(text)), HasSubstr("expected a port of 0..65535")) << text;
  }
}

TEST(ParseUnixAddressTest, ReadsTheAbsolutePathOfASocket) {
  const HostPort address = ParseUnixAddress("unix:/run/kdn/kdn.sock").value();
  EXPECT_EQ(address.unix_path, "/run/kdn/kdn.sock");
  EXPECT_TRUE(address.enabled());
  EXPECT_TRUE(IsLoopback(address));
  EXPECT_EQ(ToString(address), "unix:/run/kdn/kdn.sock");
}

TEST(ParseUnixAddressTest, RefusesOtherPaths) {
  for (const char* text : {"", "unix:", "unix:kdn.sock", "unix:/", "unix:/run/", "127.0.0.1:1"}) {
    EXPECT_THAT(ErrorOf(ParseUnixAddress(text)), HasSubstr("such as unix:/run/kdn/kdn.sock")) << text;
  }
  EXPECT_THAT(ErrorOf(ParseUnixAddress("unix:/" + std::string(107, 'x'))), HasSubstr("at most 107 bytes, got 108"));
  EXPECT_TRUE(ParseUnixAddress("unix:/" + std::string(106, 'x')).ok());
  for (const char* text : {"unix:/a%20b", "unix:/a?b", "unix:/a#b", "unix:/a\nb"}) {
    EXPECT_THAT(ErrorOf(ParseUnixAddress(text)), HasSubstr("cannot hold")) << text;
  }
}

TEST(HostPortTest, PrintsWhatItReads) {
  for (const char* text : {"127.0.0.1:9460", "[::1]:9460", "localhost:0"}) {
    EXPECT_EQ(ToString(ParseHostPort(text).value()), text);
  }
  EXPECT_EQ(ToString(HostPort{}), "");
}

TEST(IsLoopbackTest, AcceptsLoopbackAddressesAndLocalhost) {
  for (const char* host : {"127.0.0.1", "127.255.0.3", "::1", "localhost", "::ffff:127.0.0.1"}) {
    EXPECT_TRUE(IsLoopback(HostPort{host, 1})) << host;
  }
}

TEST(IsLoopbackTest, RefusesEverythingElse) {
  for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example.org", "127.1", "example.org", "128.0.0.1",
                           "::ffff:10.0.0.1", ""}) {
    EXPECT_FALSE(IsLoopback(HostPort{host, 1})) << host;
  }
}

TEST(QuotedTest, EscapesAndShortens) {
  EXPECT_EQ(Quoted("a\"b\\\n\xff"), "\"a\\\"b\\\\\\x0a\\xff\"");
  EXPECT_EQ(Quoted(std::string(100, 'x')), "\"" + std::string(64, 'x') + "\"... (100 bytes)");
}

TEST(IsPrintableUtf8Test, AcceptsTextAndRefusesControlsAndMalformedSequences) {
  EXPECT_TRUE(IsPrintableUtf8(""));
  EXPECT_TRUE(IsPrintableUtf8("/srv/Schl\xc3\xbcssel/\xe2\x82\xac/\xf0\x9f\x94\x91"));
  for (const std::string text : {"a\nb", "\x7f", "\xc2\x85", "\xff", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",
                                 "\xf4\x90\x80\x80", "\xf0\x80\x80\x80", "\xe2\x82", "\xe2\x28\xa1"}) {
    EXPECT_FALSE(IsPrintableUtf8(text)) << Quoted(text);
  }
  EXPECT_FALSE(IsPrintableUtf8(std::string_view("a\0b", 3)));
}

}  // namespace
}  // namespace kdn::config
