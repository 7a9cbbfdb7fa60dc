#include "config/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/base/status.h"

namespace kdn::config {
namespace {

using testing::HasSubstr;
using Action = CommandLine::Action;

CommandLine Parse(const std::vector<std::string>& arguments) {
  absl::StatusOr<CommandLine> parsed = ParseCommandLine(arguments);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() ? *parsed : CommandLine();
}

std::string ParseError(const std::vector<std::string>& arguments) {
  const absl::StatusOr<CommandLine> parsed = ParseCommandLine(arguments);
  return parsed.ok() ? "no error" : std::string(FromAbsl(parsed.status().message()));
}

TEST(ParseCommandLineTest, ServesWithDefaultsWithoutArguments) {
  const CommandLine parsed = Parse({});
  EXPECT_EQ(parsed.action, Action::kServe);
  EXPECT_FALSE(parsed.config_file.has_value());
  EXPECT_TRUE(parsed.flags.empty());
}

TEST(ParseCommandLineTest, ReadsConfigFileInBothForms) {
  EXPECT_EQ(Parse({"--config", "a=b.yaml"}).config_file, "a=b.yaml");
  EXPECT_EQ(Parse({"--config=a=b.yaml"}).config_file, "a=b.yaml");
}

TEST(ParseCommandLineTest, ReadsKeysInAllForms) {
  const CommandLine parsed = Parse({"--server.threads=2", "--log.level", "warn", "--set", "tls.mode=off",
                                    "--set=storage.path=/a=b", "--metrics.listen="});
  ASSERT_EQ(parsed.flags.size(), 5u);
  EXPECT_EQ(parsed.flags[0].key, "server.threads");
  EXPECT_EQ(parsed.flags[0].text, "2");
  EXPECT_EQ(parsed.flags[0].written, "--server.threads");
  EXPECT_EQ(parsed.flags[1].key, "log.level");
  EXPECT_EQ(parsed.flags[1].text, "warn");
  EXPECT_EQ(parsed.flags[2].key, "tls.mode");
  EXPECT_EQ(parsed.flags[2].text, "off");
  EXPECT_EQ(parsed.flags[2].written, "--set tls.mode");
  EXPECT_EQ(parsed.flags[3].key, "storage.path");
  EXPECT_EQ(parsed.flags[3].text, "/a=b");
  EXPECT_EQ(parsed.flags[4].text, "");
}

TEST(ParseCommandLineTest, ReadsActions) {
  EXPECT_EQ(Parse({"--check-config"}).action, Action::kCheckConfig);
  EXPECT_EQ(Parse({"--version"}).action, Action::kVersion);
  EXPECT_EQ(Parse({"--help"}).action, Action::kHelp);
  EXPECT_EQ(Parse({"-h"}).action, Action::kHelp);
  EXPECT_EQ(Parse({"--print-config"}).action, Action::kPrintConfig);
  EXPECT_EQ(Parse({"--print-config"}).print_format, PrintFormat::kYaml);
  EXPECT_EQ(Parse({"--print-config=json"}).print_format, PrintFormat::kJson);
}

TEST(ParseCommandLineTest, HelpsEvenAmongErrors) {
  EXPECT_EQ(Parse({"--wrong", "--check-config", "--help"}).action, Action::kHelp);
}

TEST(ParseCommandLineTest, SuggestsNearOptionsAndKeys) {
  EXPECT_THAT(ParseError({"--confg=x"}), HasSubstr("unknown option \"--confg\", did you mean '--config'?"));
  EXPECT_THAT(ParseError({"--server.lisen=x"}),
              HasSubstr("unknown option \"--server.lisen\", did you mean '--server.listen'?"));
  EXPECT_THAT(ParseError({"--sevrer.listen=x"}), HasSubstr("did you mean '--server.listen'?"));
  EXPECT_THAT(ParseError({"--frobnicate"}), HasSubstr("unknown option \"--frobnicate\"; see --help"));
}

TEST(ParseCommandLineTest, RefusesMalformedArguments) {
  EXPECT_THAT(ParseError({"--config"}), HasSubstr("--config: needs a value"));
  EXPECT_THAT(ParseError({"--config="}), HasSubstr("--config: expected the path of a file"));
  EXPECT_THAT(ParseError({"--config=a", "--config=b"}), HasSubstr("--config: given twice"));
  EXPECT_THAT(ParseError({"--log.level"}), HasSubstr("--log.level: needs a value"));
  EXPECT_THAT(ParseError({"--set"}), HasSubstr("--set: needs a value"));
  EXPECT_THAT(ParseError({"--set", "log.level"}), HasSubstr("expected section.key=value, got \"log.level\""));
  EXPECT_THAT(ParseError({"--print-config=xml"}), HasSubstr("expected yaml or json, got \"xml\""));
  EXPECT_THAT(ParseError({"--version=2"}), HasSubstr("takes no value"));
  EXPECT_THAT(ParseError({"--check-config", "--print-config"}), HasSubstr("exclude each other"));
  EXPECT_THAT(ParseError({"kdnd.yaml"}), HasSubstr("unexpected argument \"kdnd.yaml\""));
  EXPECT_THAT(ParseError({""}), HasSubstr("unexpected argument \"\""));
  EXPECT_THAT(ParseError({"--"}), HasSubstr("unknown option \"--\""));
  EXPECT_THAT(ParseError({"-v"}), HasSubstr("unknown option \"-v\""));
}

TEST(ParseCommandLineTest, ReportsAllProblemsTogether) {
  const std::string error = ParseError({"--wrong", "word", "--config"});
  EXPECT_THAT(error, HasSubstr("3 errors"));
}

}  // namespace
}  // namespace kdn::config
