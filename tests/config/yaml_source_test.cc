#include "config/yaml_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "kernels/base/status.h"

namespace kdn::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Parsed {
  std::vector<std::string> settings;  // "key=text@line:column"
  std::string error;
};

Parsed Parse(std::string_view text) {
  Problems problems;
  Parsed parsed;
  for (const FileSetting& setting : ParseYaml(text, "f.yaml", problems)) {
    parsed.settings.push_back(StrCat(setting.spec->name, "=", setting.text, "@", setting.line, ":", setting.column));
  }
  parsed.error = std::string(FromAbsl(problems.ToStatus().message()));
  return parsed;
}

TEST(ParseYamlTest, ReadsBlockAndFlowStyleWithPlaces) {
  const Parsed parsed = Parse(
      "# comment\n"
      "server:\n"
      "  listen: 127.0.0.1:1\n"
      "  reflection: true  # comment\n"
      "tls: {mode: off, cert: \"a b\"}\n");
  EXPECT_EQ(parsed.error, "");
  EXPECT_THAT(parsed.settings, ElementsAre("server.listen=127.0.0.1:1@3:11", "server.reflection=true@4:15",
                                           "tls.mode=off@5:13", "tls.cert=a b@5:24"));
}

TEST(ParseYamlTest, ReadsJson) {
  const Parsed parsed = Parse("{\"server\": {\"threads\": 4, \"reflection\": false}}");
  EXPECT_EQ(parsed.error, "");
  EXPECT_THAT(parsed.settings, ElementsAre("server.threads=4@1:24", "server.reflection=false@1:41"));
}

TEST(ParseYamlTest, TakesEmptyFilesAndEmptySections) {
  for (const char* text : {"", "\n", "# only a comment\n", "---\n", "{}", "server:\n", "server: {}\n", "server: ~\n",
                           "log:\n...\n", "log:\n...\n# end\n", "---\nserver:\n  # all keys commented out\n...\n"}) {
    const Parsed parsed = Parse(text);
    EXPECT_EQ(parsed.error, "") << text;
    EXPECT_THAT(parsed.settings, IsEmpty()) << text;
  }
}

TEST(ParseYamlTest, ReportsUnknownSectionOnceWithSuggestion) {
  const Parsed parsed = Parse("sevrer:\n  listen: x\n  a: {b: [c]}\nlog:\n  level: warn\n");
  EXPECT_EQ(parsed.error, "invalid configuration:\n  f.yaml:1:1: unknown section \"sevrer\", did you mean 'server'?");
  EXPECT_THAT(parsed.settings, ElementsAre("log.level=warn@5:10"));
}

TEST(ParseYamlTest, ReportsUnknownKeyWithSuggestion) {
  const Parsed parsed = Parse("server:\n  lisen: 1.2.3.4:5\n  threads: 2\n");
  EXPECT_EQ(parsed.error, "invalid configuration:\n  f.yaml:2:3: unknown key \"server.lisen\", did you mean 'listen'?");
  EXPECT_THAT(parsed.settings, ElementsAre("server.threads=2@3:12"));
}

TEST(ParseYamlTest, ReportsKeyOutsideItsSection) {
  EXPECT_THAT(Parse("server.listen: 127.0.0.1:1\n").error,
              HasSubstr("f.yaml:1:1: unknown section \"server.listen\", write it as 'listen:' under 'server:'"));
}

TEST(ParseYamlTest, ReportsDuplicateKeysAndSections) {
  const Parsed parsed = Parse(
      "log:\n  level: info\n  level: warn\n"
      "server: {}\n"
      "log:\n  format: text\n");
  EXPECT_THAT(parsed.error, HasSubstr("invalid configuration, 2 errors:"));
  EXPECT_THAT(parsed.error, HasSubstr("f.yaml:3:3: 'log.level' is given twice, first in line 2"));
  EXPECT_THAT(parsed.error, HasSubstr("f.yaml:5:1: 'log' is given twice, first in line 1"));
}

TEST(ParseYamlTest, ReportsKeyWithoutValue) {
  EXPECT_THAT(Parse("storage:\n  path:\n  sync: none\n").error,
              HasSubstr("f.yaml:2:3: 'storage.path' has no value: give one, or remove the line"));
  EXPECT_THAT(Parse("storage:\n  path: null\n").error, HasSubstr("'storage.path' has no value"));
}

TEST(ParseYamlTest, ReportsListsAndMappingsInPlaceOfValues) {
  EXPECT_THAT(Parse("server:\n  listen: [a, b]\n").error,
              HasSubstr("f.yaml:2:11: 'server.listen' takes a single value, got a list"));
  EXPECT_THAT(Parse("server:\n  listen:\n    host: a\n").error, HasSubstr("takes a single value, got a mapping"));
  EXPECT_THAT(Parse("server: [listen]\n").error, HasSubstr("f.yaml:1:9: section 'server' holds keys, got a list"));
  EXPECT_THAT(Parse("server: 5\n").error, HasSubstr("f.yaml:1:9: section 'server' holds keys, got a single value"));
  EXPECT_THAT(Parse("- server\n").error, HasSubstr("f.yaml:1:1: expected sections such as 'server:', got a list"));
  EXPECT_THAT(Parse("server\n").error, HasSubstr("expected sections such as 'server:', got a single value"));
}

TEST(ParseYamlTest, ReportsMissingNames) {
  EXPECT_THAT(Parse("~: 5\n").error, HasSubstr("f.yaml:1:1: expected a name, got nothing"));
  EXPECT_THAT(Parse("server: {~: 5}\n").error, HasSubstr("f.yaml:1:10: expected a name, got nothing"));
}

TEST(ParseYamlTest, GoesOnAfterAnOddPlace) {
  const Parsed parsed = Parse(
      "server:\n"
      "  ? [a, b]\n"
      "  : {c: d}\n"
      "  listen: {x: [1, {y: 2}]}\n"
      "  threads: 3\n"
      "? {a: b}\n"
      ": 5\n"
      "log: {level: debug}\n");
  EXPECT_THAT(parsed.settings, ElementsAre("server.threads=3@5:12", "log.level=debug@8:14"));
  EXPECT_THAT(parsed.error, HasSubstr("3 errors"));
}

TEST(ParseYamlTest, RefusesAnchorsAliasesMergeKeysAndTags) {
  EXPECT_THAT(Parse("server: &s\n  threads: 3\n").error, HasSubstr("anchors are not supported"));
  EXPECT_THAT(Parse("tls: {cert: &c a, key: *c}\n").error, HasSubstr("f.yaml:1:24: aliases are not supported"));
  EXPECT_THAT(Parse("server: {<<: {threads: 3}}\n").error, HasSubstr("unknown key \"server.<<\""));
  EXPECT_THAT(Parse("server: {threads: !!int 3}\n").error, HasSubstr("tags are not supported"));
}

TEST(ParseYamlTest, RefusesSecondDocument) {
  EXPECT_THAT(Parse("log: {level: info}\n---\nlog: {level: warn}\n").error, HasSubstr("more than one document"));
}

TEST(ParseYamlTest, ReportsSyntaxErrorsWithTheirPlace) {
  EXPECT_THAT(Parse("server:\n  listen: \"x\n").error, HasSubstr("not valid YAML: "));
  EXPECT_THAT(Parse("server:\n  listen: 'x\n").error, HasSubstr("not valid YAML: "));
  EXPECT_THAT(Parse("server:\n  listen: x: y\n").error, HasSubstr("f.yaml:2:12: not valid YAML: "));
  EXPECT_THAT(Parse("server: {listen: x\n").error, HasSubstr("not valid YAML: "));
  EXPECT_THAT(Parse("server:\n\tlisten: x\n").error, HasSubstr("not valid YAML: "));
}

TEST(ParseYamlTest, EndsOnDeepNestingAndAliasBombs) {
  for (const std::string unit : {"[", "{a: ", "- ", "? "}) {
    std::string deep = "server: ";
    if (unit == "- " || unit == "? ") deep.append("\n  ");
    for (int i = 0; i < 50'000; ++i) deep.append(unit);
    EXPECT_NE(Parse(deep).error, "") << unit;
  }
  std::string bomb = "a0: &a0 [x, x]\n";
  for (int i = 1; i < 60; ++i) {
    bomb.append(StrCat("a", i, ": &a", i, " [*a", i - 1, ", *a", i - 1, "]\n"));
  }
  EXPECT_THAT(Parse(bomb).error, HasSubstr("more"));
}

TEST(ParseYamlTest, RefusesTextOverTheLimit) {
  const std::string at_limit(kMaxFileBytes, '\n');
  EXPECT_EQ(Parse(at_limit).error, "");
  EXPECT_THAT(Parse(at_limit + "\n").error, HasSubstr("has 1048577 bytes, at most 1048576 are read"));
}

TEST(ParseYamlTest, KeepsTwentyProblemsAndCountsTheRest) {
  std::string text;
  for (int i = 0; i < 100; ++i) text.append(StrCat("unknown", i, ": 1\n"));
  const std::string error = Parse(text).error;
  EXPECT_THAT(error, HasSubstr("100 errors"));
  EXPECT_THAT(error, HasSubstr("\"unknown19\""));
  EXPECT_THAT(error, testing::Not(HasSubstr("\"unknown20\"")));
  EXPECT_THAT(error, HasSubstr("\n  and 80 more"));
}

class ReadConfigFileTest : public testing::Test {
 protected:
  ReadConfigFileTest() : folder_(testing::TempDir() + "/kdn_config_" + std::to_string(getpid())) {
    std::filesystem::create_directories(folder_);
  }
  ~ReadConfigFileTest() override { std::filesystem::remove_all(folder_); }

  std::string Write(std::string_view content) {
    const std::string path = folder_ + "/kdnd.yaml";
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

  const std::string folder_;
};

TEST_F(ReadConfigFileTest, ReturnsTheContent) {
  EXPECT_EQ(ReadConfigFile(Write("log:\n")).value(), "log:\n");
  EXPECT_EQ(ReadConfigFile(Write("")).value(), "");
  EXPECT_EQ(ReadConfigFile(Write(std::string(kMaxFileBytes, '#'))).value().size(), kMaxFileBytes);
}

TEST_F(ReadConfigFileTest, RefusesMissingFolderAndOverlongFiles) {
  const absl::Status missing = ReadConfigFile(folder_ + "/none.yaml").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(FromAbsl(missing.message())), HasSubstr(folder_ + "/none.yaml: No such file"));
  EXPECT_EQ(ReadConfigFile(folder_).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReadConfigFile(Write(std::string(kMaxFileBytes + 1, '#'))).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kdn::config
