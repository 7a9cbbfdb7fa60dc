#include "kernels/base/log.h"

#include <gtest/gtest.h>

namespace kdn {
namespace {

TEST(LogTest, JsonLineQuotesWhatNeedsQuoting) {
  EXPECT_EQ(FormatLogLine(LogFormat::kJson, LogLevel::kWarn, "disk \"full\"",
                          {{"free_bytes", uint64_t{12}}, {"path", std::string("a\nb")}}),
            R"("level":"warn","event":"disk \"full\"","free_bytes":12,"path":"a\nb")");
}

TEST(LogTest, TextLineIsOneLine) {
  EXPECT_EQ(FormatLogLine(LogFormat::kText, LogLevel::kInfo, "started", {{"listen", std::string_view("a\nb")}}),
            R"(info started listen="a\nb")");
}

}  // namespace
}  // namespace kdn
