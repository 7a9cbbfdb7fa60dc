#include "server/rpc/accepting.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

// gRPC 1.51 stops listening for good when accept4 fails with anything but EAGAIN and EINTR: as many connections as
// there are descriptors, which need no authentication, would end the service. This definition comes before the C
// library's. A connection for which there is no descriptor stays in the kernel's queue and is accepted with the next
// one to arrive. The parameters are named as the C library's, which clang-tidy compares.
extern "C" __attribute__((visibility("default"))) int accept4(int __fd, sockaddr* __addr, socklen_t* __addr_len,
                                                              int __flags) {
  const long accepted = syscall(SYS_accept4, __fd, __addr, __addr_len, __flags);
  if (accepted >= 0) return static_cast<int>(accepted);
  switch (errno) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      errno = EAGAIN;
      break;
    case ECONNABORTED:  // of the connection, not of the listener: as accept(2) says
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETUNREACH:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EPERM:
    case EPROTO:
    case ETIMEDOUT:
      errno = EINTR;
      break;
    default:
      break;
  }
  return -1;
}

namespace kdn {

void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace kdn
