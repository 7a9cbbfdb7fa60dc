#include "config/problems.h"

#include "kernels/base/status.h"

namespace kdn::config {

void Problems::Add(std::string_view where, std::string_view what) {
  ++count_;
  if (full()) return;
  lines_.push_back(where.empty() ? std::string(what) : StrCat(where, ": ", what));
}

absl::Status Problems::ToStatus() const {
  if (empty()) return absl::OkStatus();
  std::string message = count_ == 1 ? "invalid configuration:" : StrCat("invalid configuration, ", count_, " errors:");
  for (const std::string& line : lines_) message.append("\n  ").append(line);
  if (count_ > lines_.size()) message.append(StrCat("\n  and ", count_ - lines_.size(), " more"));
  return InvalidArgument(message);
}

}  // namespace kdn::config
