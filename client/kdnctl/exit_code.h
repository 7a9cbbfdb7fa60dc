#ifndef KDN_CLIENT_KDNCTL_EXIT_CODE_H_
#define KDN_CLIENT_KDNCTL_EXIT_CODE_H_

#include "absl/status/status.h"

namespace kdn::ctl {

// What kdnctl exits with: part of its contract (README.md), never renumbered.
enum ExitCode : int {
  kDone = 0,
  kFailed = 1,
  kUsage = 2,
  kNotFound = 3,
  kUnreachable = 4,  // or a deadline that passed
  kForbidden = 5,    // unauthenticated or not allowed
  kCorrupt = 6,
  // 7 is not given: kept for work done in part
  kExhausted = 8,
};

ExitCode ExitCodeFor(const absl::Status& status);

}  // namespace kdn::ctl

#endif  // KDN_CLIENT_KDNCTL_EXIT_CODE_H_
