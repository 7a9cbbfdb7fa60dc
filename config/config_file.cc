#include <cerrno>
#include <cstdio>
#include <memory>
#include <system_error>

#include "config/yaml_source.h"
#include "kernels/base/status.h"

namespace kdn::config {
namespace {

absl::Status ReadError(const std::string& path, int error) {
  const std::string message =
      StrCat("cannot read the configuration file ", path, ": ", std::generic_category().message(error));
  if (error == ENOENT) return NotFound(message);
  if (error == EACCES || error == EPERM) return PermissionDenied(message);
  return FailedPrecondition(message);
}

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

}  // namespace

absl::StatusOr<std::string> ReadConfigFile(const std::string& path) {
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "rbe"));
  if (file == nullptr) return ReadError(path, errno);
  // One byte more than allowed, to tell a file that is too large.
  std::string text(kMaxFileBytes + 1, '\0');
  errno = 0;
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return ReadError(path, errno);
  if (text.size() > kMaxFileBytes) {
    return InvalidArgument("the configuration file ", path, " has more than ", kMaxFileBytes, " bytes");
  }
  return text;
}

}  // namespace kdn::config
