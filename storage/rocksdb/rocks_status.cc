#include "storage/rocksdb/rocks_status.h"

#include <string>

#include "kernels/base/status.h"

namespace kdn {

absl::Status FromRocks(const rocksdb::Status& status, std::string_view what) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = StrCat(what, ": ", status.ToString());
  const auto says = [&message](std::string_view text) { return message.find(text) != std::string::npos; };
  if (status.IsNoSpace() || says("No space left on device")) return ResourceExhausted(message);
  if (status.IsCorruption()) return DataLoss(message);
  if (says("Permission denied") || says("Read-only file system")) return PermissionDenied(message);
  if (says("While lock file") || says("lock hold by")) return FailedPrecondition(message);
  if (status.IsNotFound() || status.IsPathNotFound()) return NotFound(message);
  if (status.IsIOError() || status.IsBusy() || status.IsShutdownInProgress() || status.IsTryAgain() ||
      status.IsTimedOut() || status.IsAborted() || status.IsIncomplete()) {
    return Unavailable(message);
  }
  return Internal(message);
}

}  // namespace kdn
