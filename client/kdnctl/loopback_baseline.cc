#include "client/kdnctl/loopback_baseline.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/base/status.h"

namespace kdn::ctl {
namespace {

constexpr int kSocketBufferBytes = 4 << 20;

class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }

  void Tune() const {
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd_, SOL_SOCKET, SO_SNDBUF, &kSocketBufferBytes, sizeof(kSocketBufferBytes));
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &kSocketBufferBytes, sizeof(kSocketBufferBytes));
  }
  // False when the other side has gone.
  bool SendAll(const uint8_t* data, size_t size) const {
    while (size > 0) {
      const ssize_t sent = send(fd_, data, size, MSG_NOSIGNAL);
      if (sent <= 0) return false;
      data += sent;
      size -= static_cast<size_t>(sent);
    }
    return true;
  }
  bool ReceiveAll(uint8_t* data, size_t size) const {
    while (size > 0) {
      const ssize_t got = recv(fd_, data, size, MSG_WAITALL);
      if (got <= 0) return false;
      data += got;
      size -= static_cast<size_t>(got);
    }
    return true;
  }

 private:
  int fd_;
};

absl::Status SystemError(const char* what) { return Internal("loopback baseline: ", what, ": ", std::strerror(errno)); }

class TcpLoopback final : public LoopbackBaseline {
 public:
  TcpLoopback(Socket server, Socket client, uint64_t value_bytes)
      : client_(std::move(client)), received_(value_bytes), server_([socket = std::move(server), value_bytes] {
          const std::vector<uint8_t> value(value_bytes, 0x5a);
          uint8_t request;
          while (socket.ReceiveAll(&request, 1) && socket.SendAll(value.data(), value.size())) {
          }
        }) {}
  ~TcpLoopback() override {
    shutdown(client_.fd(), SHUT_RDWR);
    server_.join();
  }
  absl::Status Fetch() override {
    const uint8_t request = 1;
    if (!client_.SendAll(&request, 1) || !client_.ReceiveAll(received_.data(), received_.size())) {
      return SystemError("transfer");
    }
    return absl::OkStatus();
  }

 private:
  Socket client_;
  std::vector<uint8_t> received_;
  std::thread server_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LoopbackBaseline>> LoopbackBaseline::Start(uint64_t value_bytes) {
  const Socket listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  listener.Tune();
  if (listener.fd() < 0 || bind(listener.fd(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      listen(listener.fd(), 1) != 0 ||
      getsockname(listener.fd(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return SystemError("listen");
  }
  Socket client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  client.Tune();
  if (connect(client.fd(), reinterpret_cast<sockaddr*>(&address), length) != 0) return SystemError("connect");
  Socket server(accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC));
  if (server.fd() < 0) return SystemError("accept");
  server.Tune();
  return std::make_unique<TcpLoopback>(std::move(server), std::move(client), value_bytes);
}

}  // namespace kdn::ctl
