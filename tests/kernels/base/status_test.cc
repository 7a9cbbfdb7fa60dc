#include "kernels/base/status.h"

#include <gtest/gtest.h>

#include <memory>

namespace kdn {
namespace {

absl::StatusOr<std::unique_ptr<int>> MakeInt(int value) {
  if (value < 0) return InvalidArgument("value ", value, " is negative");
  return std::make_unique<int>(value);
}

absl::StatusOr<int> Twice(int value) {
  KDN_ASSIGN_OR_RETURN(const std::unique_ptr<int> made, MakeInt(value));
  KDN_RETURN_IF_ERROR(MakeInt(*made));
  return 2 * *made;
}

TEST(StatusTest, MacrosPassValuesAndErrorsOn) {
  EXPECT_EQ(Twice(21).value(), 42);
  EXPECT_EQ(Twice(-1).status(), absl::InvalidArgumentError("value -1 is negative"));
}

TEST(StatusTest, AnnotateKeepsCodeAndOk) {
  EXPECT_EQ(Annotate(NotFound("chunk"), "lookup"), absl::NotFoundError("lookup: chunk"));
  EXPECT_TRUE(Annotate(absl::OkStatus(), "lookup").ok());
}

}  // namespace
}  // namespace kdn
