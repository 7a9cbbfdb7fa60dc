#include "client/transport/grpc_options.h"

#include <gtest/gtest.h>

namespace kdn {
namespace {

TEST(GrpcOptionsTest, KnowsWhatStaysOnTheMachine) {
  for (const char* endpoint : {"unix:/run/kdn.sock", "localhost:1", "127.0.0.1:9460", "127.9.9.9:1", "[::1]:80"}) {
    EXPECT_TRUE(IsLocalEndpoint(endpoint)) << endpoint;
  }
  for (const char* endpoint : {"10.0.0.1:1", "127.example.org:1", "kdn:9460", "[::2]:80", "localhost.evil:1"}) {
    EXPECT_FALSE(IsLocalEndpoint(endpoint)) << endpoint;
  }
}

TEST(GrpcOptionsTest, RefusesWhatIsNoEndpoint) {
  GrpcTransportOptions options;
  for (const char* endpoint : {"", "host", ":1", "host:", "host:0", "host:65536", "host:1x", "a:b:1", "unix:"}) {
    options.endpoint = endpoint;
    EXPECT_TRUE(absl::IsInvalidArgument(ValidateGrpcTransportOptions(options))) << endpoint;
  }
  options.endpoint = "[fe80::1]:9460";
  EXPECT_TRUE(ValidateGrpcTransportOptions(options).ok());
}

TEST(GrpcOptionsTest, RefusesTokensThatWouldLeakOrBreakTheHeader) {
  GrpcTransportOptions options;
  options.endpoint = "localhost:1";
  options.token = "abc";
  EXPECT_TRUE(ValidateGrpcTransportOptions(options).ok());
  options.token = "a\nb";
  EXPECT_FALSE(ValidateGrpcTransportOptions(options).ok());
  options.token = "abc";
  options.endpoint = "10.0.0.1:1";
  EXPECT_FALSE(ValidateGrpcTransportOptions(options).ok());
  options.tls.emplace();
  EXPECT_TRUE(ValidateGrpcTransportOptions(options).ok());
  options.tls->key_file = "k";
  EXPECT_FALSE(ValidateGrpcTransportOptions(options).ok());
}

}  // namespace
}  // namespace kdn
