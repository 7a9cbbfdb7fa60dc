#include "storage/file/errno_status.h"

#include <cerrno>
#include <system_error>

#include "kernels/base/status.h"

namespace kdn {
namespace {

absl::StatusCode CodeOf(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::StatusCode::kNotFound;
    case EEXIST:
      return absl::StatusCode::kAlreadyExists;
    case ENOSPC:
    case EDQUOT:
      return absl::StatusCode::kResourceExhausted;
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::StatusCode::kPermissionDenied;
    default:
      return absl::StatusCode::kInternal;
  }
}

absl::Status Make(absl::StatusCode code, int error, std::string_view operation, std::string_view path) {
  return absl::Status(
      code, ToAbsl(StrCat(operation, " ", path, ": ", std::generic_category().message(error), " (errno ", error, ")")));
}

}  // namespace

absl::Status ErrnoStatus(int error, std::string_view operation, std::string_view path) {
  return Make(CodeOf(error), error, operation, path);
}

absl::Status ReadErrnoStatus(int error, std::string_view operation, std::string_view path) {
  return Make(error == EIO ? absl::StatusCode::kDataLoss : CodeOf(error), error, operation, path);
}

}  // namespace kdn
