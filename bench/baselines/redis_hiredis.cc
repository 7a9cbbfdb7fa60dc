// Redis with hiredis, the usual pick for a KV-cache store: GET and SET of values that lie in a Redis 7 server with
// persistence off. GET copies the reply into the caller's buffer, which hiredis cannot fill itself.
//
//   redis_hiredis PORT SERVER_PID    contender (see bench/common/contender.h); mode: lockstep
#include <hiredis/hiredis.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bench/common/contender.h"
#include "bench/common/measure.h"
#include "bench/common/pool.h"

namespace kdn::bench {
namespace {

constexpr uint64_t kClientSeed = 3;

struct FreeContext {
  void operator()(redisContext* context) const { redisFree(context); }
};
using Connection = std::unique_ptr<redisContext, FreeContext>;

struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using ReplyPointer = std::unique_ptr<redisReply, FreeReply>;

class RedisHiredis : public Contender {
 public:
  explicit RedisHiredis(int port) : port_(port) {}

  void Prepare(const Cell& cell) override {
    if (cell.mode != "lockstep") Fail("redis_hiredis has no mode " + cell.mode);
    if (cell.operation != "retrieve" && cell.operation != "store") Fail("redis_hiredis has no " + cell.operation);
    while (connections_.size() < static_cast<size_t>(cell.in_flight)) connections_.push_back(Connect());
    Fill(cell.object_bytes);
  }

  uint64_t Run(const Cell& cell, Clock::time_point deadline) override {
    const bool retrieve = cell.operation == "retrieve";
    return RepeatUntil(deadline, cell.in_flight, [&](int worker) {
      const uint64_t slot = pool_.Next();
      retrieve ? Get(connections_[worker], slot, cell.object_bytes)
               : Set(connections_[worker], slot, cell.object_bytes);
      return cell.object_bytes;
    });
  }

 private:
  Connection Connect() {
    Connection connection(redisConnect("127.0.0.1", port_));
    if (!connection || connection->err != 0) {
      Fail(std::string("connecting to Redis: ") + (connection ? connection->errstr : "out of memory"));
    }
    return connection;
  }

  static std::string Key(uint64_t slot, uint64_t size) {
    return "kv:" + std::to_string(size) + ":" + std::to_string(slot % Pool::SlotCount(size));
  }

  ReplyPointer Command(const Connection& connection, const std::vector<std::pair<const void*, uint64_t>>& arguments) {
    std::vector<const char*> data;
    std::vector<size_t> sizes;
    for (const auto& [pointer, size] : arguments) {
      data.push_back(static_cast<const char*>(pointer));
      sizes.push_back(size);
    }
    ReplyPointer reply(static_cast<redisReply*>(
        redisCommandArgv(connection.get(), static_cast<int>(data.size()), data.data(), sizes.data())));
    if (!reply) Fail(std::string("Redis: ") + connection->errstr);
    if (reply->type == REDIS_REPLY_ERROR) Fail(std::string("Redis answered ") + reply->str);
    return reply;
  }

  void Set(const Connection& connection, uint64_t slot, uint64_t size) {
    const std::string key = Key(slot, size);
    Command(connection, {{"SET", 3}, {key.data(), key.size()}, {pool_.Slot(slot, size), size}});
  }

  void Get(const Connection& connection, uint64_t slot, uint64_t size) {
    const std::string key = Key(slot, size);
    const ReplyPointer reply = Command(connection, {{"GET", 3}, {key.data(), key.size()}});
    if (reply->type != REDIS_REPLY_STRING || static_cast<uint64_t>(reply->len) != size) {
      Fail("GET " + key + " did not return its value");
    }
    std::memcpy(pool_.Slot(slot, size), reply->str, size);
  }

  // Stores every slot at this size, then checks one by CRC32C.
  void Fill(uint64_t size) {
    if (filled_.contains(size)) return;
    for (uint64_t slot = 0; slot < Pool::SlotCount(size); ++slot) Set(connections_[0], slot, size);
    const uint64_t slot = Pool::SlotCount(size) - 1;
    const uint32_t sent_crc = Crc32c(pool_.Slot(slot, size), size);
    std::memset(pool_.Slot(slot, size), 0, size);
    Get(connections_[0], slot, size);
    if (Crc32c(pool_.Slot(slot, size), size) != sent_crc) Fail("a value came back changed");
    filled_.insert(size);
  }

  int port_;
  Pool pool_{kClientSeed};
  std::vector<Connection> connections_;
  std::set<uint64_t> filled_;
};

}  // namespace
}  // namespace kdn::bench

int main(int argc, char** argv) {
  using namespace kdn::bench;
  if (argc != 3) {
    std::fprintf(stderr, "usage: redis_hiredis PORT SERVER_PID\n");
    return 2;
  }
  RedisHiredis contender(std::stoi(argv[1]));
  ServeCells(contender, std::stoi(argv[2]));
  return 0;
}
