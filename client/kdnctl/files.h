#ifndef KDN_CLIENT_KDNCTL_FILES_H_
#define KDN_CLIENT_KDNCTL_FILES_H_

#include <string>

#include "absl/status/status.h"
#include "kernels/base/bytes.h"

namespace kdn::ctl {

// Writes the whole file ("-" = standard output). InvalidArgument when it cannot be opened, Internal when writing fails.
absl::Status WriteFile(const std::string& path, ByteSpan bytes);

// Asks on stderr; whether the next line of standard input says yes.
bool Confirmed(const std::string& question);

}  // namespace kdn::ctl

#endif  // KDN_CLIENT_KDNCTL_FILES_H_
