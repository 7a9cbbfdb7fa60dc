#ifndef KDN_SERVER_RPC_UNIX_SOCKET_H_
#define KDN_SERVER_RPC_UNIX_SOCKET_H_

#include <string>

#include "absl/status/status.h"

namespace kdn {

// Removes a socket at `path` that nobody listens on any more. OK when nothing is left there; FailedPrecondition when a
// server still listens on it, or something else than a socket is there; Unavailable when it cannot be removed.
absl::Status MakeWayForSocket(const std::string& path);

// The system's reason why no socket can be made at `path`.
std::string SocketBindFailure(const std::string& path);

}  // namespace kdn

#endif  // KDN_SERVER_RPC_UNIX_SOCKET_H_
