#ifndef KDN_BENCH_BASELINES_TCP_SOCKET_H_
#define KDN_BENCH_BASELINES_TCP_SOCKET_H_

#include <cstdint>

namespace kdn::bench {

// A request of the plain store. Both ends run on one machine, so the struct travels as it lies in memory.
struct Request {
  enum Operation : uint32_t {
    kRetrieve = 1,  // answer: `size` bytes
    kStore = 2,     // followed by `size` bytes; answer: Reply
    kChecksum = 3,  // answer: Reply with the CRC32C of the slot
  };
  uint32_t operation;
  uint32_t key;  // slot of the server's pool, modulo its slot count at `size`
  uint64_t size;
};

struct Reply {
  uint32_t crc32c;  // 0 after a store
};

// A connected TCP socket on the loopback device: no delay, fixed buffers. Calls block; failures end the program.
class TcpSocket {
 public:
  explicit TcpSocket(int fd) : fd_(fd) {}
  ~TcpSocket();
  TcpSocket(TcpSocket&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  TcpSocket& operator=(TcpSocket&&) = delete;

  static TcpSocket Connect(uint16_t port);

  // Sends `first` then `second` (which may be empty) as one gathered write.
  void Send(const void* first, uint64_t first_size, const void* second = nullptr, uint64_t second_size = 0);
  // Receives exactly `size` bytes. Returns false if the peer closed before the first.
  bool Receive(void* data, uint64_t size);

 private:
  int fd_;
};

// A listening socket on a free loopback port, with the same options.
class TcpListener {
 public:
  TcpListener();
  uint16_t port() const { return port_; }
  TcpSocket Accept();

 private:
  int fd_;
  uint16_t port_;
};

}  // namespace kdn::bench

#endif  // KDN_BENCH_BASELINES_TCP_SOCKET_H_
