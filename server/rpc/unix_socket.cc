#include "server/rpc/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kernels/base/status.h"

namespace kdn {
namespace {

class SocketFd {
 public:
  SocketFd() : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {}
  ~SocketFd() {
    if (fd_ >= 0) close(fd_);
  }
  SocketFd(const SocketFd&) = delete;
  SocketFd& operator=(const SocketFd&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

// False when the path is too long for a socket.
bool FillAddress(const std::string& path, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return false;
  path.copy(address.sun_path, path.size());
  return true;
}

}  // namespace

absl::Status MakeWayForSocket(const std::string& path) {
  struct stat found;
  if (lstat(path.c_str(), &found) != 0) return absl::OkStatus();  // whatever else is wrong, listening will tell
  if (!S_ISSOCK(found.st_mode)) return FailedPrecondition(path, " is there and is not a socket");
  sockaddr_un address;
  if (!FillAddress(path, address)) return InvalidArgument(path, " is too long for a socket");
  const SocketFd probe;
  const int connected = connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  if (connected == 0 || errno != ECONNREFUSED) {
    return FailedPrecondition("another server listens on ", path, " already");
  }
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return Unavailable("the socket ", path, " of a server that ended cannot be removed: ", std::strerror(errno));
  }
  return absl::OkStatus();
}

std::string SocketBindFailure(const std::string& path) {
  sockaddr_un address;
  if (!FillAddress(path, address)) return "the path is too long for a socket";
  const SocketFd probe;
  if (probe.get() < 0) return std::strerror(errno);
  if (bind(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return std::strerror(errno);
  unlink(path.c_str());
  return "gRPC refused the address";
}

}  // namespace kdn
