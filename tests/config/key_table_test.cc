#include "config/key_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "kernels/base/status.h"

namespace kdn::config {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string SetError(std::string_view name, std::string_view text) {
  Config config;
  const Config before = config;
  const absl::Status status = SetValue(*FindKey(name), text, config);
  EXPECT_FALSE(status.ok()) << name << "=" << text;
  EXPECT_EQ(config, before) << "a refused value changed the configuration";
  return std::string(FromAbsl(status.message()));
}

TEST(KeyTableTest, NamesAreUniqueLowerCaseAndHaveHelp) {
  std::set<std::string_view> names;
  std::set<std::string> environment_names;
  for (const KeySpec& spec : KeyTable()) {
    EXPECT_TRUE(names.insert(spec.name).second) << spec.name;
    EXPECT_TRUE(environment_names.insert(EnvironmentName(spec)).second) << spec.name;
    EXPECT_EQ(spec.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_."), std::string_view::npos) << spec.name;
    EXPECT_FALSE(spec.section().empty()) << spec.name;
    EXPECT_FALSE(spec.key().empty()) << spec.name;
    EXPECT_EQ(spec.name.find("__"), std::string_view::npos) << "ambiguous as a variable: " << spec.name;
    EXPECT_FALSE(spec.help.empty()) << spec.name;
    EXPECT_NE(spec.help.back(), '.') << spec.name;
  }
}

TEST(KeyTableTest, KeysOfASectionStandTogether) {
  std::set<std::string_view> finished;
  std::string_view current;
  for (const KeySpec& spec : KeyTable()) {
    if (spec.section() == current) continue;
    EXPECT_TRUE(finished.insert(spec.section()).second) << spec.name;
    current = spec.section();
  }
}

TEST(KeyTableTest, DefaultsAreValidAndInCanonicalForm) {
  const Config defaults;
  for (const KeySpec& spec : KeyTable()) {
    Config config;
    EXPECT_TRUE(SetValue(spec, spec.default_text, config).ok()) << spec.name;
    EXPECT_EQ(ValueText(spec, defaults), spec.default_text) << spec.name;
  }
}

TEST(KeyTableTest, EveryKeyReachesAMemberOfItsOwn) {
  // Another valid value than the default, by type; paths and names take any word.
  const auto other_text = [](const KeySpec& spec) -> std::string {
    if (std::holds_alternative<BoolField>(spec.field)) return spec.default_text == "true" ? "false" : "true";
    if (const auto* field = std::get_if<EnumField>(&spec.field)) return std::string(field->names.back());
    if (std::holds_alternative<IntegerField>(spec.field)) return "7";
    if (std::holds_alternative<BytesField>(spec.field)) return "17MB";
    if (std::holds_alternative<DurationField>(spec.field)) return "7s";
    if (std::holds_alternative<RatioField>(spec.field)) return "0.5";
    if (std::holds_alternative<HostPortField>(spec.field)) return "localhost:7";
    return "other";
  };
  for (const KeySpec& spec : KeyTable()) {
    std::string text = other_text(spec);
    if (spec.name == "server.max_frame_bytes" || spec.name == "limits.max_spec_bytes") text = "2MiB";
    Config config;
    ASSERT_TRUE(SetValue(spec, text, config).ok()) << spec.name << " " << text;
    for (const KeySpec& each : KeyTable()) {
      EXPECT_EQ(ValueText(each, config), each.name == spec.name ? text : each.default_text)
          << "after setting " << spec.name << ", " << each.name;
    }
  }
}

TEST(KeyTableTest, EnumeratorsHaveTheNamesOfTheTable) {
  Config config;
  ASSERT_TRUE(SetValue(*FindKey("tls.mode"), "mtls", config).ok());
  EXPECT_EQ(config.tls.mode, TlsMode::kMutual);
  ASSERT_TRUE(SetValue(*FindKey("tls.mode"), "tls", config).ok());
  EXPECT_EQ(config.tls.mode, TlsMode::kTls);
  ASSERT_TRUE(SetValue(*FindKey("auth.mode"), "token", config).ok());
  EXPECT_EQ(config.auth.mode, AuthMode::kToken);
  ASSERT_TRUE(SetValue(*FindKey("auth.mode"), "mtls", config).ok());
  EXPECT_EQ(config.auth.mode, AuthMode::kMutualTls);
  ASSERT_TRUE(SetValue(*FindKey("storage.values"), "rocksdb", config).ok());
  EXPECT_EQ(config.storage.values, ValuesKind::kRocksDb);
  ASSERT_TRUE(SetValue(*FindKey("storage.sync"), "always", config).ok());
  EXPECT_EQ(config.storage.sync, SyncMode::kAlways);
  ASSERT_TRUE(SetValue(*FindKey("storage.sync"), "none", config).ok());
  EXPECT_EQ(config.storage.sync, SyncMode::kNone);
  ASSERT_TRUE(SetValue(*FindKey("log.level"), "warn", config).ok());
  EXPECT_EQ(config.log.level, LogLevel::kWarn);
  ASSERT_TRUE(SetValue(*FindKey("log.level"), "error", config).ok());
  EXPECT_EQ(config.log.level, LogLevel::kError);
  ASSERT_TRUE(SetValue(*FindKey("log.level"), "debug", config).ok());
  EXPECT_EQ(config.log.level, LogLevel::kDebug);
  ASSERT_TRUE(SetValue(*FindKey("log.format"), "text", config).ok());
  EXPECT_EQ(config.log.format, LogFormat::kText);
}

TEST(ConfigTest, StartsWithTheDefaultsOfTheTable) {
  const Config config;
  EXPECT_EQ(config.server.listen, (HostPort{"127.0.0.1", 9460}));
  EXPECT_EQ(config.server.max_frame_bytes, 1u << 20);
  EXPECT_EQ(config.server.idle_timeout, std::chrono::minutes(10));
  EXPECT_EQ(config.tls.mode, TlsMode::kOff);
  EXPECT_EQ(config.auth.mode, AuthMode::kNone);
  EXPECT_EQ(config.storage.path, "/var/lib/kdn");
  EXPECT_EQ(config.storage.sync, SyncMode::kBatch);
  EXPECT_EQ(config.storage.high_watermark, 0.9);
  EXPECT_EQ(config.storage.ttl, std::chrono::milliseconds(0));
  EXPECT_EQ(config.log.level, LogLevel::kInfo);
  EXPECT_EQ(config.log.format, LogFormat::kJson);
  EXPECT_TRUE(config.origins.empty());
}

TEST(SetValueTest, RefusesWhatIsOutOfBoundsAndNamesThem) {
  EXPECT_EQ(SetError("server.max_frame_bytes", "4MiB"), "expected 64KiB..3MiB, got 4MiB");
  EXPECT_EQ(SetError("server.max_frame_bytes", "65535"), "expected 64KiB..3MiB, got 65535");
  EXPECT_EQ(SetError("server.max_streams_per_connection", "0"), "expected 1..65535, got 0");
  EXPECT_EQ(SetError("server.keepalive", "10ms"), "expected 1s..2h or 0, got 10ms");
  EXPECT_EQ(SetError("storage.high_watermark", "1.5"), "expected 0.01..1, got 1.5");
  EXPECT_EQ(SetError("server.threads", "-1"), "expected 0..1024, got -1");
}

TEST(SetValueTest, AcceptsBoundsThemselvesAndZeroWhereItHasAMeaning) {
  Config config;
  EXPECT_TRUE(SetValue(*FindKey("server.max_frame_bytes"), "64KiB", config).ok());
  EXPECT_TRUE(SetValue(*FindKey("server.max_frame_bytes"), "3MiB", config).ok());
  EXPECT_TRUE(SetValue(*FindKey("server.keepalive"), "0", config).ok());
  EXPECT_TRUE(SetValue(*FindKey("memory.ram_tier"), "0", config).ok());
}

TEST(SetValueTest, RefusesOtherWordsThanTheChoices) {
  EXPECT_EQ(SetError("tls.mode", "on"), "expected one of off, tls, mtls, got \"on\"");
  EXPECT_EQ(SetError("log.level", "INFO"), "expected one of debug, info, warn, error, got \"INFO\"");
  EXPECT_EQ(SetError("log.level", ""), "expected one of debug, info, warn, error, got \"\"");
}

TEST(SetValueTest, RefusesEmptyAddressUnlessItMeansOff) {
  EXPECT_THAT(SetError("server.listen", ""), HasSubstr("expected host:port"));
  Config config;
  ASSERT_TRUE(SetValue(*FindKey("metrics.listen"), "", config).ok());
  EXPECT_FALSE(config.metrics.listen.enabled());
}

TEST(SetValueTest, RefusesBadPathsAndNames) {
  EXPECT_THAT(SetError("storage.path", ""), HasSubstr("got an empty value"));
  EXPECT_THAT(SetError("storage.path", "/a\nb"), HasSubstr("control characters"));
  EXPECT_THAT(SetError("storage.path", std::string(5000, 'x')), HasSubstr("at most 4096 bytes, got 5000"));
  for (const char* name : {"", "Team", "a b", "-a", ".a", "a/b"}) {
    EXPECT_THAT(SetError("tenants.default", name), HasSubstr("such as team-a")) << name;
  }
  EXPECT_THAT(SetError("tenants.default", std::string(64, 'a')), HasSubstr("1 to 63 characters"));
}

TEST(SetValueTest, DoesNotRepeatKeyMaterialThatStandsInPlaceOfAPath) {
  const std::string error = SetError("tls.key", "-----BEGIN PRIVATE KEY-----\nMIIEvQ==\n");
  EXPECT_THAT(error, HasSubstr("got the content of one"));
  EXPECT_THAT(error, Not(HasSubstr("MIIEvQ")));
  EXPECT_THAT(SetError("auth.tokens_file", "s3cret\nother"), Not(HasSubstr("s3cret")));
}

TEST(EnvironmentNameTest, IsSectionAndKeyInUpperCase) {
  EXPECT_EQ(EnvironmentName(*FindKey("server.max_frame_bytes")), "KDN_SERVER__MAX_FRAME_BYTES");
}

TEST(FindKeyTest, FindsWholeNamesOnly) {
  EXPECT_NE(FindKey("server.listen"), nullptr);
  EXPECT_EQ(FindKey("server"), nullptr);
  EXPECT_EQ(FindKey("listen"), nullptr);
  EXPECT_EQ(FindKey(""), nullptr);
  EXPECT_TRUE(IsSection("server"));
  EXPECT_FALSE(IsSection("server.listen"));
  EXPECT_FALSE(IsSection(""));
}

}  // namespace
}  // namespace kdn::config
