#include "client/kdnctl/report.h"

#include <gtest/gtest.h>

namespace kdn::ctl {
namespace {

Report Example() {
  Report report;
  report.document["state"] = "serving: \"ok\"";
  report.document["tiers"] = Json::array({{{"tier", "ram"}, {"bytes", 5}}, {{"tier", "disk"}, {"bytes", 7}}});
  report.document["empty"] = Json::array();
  report.document["nested"] = {{"a", {1, 2}}};
  report.tables = {{{"TIER", "BYTES"}, {{"ram", "5"}, {"disk", "7"}}}, {{}, {{"state", "serving"}}}};
  return report;
}

TEST(ReportTest, JsonStartsWithTheSchemaAndKeepsOrder) {
  const Json parsed = Json::parse(Render(Example(), OutputFormat::kJson));
  EXPECT_EQ(parsed.begin().key(), "schema");
  EXPECT_EQ(parsed["schema"], "kdn.ctl/v1");
  EXPECT_EQ(parsed["tiers"][1]["bytes"], 7);
}

TEST(ReportTest, YamlSpellsTheSameDocument) {
  EXPECT_EQ(Render(Example(), OutputFormat::kYaml),
            "\"schema\": \"kdn.ctl/v1\"\n"
            "\"state\": \"serving: \\\"ok\\\"\"\n"
            "\"tiers\":\n"
            "  - \"tier\": \"ram\"\n"
            "    \"bytes\": 5\n"
            "  - \"tier\": \"disk\"\n"
            "    \"bytes\": 7\n"
            "\"empty\": []\n"
            "\"nested\":\n"
            "  \"a\":\n"
            "    - 1\n"
            "    - 2\n");
}

TEST(ReportTest, TablesAlignTheirColumns) {
  EXPECT_EQ(Render(Example(), OutputFormat::kTable), "TIER  BYTES\nram   5\ndisk  7\n\nstate  serving\n");
}

TEST(ReportTest, HumanNumbers) {
  EXPECT_EQ(HumanBytes(512), "512 B");
  EXPECT_EQ(HumanBytes(uint64_t{6} << 30), "6.0 GiB");
  EXPECT_EQ(HumanCount(12480), "12,480");
  EXPECT_EQ(HumanCount(999), "999");
  EXPECT_EQ(HumanRatio(150, 100), "1.50x");
  EXPECT_EQ(HumanRatio(150, 0), "-");
  EXPECT_EQ(HumanTime(0), "-");
  EXPECT_EQ(HumanTime(1'000'000'000'000), "2001-09-09T01:46:40Z");
}

TEST(HumanDurationTest, GivesTheTwoLargestUnits) {
  EXPECT_EQ(HumanDuration(0), "0s");
  EXPECT_EQ(HumanDuration(999), "0s");
  EXPECT_EQ(HumanDuration(59'000), "59s");
  EXPECT_EQ(HumanDuration(320'000), "5m 20s");
  EXPECT_EQ(HumanDuration(7'200'000), "2h");
  EXPECT_EQ(HumanDuration(276'000'000), "3d 4h");
  EXPECT_EQ(HumanDuration(86'460'000), "1d 0h");
}

}  // namespace
}  // namespace kdn::ctl
