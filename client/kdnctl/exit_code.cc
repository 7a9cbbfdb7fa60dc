#include "client/kdnctl/exit_code.h"

namespace kdn::ctl {

ExitCode ExitCodeFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kDone;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return kUsage;
    case absl::StatusCode::kNotFound:
      return kNotFound;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kUnreachable;
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return kForbidden;
    case absl::StatusCode::kDataLoss:
      return kCorrupt;
    case absl::StatusCode::kResourceExhausted:
      return kExhausted;
    default:
      return kFailed;
  }
}

}  // namespace kdn::ctl
