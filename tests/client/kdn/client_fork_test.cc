#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/kdn/client.h"
#include "tests/client/kdn/fake_server.h"
#include "tests/client/kdn/test_kv.h"

// A program of its own: gRPC must not have run in the process that forks.

namespace kdn {
namespace {

using testing::FakeServer;
using testing::MakeSpec;

constexpr uint32_t kChunk = 32;

TEST(ClientForkTest, AChildOfAProcessThatNeverCalledOpensItsOwn) {
  // The server is another process: gRPC must not have run in the one that forks.
  int channel[2];
  ASSERT_EQ(pipe(channel), 0);
  int stop[2];
  ASSERT_EQ(pipe(stop), 0);
  const pid_t server = fork();
  if (server == 0) {
    FakeServer fake;
    static_cast<void>(!write(channel[1], fake.endpoint().c_str(), fake.endpoint().size() + 1));
    char byte;
    close(stop[1]);
    static_cast<void>(!read(stop[0], &byte, 1));
    _exit(0);
  }
  char endpoint[64] = {};
  ASSERT_GT(read(channel[0], endpoint, sizeof(endpoint) - 1), 0);
  ClientOptions options;
  options.endpoint = endpoint;
  options.dead_after_ms = 10'000;
  const auto unused = *Client::Connect(options);
  const pid_t child = fork();
  if (child == 0) {
    const auto client = *Client::Connect(options);
    _exit(client->RegisterModel(MakeSpec({}), kChunk, "").ok() ? 0 : 1);
  }
  int state = 0;
  ASSERT_EQ(waitpid(child, &state, 0), child);
  EXPECT_TRUE(WIFEXITED(state) && WEXITSTATUS(state) == 0) << state;
  EXPECT_TRUE(unused->RegisterModel(MakeSpec({}), kChunk, "").ok());
  close(stop[0]);
  close(stop[1]);
  waitpid(server, &state, 0);
}

}  // namespace
}  // namespace kdn
