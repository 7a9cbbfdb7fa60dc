#include "server/metrics/metrics.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "kernels/base/status.h"

namespace kdn {
namespace {

// What GET /metrics on this port of the loopback answers, without the HTTP header.
std::string Scrape(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  const std::string request = "GET /metrics HTTP/1.0\r\n\r\n";
  EXPECT_EQ(send(fd, request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[4096];
  for (ssize_t n = 0; (n = recv(fd, buffer, sizeof(buffer), 0)) > 0;) answer.append(buffer, static_cast<size_t>(n));
  close(fd);
  const size_t body = answer.find("\r\n\r\n");
  EXPECT_NE(body, std::string::npos) << answer;
  return answer.substr(body + 4);
}

GaugeSources Sources() {
  GaugeSources sources;
  sources.tiers = [] {
    TierInfo disk;
    disk.tier = "disk";
    disk.chunks = 3;
    disk.bytes = 300;
    disk.capacity_bytes = 1000;
    return std::vector<TierInfo>{disk};
  };
  sources.objects = [] { return std::optional(GaugeSources::Objects{2, 77}); };
  sources.queue_depth = [] { return uint64_t{5}; };
  sources.memory_used_bytes = [] { return uint64_t{7}; };
  sources.memory_limit_bytes = 9;
  return sources;
}

// Something of everything.
void Exercise(Metrics& metrics) {
  metrics.OnLookup(4, 3, 1024, 768);
  metrics.OnHit("ram", 256, 1000);
  metrics.OnMiss(MissReason::kEvicted);
  metrics.OnStored(StoreOutcome::kStored, 256, 600, 1000);
  metrics.OnStored(StoreOutcome::kDeduplicated, 256, 600, 1000);
  metrics.OnStored(StoreOutcome::kKeptExisting, 256, 600, 1000);
  metrics.OnDivergence(2);
  metrics.OnStoreRejected("data_loss");
  metrics.OnEvicted("capacity", 8, 4000);
  metrics.OnReinserted(1, 500);
  metrics.OnProfileStored(ProfileId::kQ4, 600, 2400);
  metrics.OnProfileDelivered(ProfileId::kTransform, 300);
  metrics.OnObjectStored(77);
  metrics.OnObjectRead("delivered", 77);
  metrics.OnObjectRead("absent", 0);
  metrics.OnCorruption("values");
  metrics.OnCallStarted();
  metrics.OnCallFinished("Lookup", "OK", 0.001);
}

TEST(MetricsTest, CountsWhatHappens) {
  Metrics metrics(NewMetricsRegistry(), {"1.0", "abc", "gcc"});
  Exercise(metrics);
  const std::map<std::string, uint64_t> counters = metrics.Counters();
  EXPECT_EQ(counters.at("kdn_lookup_tokens_total"), 1024u);
  EXPECT_EQ(counters.at("kdn_lookup_hit_tokens_total"), 768u);
  EXPECT_EQ(counters.at("kdn_hit_chunks_total{tier=\"ram\"}"), 1u);
  EXPECT_EQ(counters.at("kdn_hit_bytes_total{tier=\"ram\"}"), 1000u);
  EXPECT_EQ(counters.at("kdn_hit_chunks_total{tier=\"disk\"}"), 0u);
  EXPECT_EQ(counters.at("kdn_miss_total{reason=\"evicted\"}"), 1u);
  EXPECT_EQ(counters.at("kdn_miss_total{reason=\"absent\"}"), 0u);
  EXPECT_EQ(counters.at("kdn_stored_chunks_total"), 1u);
  EXPECT_EQ(counters.at("kdn_stored_bytes_total"), 600u);
  EXPECT_EQ(counters.at("kdn_stored_raw_bytes_total"), 1000u);
  EXPECT_EQ(counters.at("kdn_dedup_bytes_total"), 600u);
  EXPECT_EQ(counters.at("kdn_profile_stored_bytes_total{profile=\"q4\"}"), 600u);
  EXPECT_EQ(counters.at("kdn_profile_stored_raw_bytes_total{profile=\"q4\"}"), 2400u);
  EXPECT_EQ(counters.at("kdn_profile_stored_chunks_total{profile=\"lossless\"}"), 0u);
  EXPECT_EQ(counters.at("kdn_profile_delivered_bytes_total{profile=\"transform\"}"), 300u);
  EXPECT_EQ(counters.at("kdn_object_puts_total"), 1u);
  EXPECT_EQ(counters.at("kdn_object_read_bytes_total"), 77u);
  EXPECT_EQ(counters.at("kdn_object_reads_total{outcome=\"absent\"}"), 1u);
  EXPECT_EQ(counters.at("kdn_object_reads_total{outcome=\"damaged\"}"), 0u);
  EXPECT_EQ(counters.at("kdn_divergence_total"), 1u);
  EXPECT_EQ(counters.at("kdn_divergent_cells_total"), 2u);
  EXPECT_EQ(counters.at("kdn_store_rejected_total{reason=\"data_loss\"}"), 1u);
  EXPECT_EQ(counters.at("kdn_evictions_total{reason=\"capacity\"}"), 8u);
  EXPECT_EQ(counters.at("kdn_evicted_bytes_total"), 4000u);
  EXPECT_EQ(counters.at("kdn_corruption_total{where=\"values\"}"), 1u);
  EXPECT_EQ(counters.at("kdn_rpc_requests_total{code=\"OK\",method=\"Lookup\"}"), 1u);
}

TEST(MetricsEndpointTest, ServesCountersAndGaugesThatPromtoolAccepts) {
  const auto registry = NewMetricsRegistry();
  Metrics metrics(registry, {"1.0", "abc", "gcc"});
  Exercise(metrics);
  const auto endpoint = MetricsEndpoint::Start("127.0.0.1:0", registry, Sources());
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  const std::string text = Scrape((*endpoint)->port());
  for (const char* line :
       {"kdn_build_info{commit=\"abc\",compiler=\"gcc\",version=\"1.0\"} 1", "kdn_tier_bytes{tier=\"disk\"} 300",
        "kdn_queue_depth{queue=\"workers\"} 5", "kdn_memory_inflight_bytes 7", "kdn_memory_inflight_limit_bytes 9",
        "kdn_rpc_inflight 0", "kdn_rpc_duration_seconds_count{method=\"Lookup\"} 1"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
  const std::string folder = ::testing::TempDir();
  const std::string input = StrCat(folder, "metrics.", getpid(), ".txt");
  const std::string output = input + ".out";
  std::ofstream(input, std::ios::binary) << text;
  const int code = std::system(StrCat("promtool check metrics < ", input, " > ", output, " 2>&1").c_str());
  std::ifstream said(output);
  EXPECT_TRUE(WIFEXITED(code) && WEXITSTATUS(code) == 0)
      << "promtool (Debian package prometheus): " << std::string(std::istreambuf_iterator<char>(said), {});
  std::remove(input.c_str());
  std::remove(output.c_str());
}

TEST(MetricsEndpointTest, APortInUseIsAnError) {
  const auto first = MetricsEndpoint::Start("127.0.0.1:0", NewMetricsRegistry(), Sources());
  ASSERT_TRUE(first.ok());
  const std::string taken = StrCat("127.0.0.1:", (*first)->port());
  const absl::Status status = MetricsEndpoint::Start(taken, NewMetricsRegistry(), Sources()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(FromAbsl(status.message()).find(taken), std::string_view::npos) << status;
}

}  // namespace
}  // namespace kdn
