#include "config/print.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "config/key_table.h"
#include "config/load.h"

namespace kdn::config {
namespace {

using testing::HasSubstr;

Config LoadText(const std::string& text) {
  Sources sources;
  sources.file = FileSource{"f.yaml", text};
  absl::StatusOr<Config> config = LoadConfig(sources);
  EXPECT_TRUE(config.ok()) << config.status() << "\n" << text;
  return config.ok() ? *config : Config();
}

Config WithoutOrigins(Config config) {
  config.origins.clear();
  return config;
}

// Values that need care: quotes, backslashes, an address with brackets, words that YAML takes for null.
Config Odd() {
  Sources sources;
  sources.flags = {{"storage.path", "/srv/a \"b\"\\c: #d \xc3\xbc", "--storage.path"},
                   {"server.listen", "[::1]:0", "--server.listen"},
                   {"tls.mode", "tls", "--tls.mode"},
                   {"tls.cert", "null", "--tls.cert"},
                   {"tls.key", "~", "--tls.key"},
                   {"metrics.listen", "", "--metrics.listen"},
                   {"storage.high_watermark", "87.5%", "--storage.high_watermark"},
                   {"storage.ttl", "7d", "--storage.ttl"},
                   {"storage.capacity", "2GB", "--storage.capacity"},
                   {"tenants.default", "0", "--tenants.default"}};
  absl::StatusOr<Config> config = LoadConfig(sources);
  EXPECT_TRUE(config.ok()) << config.status();
  return *config;
}

TEST(PrintConfigTest, YamlAndJsonLoadBackToTheSameValues) {
  const Config odd = Odd();
  for (const Config& config : {Config(), odd}) {
    const Config expected = WithoutOrigins(config);
    EXPECT_EQ(WithoutOrigins(LoadText(PrintConfig(config, PrintFormat::kYaml, PrintOrigins::kNo))), expected);
    EXPECT_EQ(WithoutOrigins(LoadText(PrintConfig(config, PrintFormat::kYaml, PrintOrigins::kYes))), expected);
    EXPECT_EQ(WithoutOrigins(LoadText(PrintConfig(config, PrintFormat::kJson, PrintOrigins::kNo))), expected);
  }
}

TEST(PrintConfigTest, YamlShowsOriginsAsComments) {
  const std::string text = PrintConfig(Odd(), PrintFormat::kYaml, PrintOrigins::kYes);
  EXPECT_THAT(text, HasSubstr("  max_frame_bytes: 1MiB                         # default\n"));
  EXPECT_THAT(text, HasSubstr("  ttl: 168h                                     # flag --storage.ttl\n"));
  EXPECT_THAT(PrintConfig(Odd(), PrintFormat::kYaml, PrintOrigins::kNo), HasSubstr("  max_frame_bytes: 1MiB\n"));
}

TEST(PrintConfigTest, JsonHasTypedValuesAndOrigins) {
  const auto plain = nlohmann::json::parse(PrintConfig(Odd(), PrintFormat::kJson, PrintOrigins::kNo));
  EXPECT_EQ(plain["server"]["reflection"], false);
  EXPECT_EQ(plain["server"]["max_streams_per_connection"], 128);
  EXPECT_EQ(plain["storage"]["high_watermark"], 0.875);
  EXPECT_EQ(plain["storage"]["capacity"], "2GB");
  const auto with_origins = nlohmann::json::parse(PrintConfig(Odd(), PrintFormat::kJson, PrintOrigins::kYes));
  EXPECT_EQ(with_origins["storage"]["ttl"]["value"], "168h");
  EXPECT_EQ(with_origins["storage"]["ttl"]["origin"], "flag --storage.ttl");
  EXPECT_EQ(with_origins["log"]["level"]["origin"], "default");
}

TEST(ExampleFileTest, LoadsToTheDefaults) { EXPECT_EQ(WithoutOrigins(LoadText(ExampleFile())), Config()); }

TEST(ExampleFileTest, SetsEveryKey) { EXPECT_EQ(LoadText(ExampleFile()).origins.size(), KeyTable().size()); }

TEST(ExampleFileTest, EqualsTheCommittedFile) {
  std::ifstream in(KDN_SOURCE_DIR "/config/kdnd.example.yaml", std::ios::binary);
  ASSERT_TRUE(in.is_open());
  const std::string committed((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  EXPECT_EQ(committed, ExampleFile()) << "write it anew: kdn_write_example > config/kdnd.example.yaml";
}

TEST(HelpTextTest, ListsEveryOptionAndKeyWithDefault) {
  const std::string help = HelpText();
  for (const char* option : {"--config FILE", "--set section.key=value", "--check-config", "--print-config[=yaml|json]",
                             "--version", "--help"}) {
    EXPECT_THAT(help, HasSubstr(option));
  }
  for (const KeySpec& spec : KeyTable()) {
    const std::string shown(spec.default_text.empty() ? "\"\"" : spec.default_text);
    EXPECT_THAT(help, HasSubstr("--" + std::string(spec.name) + "=" + shown + "  ("));
    EXPECT_THAT(help, HasSubstr(std::string(spec.help)));
  }
}

}  // namespace
}  // namespace kdn::config
