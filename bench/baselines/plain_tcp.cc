// The plain baseline: a key-value store over TCP with nothing in it but the sockets. Values lie in the server's
// memory, the client takes them into a contiguous buffer. No checksum, no framing beyond a 16-byte request.
//
//   plain_tcp serve                     prints its port, serves until stdin closes
//   plain_tcp client PORT SERVER_PID    contender (see bench/common/contender.h)
//
// Modes: lockstep (one connection and thread per operation in flight, each waits for its answer) and pipelined (one
// connection, `in_flight` requests sent ahead).
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bench/baselines/tcp_socket.h"
#include "bench/common/contender.h"
#include "bench/common/measure.h"
#include "bench/common/pool.h"

namespace kdn::bench {
namespace {

constexpr uint64_t kServerSeed = 1;
constexpr uint64_t kClientSeed = 2;

void ServeConnection(TcpSocket socket, const Pool& pool) {
  Request request;
  while (socket.Receive(&request, sizeof(request))) {
    if (request.size == 0 || request.size > kPoolBytes) Fail("request of " + std::to_string(request.size) + " bytes");
    uint8_t* slot = pool.Slot(request.key, request.size);
    Reply reply{0};
    switch (request.operation) {
      case Request::kRetrieve:
        socket.Send(slot, request.size);
        break;
      case Request::kStore:
        if (!socket.Receive(slot, request.size)) Fail("the client closed before its value");
        socket.Send(&reply, sizeof(reply));
        break;
      case Request::kChecksum:
        reply.crc32c = Crc32c(slot, request.size);
        socket.Send(&reply, sizeof(reply));
        break;
      default:
        Fail("unknown operation " + std::to_string(request.operation));
    }
  }
}

int Serve() {
  Pool pool(kServerSeed);
  TcpListener listener;
  std::printf("%u\n", static_cast<unsigned>(listener.port()));
  std::fflush(stdout);
  std::thread([&] {
    for (;;) std::thread(ServeConnection, listener.Accept(), std::cref(pool)).detach();
  }).detach();
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  std::_Exit(0);
}

class PlainTcp : public Contender {
 public:
  explicit PlainTcp(uint16_t port) : port_(port) {}

  void Prepare(const Cell& cell) override {
    if (cell.mode != "lockstep" && cell.mode != "pipelined") Fail("plain_tcp has no mode " + cell.mode);
    if (cell.operation != "retrieve" && cell.operation != "store") Fail("plain_tcp has no " + cell.operation);
    while (connections_.size() < static_cast<size_t>(cell.in_flight)) {
      connections_.push_back(std::make_unique<TcpSocket>(TcpSocket::Connect(port_)));
    }
    Verify(cell.object_bytes);
  }

  uint64_t Run(const Cell& cell, Clock::time_point deadline) override {
    const bool retrieve = cell.operation == "retrieve";
    if (cell.mode == "pipelined") return retrieve ? RetrieveAhead(cell, deadline) : StoreAhead(cell, deadline);
    return RepeatUntil(deadline, cell.in_flight, [&](int worker) {
      TcpSocket& socket = *connections_[worker];
      retrieve ? Retrieve(socket, cell.object_bytes) : Store(socket, cell.object_bytes);
      return cell.object_bytes;
    });
  }

 private:
  void Ask(TcpSocket& socket, Request::Operation operation, uint64_t key, uint64_t size) {
    const Request request{operation, static_cast<uint32_t>(key), size};
    socket.Send(&request, sizeof(request));
  }

  void Take(TcpSocket& socket, void* data, uint64_t size) {
    if (!socket.Receive(data, size)) Fail("the server closed the connection");
  }

  void Retrieve(TcpSocket& socket, uint64_t size) {
    const uint64_t key = pool_.Next();
    Ask(socket, Request::kRetrieve, key, size);
    Take(socket, pool_.Slot(key, size), size);
  }

  void SendStore(TcpSocket& socket, uint64_t size) {
    const uint64_t key = pool_.Next();
    const Request request{Request::kStore, static_cast<uint32_t>(key), size};
    socket.Send(&request, sizeof(request), pool_.Slot(key, size), size);
  }

  void TakeAck(TcpSocket& socket) {
    Reply reply;
    Take(socket, &reply, sizeof(reply));
  }

  void Store(TcpSocket& socket, uint64_t size) {
    SendStore(socket, size);
    TakeAck(socket);
  }

  uint64_t RetrieveAhead(const Cell& cell, Clock::time_point deadline) {
    TcpSocket& socket = *connections_[0];
    uint64_t asked = 0;
    uint64_t taken = 0;
    const uint64_t first_key = pool_.Next();
    auto ask = [&] { Ask(socket, Request::kRetrieve, first_key + asked++, cell.object_bytes); };
    while (asked < static_cast<uint64_t>(cell.in_flight)) ask();
    while (taken < asked) {
      Take(socket, pool_.Slot(first_key + taken++, cell.object_bytes), cell.object_bytes);
      if (Clock::now() < deadline) ask();
    }
    return taken * cell.object_bytes;
  }

  uint64_t StoreAhead(const Cell& cell, Clock::time_point deadline) {
    TcpSocket& socket = *connections_[0];
    uint64_t sent = 0;
    uint64_t acknowledged = 0;
    while (Clock::now() < deadline) {
      if (sent - acknowledged == static_cast<uint64_t>(cell.in_flight)) {
        TakeAck(socket);
        ++acknowledged;
      }
      SendStore(socket, cell.object_bytes);
      ++sent;
    }
    for (; acknowledged < sent; ++acknowledged) TakeAck(socket);
    return sent * cell.object_bytes;
  }

  // Stores one slot and takes one, and compares CRC32C at both ends.
  void Verify(uint64_t size) {
    TcpSocket& socket = *connections_[0];
    const uint64_t key = pool_.Next();
    uint8_t* slot = pool_.Slot(key, size);
    const uint32_t sent_crc = Crc32c(slot, size);
    const Request store{Request::kStore, static_cast<uint32_t>(key), size};
    socket.Send(&store, sizeof(store), slot, size);
    TakeAck(socket);
    if (Checksum(socket, key, size) != sent_crc) Fail("a stored value arrived changed");
    std::memset(slot, 0, size);
    Ask(socket, Request::kRetrieve, key, size);
    Take(socket, slot, size);
    if (Crc32c(slot, size) != sent_crc) Fail("a retrieved value arrived changed");
  }

  uint32_t Checksum(TcpSocket& socket, uint64_t key, uint64_t size) {
    Ask(socket, Request::kChecksum, key, size);
    Reply reply;
    Take(socket, &reply, sizeof(reply));
    return reply.crc32c;
  }

  uint16_t port_;
  Pool pool_{kClientSeed};
  std::vector<std::unique_ptr<TcpSocket>> connections_;
};

}  // namespace
}  // namespace kdn::bench

int main(int argc, char** argv) {
  using namespace kdn::bench;
  const std::string role = argc > 1 ? argv[1] : "";
  if (role == "serve" && argc == 2) return Serve();
  if (role == "client" && argc == 4) {
    PlainTcp contender(static_cast<uint16_t>(std::stoi(argv[2])));
    ServeCells(contender, std::stoi(argv[3]));
    return 0;
  }
  std::fprintf(stderr, "usage: plain_tcp serve | plain_tcp client PORT SERVER_PID\n");
  return 2;
}
