#ifndef KDN_SERVER_WIRING_NOTIFY_H_
#define KDN_SERVER_WIRING_NOTIFY_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace kdn {

// Tells systemd `state` ("READY=1", "STOPPING=1") on the datagram socket that NOTIFY_SOCKET names: a path, or an
// abstract name that begins with @. OK, doing nothing, when it is empty.
absl::Status NotifySystemd(const std::string& notify_socket, std::string_view state);

// Writes `text` to `path` so that a reader sees all of it or no file.
absl::Status WriteFileAtomically(const std::string& path, std::string_view text);

}  // namespace kdn

#endif  // KDN_SERVER_WIRING_NOTIFY_H_
