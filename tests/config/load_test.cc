#include "config/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "kernels/base/status.h"

namespace kdn::config {
namespace {

using testing::HasSubstr;

Sources FromFile(std::string text) {
  Sources sources;
  sources.file = FileSource{"f.yaml", std::move(text)};
  return sources;
}

Sources FromFlags(std::vector<std::pair<std::string, std::string>> settings) {
  Sources sources;
  for (auto& [key, text] : settings) sources.flags.push_back({key, text, "--" + key});
  return sources;
}

std::string LoadError(const Sources& sources) {
  const absl::StatusOr<Config> config = LoadConfig(sources);
  EXPECT_FALSE(config.ok());
  EXPECT_TRUE(config.ok() || absl::IsInvalidArgument(config.status()));
  return config.ok() ? "no error" : std::string(FromAbsl(config.status().message()));
}

TEST(LoadConfigTest, GivesTheDefaultsWithoutSources) {
  const absl::StatusOr<Config> config = LoadConfig({});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(*config, Config());
  EXPECT_EQ(ToString(config->OriginOf("server.listen")), "default");
}

TEST(LoadConfigTest, PrefersFlagsOverEnvironmentOverFileOverDefault) {
  Sources sources = FromFile("server:\n  threads: 1\n  keepalive: 1s\n  drain_timeout: 1s\n");
  sources.environment = {{"KDN_SERVER__THREADS", "2"}, {"KDN_SERVER__KEEPALIVE", "2s"}};
  sources.flags = {{"server.threads", "3", "--server.threads"}};
  const absl::StatusOr<Config> config = LoadConfig(sources);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->server.threads, 3);
  EXPECT_EQ(config->server.keepalive, std::chrono::seconds(2));
  EXPECT_EQ(config->server.drain_timeout, std::chrono::seconds(1));
  EXPECT_EQ(config->server.idle_timeout, std::chrono::minutes(10));
  EXPECT_EQ(ToString(config->OriginOf("server.threads")), "flag --server.threads");
  EXPECT_EQ(ToString(config->OriginOf("server.keepalive")), "env KDN_SERVER__KEEPALIVE");
  EXPECT_EQ(ToString(config->OriginOf("server.drain_timeout")), "f.yaml:4");
  EXPECT_EQ(ToString(config->OriginOf("server.idle_timeout")), "default");
}

TEST(LoadConfigTest, LetsALaterFlagOverrideAnEarlierOne) {
  const absl::StatusOr<Config> config = LoadConfig(FromFlags({{"log.level", "debug"}, {"log.level", "warn"}}));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->log.level, LogLevel::kWarn);
}

TEST(LoadConfigTest, ReportsAWrongValueEvenIfItIsOverridden) {
  Sources sources = FromFile("server:\n  threads: many\n");
  sources.flags = {{"server.threads", "3", "--server.threads"}};
  EXPECT_EQ(LoadError(sources),
            "invalid configuration:\n"
            "  f.yaml:2:12: server.threads: expected an integer such as 128, got \"many\"");
}

TEST(LoadConfigTest, ReportsTheProblemsOfAllSourcesTogether) {
  Sources sources = FromFile("server:\n  lisen: x\n  keepalive: 30\n");
  sources.environment = {{"KDN_STORAGE__SYNC", "sometimes"}, {"KDN_STORAGE__SINC", "none"}};
  sources.flags = {{"log.level", "loud", "--log.level"}, {"log.levle", "info", "--set log.levle"}};
  EXPECT_EQ(LoadError(sources),
            "invalid configuration, 6 errors:\n"
            "  f.yaml:2:3: unknown key \"server.lisen\", did you mean 'listen'?\n"
            "  f.yaml:3:14: server.keepalive: duration \"30\" needs a unit: ms, s, m, h or d\n"
            "  env KDN_STORAGE__SINC: unknown key, did you mean 'KDN_STORAGE__SYNC'?\n"
            "  env KDN_STORAGE__SYNC: storage.sync: expected one of always, batch, none, got \"sometimes\"\n"
            "  flag --log.level: log.level: expected one of debug, info, warn, error, got \"loud\"\n"
            "  flag --set log.levle: unknown key \"log.levle\", did you mean 'level'?");
}

TEST(LoadConfigTest, IgnoresVariablesThatAreNotKeys) {
  Sources sources;
  sources.environment = {{"KDN_DATA", "/data"},
                         {"KDN_PORT_9460_TCP_ADDR", "10.0.0.1"},  // as Kubernetes sets them for a service named kdn
                         {"PATH", "/bin"},
                         {"SERVER__LISTEN", "x"},
                         {"kdn_server__listen", "x"}};
  const absl::StatusOr<Config> config = LoadConfig(sources);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(*config, Config());
}

TEST(LoadConfigTest, RefusesAnEmptyVariable) {
  Sources sources;
  sources.environment = {{"KDN_SERVER__THREADS", ""}};
  EXPECT_THAT(LoadError(sources), HasSubstr("env KDN_SERVER__THREADS: server.threads: expected an integer"));
}

TEST(LoadConfigTest, TreatsQuotedAndPlainScalarsAlike) {
  const absl::StatusOr<Config> config =
      LoadConfig(FromFile("server: {threads: \"3\", reflection: 'true'}\nmetrics: {listen: \"\"}\n"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->server.threads, 3);
  EXPECT_TRUE(config->server.reflection);
  EXPECT_FALSE(config->metrics.listen.enabled());
}

TEST(CheckTogetherTest, RefusesRemoteListenerWithoutAuthentication) {
  EXPECT_EQ(LoadError(FromFile("server: {listen: \"0.0.0.0:9460\"}\n")),
            "invalid configuration:\n"
            "  server.listen \"0.0.0.0:9460\" (f.yaml:1) is reachable from other machines, but auth.mode \"none\" "
            "(default): set auth.mode to token or mtls, or server.listen to a loopback address such as "
            "127.0.0.1:9460");
}

TEST(CheckTogetherTest, RefusesRemoteListenerWithTlsButWithoutAuthentication) {
  EXPECT_THAT(LoadError(FromFlags({{"server.listen", "[::]:9460"},
                                   {"tls.mode", "mtls"},
                                   {"tls.cert", "c"},
                                   {"tls.key", "k"},
                                   {"tls.client_ca", "a"}})),
              HasSubstr("auth.mode \"none\""));
}

TEST(CheckTogetherTest, RefusesTokensInPlainTextOverTheNetwork) {
  EXPECT_THAT(
      LoadError(FromFlags({{"server.listen", "10.0.0.1:1"}, {"auth.mode", "token"}, {"auth.tokens_file", "t"}})),
      HasSubstr("auth.mode \"token\" (flag --auth.mode) would send tokens in plain text to server.listen"));
}

TEST(CheckTogetherTest, AcceptsTokensOnLoopbackWithoutTls) {
  EXPECT_TRUE(LoadConfig(FromFlags({{"auth.mode", "token"}, {"auth.tokens_file", "t"}})).ok());
}

TEST(CheckTogetherTest, AcceptsRemoteListenersThatAreProtected) {
  EXPECT_TRUE(LoadConfig(FromFlags({{"server.listen", "0.0.0.0:9460"},
                                    {"tls.mode", "tls"},
                                    {"tls.cert", "c"},
                                    {"tls.key", "k"},
                                    {"auth.mode", "token"},
                                    {"auth.tokens_file", "t"}}))
                  .ok());
  EXPECT_TRUE(LoadConfig(FromFlags({{"server.listen", "0.0.0.0:9460"},
                                    {"tls.mode", "mtls"},
                                    {"tls.cert", "c"},
                                    {"tls.key", "k"},
                                    {"tls.client_ca", "a"},
                                    {"auth.mode", "mtls"}}))
                  .ok());
}

TEST(CheckTogetherTest, RefusesRemoteMetricsUnlessAllowed) {
  EXPECT_THAT(LoadError(FromFlags({{"metrics.listen", "0.0.0.0:9461"}})),
              HasSubstr("metrics.allow_remote \"false\" (default): set metrics.allow_remote to true"));
  EXPECT_TRUE(LoadConfig(FromFlags({{"metrics.listen", "0.0.0.0:9461"}, {"metrics.allow_remote", "true"}})).ok());
}

TEST(CheckTogetherTest, RefusesOneAddressForBothListeners) {
  EXPECT_THAT(LoadError(FromFlags({{"metrics.listen", "127.0.0.1:9460"}})), HasSubstr("are the same address"));
  EXPECT_TRUE(LoadConfig(FromFlags({{"server.listen", "unix:/run/kdn.sock"}})).ok());
  EXPECT_FALSE(LoadConfig(FromFlags({{"metrics.listen", "unix:/run/kdn.sock"}})).ok());
  EXPECT_TRUE(LoadConfig(FromFlags({{"metrics.listen", "127.0.0.1:0"}, {"server.listen", "127.0.0.1:0"}})).ok());
}

TEST(CheckTogetherTest, RefusesTlsWithoutItsFiles) {
  const std::string error = LoadError(FromFlags({{"tls.mode", "mtls"}}));
  EXPECT_THAT(error, HasSubstr("3 errors"));
  EXPECT_THAT(error, HasSubstr("tls.mode \"mtls\" (flag --tls.mode) needs tls.cert"));
  EXPECT_THAT(error, HasSubstr("needs tls.key"));
  EXPECT_THAT(error, HasSubstr("needs tls.client_ca"));
  EXPECT_TRUE(LoadConfig(FromFlags({{"tls.mode", "tls"}, {"tls.cert", "c"}, {"tls.key", "k"}})).ok());
}

TEST(CheckTogetherTest, RefusesFilesThatWouldNotBeUsed) {
  const std::string error =
      LoadError(FromFlags({{"tls.cert", "c"}, {"tls.key", "k"}, {"tls.client_ca", "a"}, {"auth.tokens_file", "t"}}));
  EXPECT_THAT(error, HasSubstr("4 errors"));
  EXPECT_THAT(error, HasSubstr("tls.cert \"c\" (flag --tls.cert) has no effect with tls.mode \"off\" (default)"));
  EXPECT_THAT(error, HasSubstr("set auth.mode to token, or remove auth.tokens_file"));
}

TEST(CheckTogetherTest, RefusesCertificateAuthenticationWithoutClientCertificates) {
  EXPECT_THAT(LoadError(FromFlags({{"auth.mode", "mtls"}})),
              HasSubstr("tls.mode \"off\" (default): set tls.mode to mtls"));
  EXPECT_THAT(LoadError(FromFlags({{"auth.mode", "mtls"}, {"tls.mode", "tls"}, {"tls.cert", "c"}, {"tls.key", "k"}})),
              HasSubstr("needs client certificates"));
}

TEST(CheckTogetherTest, RefusesTokenAuthenticationWithoutTokens) {
  EXPECT_THAT(LoadError(FromFlags({{"auth.mode", "token"}})), HasSubstr("needs auth.tokens_file"));
}

TEST(CheckTogetherTest, RefusesSizesThatContradictEachOther) {
  EXPECT_THAT(LoadError(FromFlags({{"storage.low_watermark", "0.9"}})),
              HasSubstr("storage.low_watermark \"0.9\" (flag --storage.low_watermark) must be below"));
  EXPECT_THAT(LoadError(FromFlags({{"memory.per_call", "2GiB"}})),
              HasSubstr("must not exceed memory.inflight \"1GiB\""));
  EXPECT_THAT(LoadError(FromFlags({{"storage.capacity", "511MiB"}})), HasSubstr("is less than two segments"));
  EXPECT_TRUE(LoadConfig(FromFlags({{"storage.capacity", "512MiB"}})).ok());
  EXPECT_TRUE(LoadConfig(FromFlags({{"storage.capacity", "16MiB"}, {"storage.values", "rocksdb"}})).ok());
}

}  // namespace
}  // namespace kdn::config
