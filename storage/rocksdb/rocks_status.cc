#include "storage/rocksdb/rocks_status.h"

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/base/status.h"

namespace kdn {
namespace {

bool IsDatabaseFile(const std::string& name) {
  const auto starts = [&](std::string_view prefix) { return name.compare(0, prefix.size(), prefix) == 0; };
  const auto ends = [&](std::string_view suffix) {
    return name.size() >= suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0;
  };
  return name == "CURRENT" || name == "IDENTITY" || name == "LOCK" || starts("LOG") || starts("MANIFEST-") ||
         starts("OPTIONS-") || starts("KDN_STATE") || ends(".sst") || ends(".blob") || ends(".log") || ends(".dbtmp");
}

}  // namespace

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

absl::Status FromRocksOpen(const rocksdb::Status& status, std::string_view what) {
  const absl::Status translated = FromRocks(status, what);
  const bool refused = absl::IsResourceExhausted(translated) || absl::IsPermissionDenied(translated) ||
                       absl::IsFailedPrecondition(translated) ||
                       status.ToString().find("Too many open files") != std::string::npos;
  const bool damaged = status.IsCorruption() || status.IsNotFound() || status.IsInvalidArgument() ||
                       status.IsNotSupported() || status.IsIOError();
  return damaged && !refused ? DataLoss(FromAbsl(translated.message())) : translated;
}

absl::StatusOr<FolderContents> LookAtFolder(rocksdb::Env& env, const std::string& folder) {
  std::vector<std::string> names;
  const rocksdb::Status status = env.GetChildren(folder, &names);
  if (status.IsNotFound() || status.IsPathNotFound()) return FolderContents::kNothing;
  KDN_RETURN_IF_ERROR(FromRocks(status, folder));
  std::erase_if(names, [](const std::string& name) { return name == "." || name == ".."; });
  if (names.empty()) return FolderContents::kNothing;
  return std::ranges::any_of(names, IsDatabaseFile) ? FolderContents::kDatabase : FolderContents::kSomethingElse;
}

}  // namespace kdn
