#include "client/kdnctl/files.h"

#include <cstdio>
#include <fstream>
#include <iostream>

#include "kernels/base/status.h"

namespace kdn::ctl {

absl::Status WriteFile(const std::string& path, ByteSpan bytes) {
  std::ofstream file;
  if (path != "-") {
    file.open(path, std::ios::binary | std::ios::trunc);
    if (!file) return InvalidArgument("cannot write '", path, "'");
  }
  std::ostream& out = path == "-" ? std::cout : file;
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  out.flush();
  if (!out) return Internal("writing '", path, "' failed");
  return absl::OkStatus();
}

bool Confirmed(const std::string& question) {
  std::fprintf(stderr, "%s [y/N] ", question.c_str());
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "Y" || answer == "yes";
}

}  // namespace kdn::ctl
