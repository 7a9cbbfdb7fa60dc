#include "config/startup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace kdn::config {
namespace {

using testing::HasSubstr;

class StartupTest : public testing::Test {
 protected:
  StartupTest() : path_(testing::TempDir() + "/kdn_startup_" + std::to_string(getpid()) + ".yaml") {}
  ~StartupTest() override { std::filesystem::remove(path_); }

  void WriteFile(std::string_view text) { std::ofstream(path_, std::ios::binary) << text; }

  static Startup Prepare(const std::vector<std::string>& arguments, const Environment& environment = {}) {
    return PrepareStartup(arguments, environment, "kdnd 1.2.3");
  }

  const std::string path_;
};

TEST_F(StartupTest, ServesWithTheMergedConfiguration) {
  WriteFile("server: {threads: 1}\nlog: {level: debug}\n");
  const Startup startup = Prepare({"--config", path_, "--log.format=text"}, {{"KDN_SERVER__THREADS", "2"}});
  ASSERT_TRUE(startup.config.has_value()) << startup.standard_error;
  EXPECT_EQ(startup.config->server.threads, 2);
  EXPECT_EQ(startup.config->log.level, LogLevel::kDebug);
  EXPECT_EQ(startup.config->log.format, LogFormat::kText);
  EXPECT_EQ(ToString(startup.config->OriginOf("log.level")), path_ + ":2");
  EXPECT_EQ(startup.standard_output, "");
  EXPECT_EQ(startup.standard_error, "");
}

TEST_F(StartupTest, ChecksAValidConfigurationWithStatusZero) {
  WriteFile("log: {level: debug}\n");
  const Startup startup = Prepare({"--config", path_, "--check-config"});
  EXPECT_FALSE(startup.config.has_value());
  EXPECT_EQ(startup.exit_code, 0);
  EXPECT_EQ(startup.standard_output, "configuration is valid\n");
  ASSERT_TRUE(startup.to_check.has_value());
  EXPECT_EQ(startup.to_check->log.level, LogLevel::kDebug);
}

TEST_F(StartupTest, FailsWithStatusTwoOnAWrongConfiguration) {
  WriteFile("log: {levle: debug}\n");
  for (const char* action : {"--check-config", "--print-config", "--log.format=json"}) {
    const Startup startup = Prepare({"--config", path_, action});
    EXPECT_FALSE(startup.config.has_value());
    EXPECT_EQ(startup.exit_code, 2);
    EXPECT_EQ(startup.standard_output, "");
    EXPECT_EQ(startup.standard_error,
              "kdnd: invalid configuration:\n  " + path_ + ":1:7: unknown key \"log.levle\", did you mean 'level'?\n");
  }
}

TEST_F(StartupTest, FailsWithStatusTwoOnAMissingFileOrWrongArguments) {
  const Startup missing = Prepare({"--config", path_});
  EXPECT_EQ(missing.exit_code, 2);
  EXPECT_THAT(missing.standard_error, HasSubstr("cannot read the configuration file " + path_ + ": No such file"));
  const Startup wrong = Prepare({"--frobnicate"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_FALSE(wrong.config.has_value());
}

TEST_F(StartupTest, PrintsConfigurationWithOrigins) {
  const Startup yaml = Prepare({"--print-config", "--log.level=warn"});
  EXPECT_EQ(yaml.exit_code, 0);
  EXPECT_FALSE(yaml.config.has_value());
  EXPECT_THAT(yaml.standard_output, testing::ContainsRegex("level: warn +# flag --log.level"));
  EXPECT_THAT(Prepare({"--print-config=json"}).standard_output, HasSubstr("\"origin\": \"default\""));
}

TEST_F(StartupTest, PrintsVersionAndHelpWithoutReadingTheConfiguration) {
  EXPECT_EQ(Prepare({"--version", "--config", path_}).standard_output, "kdnd 1.2.3\n");
  const Startup help = Prepare({"--help", "--config", path_});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.standard_output, HasSubstr("Usage: kdnd"));
}

TEST(ProcessEnvironmentTest, HoldsTheVariablesOfTheProcess) {
  ASSERT_EQ(setenv("KDN_CONFIG_TEST", "a=b", 1), 0);
  const Environment environment = ProcessEnvironment();
  ASSERT_EQ(environment.count("KDN_CONFIG_TEST"), 1u);
  EXPECT_EQ(environment.at("KDN_CONFIG_TEST"), "a=b");
}

}  // namespace
}  // namespace kdn::config
