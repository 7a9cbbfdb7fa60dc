#include "client/kdnctl/exit_code.h"

#include <gtest/gtest.h>

#include "kernels/base/status.h"

namespace kdn::ctl {
namespace {

TEST(ExitCodeTest, FollowsTheContract) {
  EXPECT_EQ(ExitCodeFor(absl::OkStatus()), 0);
  EXPECT_EQ(ExitCodeFor(Internal("x")), 1);
  EXPECT_EQ(ExitCodeFor(InvalidArgument("x")), 2);
  EXPECT_EQ(ExitCodeFor(NotFound("x")), 3);
  EXPECT_EQ(ExitCodeFor(Unavailable("x")), 4);
  EXPECT_EQ(ExitCodeFor(DeadlineExceeded("x")), 4);
  EXPECT_EQ(ExitCodeFor(Unauthenticated("x")), 5);
  EXPECT_EQ(ExitCodeFor(PermissionDenied("x")), 5);
  EXPECT_EQ(ExitCodeFor(DataLoss("x")), 6);
  EXPECT_EQ(ExitCodeFor(ResourceExhausted("x")), 8);
}

}  // namespace
}  // namespace kdn::ctl
