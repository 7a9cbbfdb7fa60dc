#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/server/rpc/rpc_fixture.h"
#include "tests/server/rpc/test_certificates.h"

namespace kdn::testing {
namespace {

std::string HashOf(std::string_view token) { return Sha256::Of(AsBytes(token)).ToHex(); }

class AccessTest : public RpcTest {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "access." + ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name, std::ios::trunc) << text;
    return folder_ + "/" + name;
  }
  RpcServerOptions TokenOptions() {
    RpcServerOptions options;
    options.auth = {Authenticator::Mode::kToken,
                    Write("tokens", "acme " + HashOf("acme-token") + "\nother " + HashOf("other-token") + "\nops " +
                                        HashOf("ops-token") + " operator\n"),
                    "default"};
    return options;
  }
  RpcServerOptions TlsOptions(TransportSecurity security) {
    RpcServerOptions options;
    options.security = security;
    options.cert_file = Write("server.crt", server_pair_.certificate_pem);
    options.key_file = Write("server.key", server_pair_.key_pem);
    options.client_ca_file = Write("ca.crt", authority_.certificate_pem());
    return options;
  }
  std::shared_ptr<grpc::ChannelCredentials> ClientCredentials(const TestPair* pair) const {
    grpc::SslCredentialsOptions ssl;
    ssl.pem_root_certs = authority_.certificate_pem();
    if (pair != nullptr) {
      ssl.pem_cert_chain = pair->certificate_pem;
      ssl.pem_private_key = pair->key_pem;
    }
    return grpc::SslCredentials(ssl);
  }

  static void Authorize(grpc::ClientContext& context, const std::string& token) {
    if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
  }
  grpc::StatusCode TryLookup(const std::string& token) {
    grpc::ClientContext context;
    SetDeadline(context);
    Authorize(context, token);
    v1::LookupRequest request;
    request.set_fingerprint(std::string(DigestOf("model").view()));
    v1::LookupResponse response;
    return kdn_->Lookup(&context, request, &response).error_code();
  }
  grpc::StatusCode TryFlush(const std::string& token) {
    grpc::ClientContext context;
    SetDeadline(context);
    Authorize(context, token);
    v1::FlushResponse response;
    return admin_->Flush(&context, {}, &response).error_code();
  }
  grpc::StatusCode TryStats(const std::string& token) {
    grpc::ClientContext context;
    SetDeadline(context);
    Authorize(context, token);
    v1::StatsResponse response;
    return admin_->Stats(&context, {}, &response).error_code();
  }
  grpc::StatusCode TryStore(const std::string& token, const Digest& digest) {
    grpc::ClientContext context;
    SetDeadline(context);
    Authorize(context, token);
    v1::StoreResponse response;
    return Store(context, Frames(0, digest, Pattern(10, 1)), &response).error_code();
  }
  Delivered TryRetrieve(const std::string& token, const Digest& digest) {
    grpc::ClientContext context;
    SetDeadline(context);
    Authorize(context, token);
    return Retrieve(context, Ask({digest}));
  }

  std::string folder_;
  TestAuthority authority_{"kdn test authority"};
  TestPair server_pair_ = authority_.Issue("kdn.test");
};

// As anybody can do who reaches the port.
TEST_F(AccessTest, ConnectionsBeyondTheDescriptorsDoNotEndTheService) {
  StartServer({});
  const grpc::StatusCode served = TryLookup("");
  ASSERT_NE(served, grpc::StatusCode::UNAVAILABLE);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit few = before;
  few.rlim_cur = 256;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  std::vector<int> sockets;
  for (int fd = 0; (fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) >= 0;) sockets.push_back(fd);
  EXPECT_EQ(errno, EMFILE);
  // The kernel completes the connections; the server has no descriptor for them.
  const std::string address = server_->address();
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (const int fd : sockets) connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(TryLookup(""), served);
  for (const int fd : sockets) close(fd);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  for (int i = 0; i < 3; ++i) {
    Connect(grpc::InsecureChannelCredentials());
    EXPECT_EQ(TryLookup(""), served) << "connection " << i;
  }
}

TEST_F(AccessTest, EveryMethodWantsAToken) {
  StartServer(TokenOptions());
  for (const std::string& token : {std::string(), std::string("wrong-token")}) {
    EXPECT_EQ(TryLookup(token), grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(TryFlush(token), grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(TryStore(token, DigestOf("a")), grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(TryRetrieve(token, DigestOf("a")).status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  }
  EXPECT_EQ(store_.size(), 0u);
  EXPECT_EQ(store_.retrieves, 0u);
}

TEST_F(AccessTest, TokensSeparateTenants) {
  StartServer(TokenOptions());
  const Digest digest = DigestOf("a");
  EXPECT_EQ(TryStore("acme-token", digest), grpc::StatusCode::OK);
  EXPECT_EQ(store_.Bytes("acme", digest).size(), 10u);
  const Delivered own = TryRetrieve("acme-token", digest);
  ASSERT_EQ(own.frames.size(), 1u);
  EXPECT_EQ(own.frames[0].data().size(), 10u);
  const Delivered foreign = TryRetrieve("other-token", digest);
  ASSERT_EQ(foreign.frames.size(), 1u);
  EXPECT_EQ(foreign.frames[0].miss(), v1::ABSENT);
}

TEST_F(AccessTest, WhatConcernsEveryTenantWantsAnOperator) {
  StartServer(TokenOptions());
  EXPECT_EQ(TryFlush("acme-token"), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(TryFlush("ops-token"), grpc::StatusCode::OK);
  // Its counts would tell one tenant when another stores or reads.
  EXPECT_EQ(TryStats("acme-token"), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(TryStats("ops-token"), grpc::StatusCode::OK);
}

TEST_F(AccessTest, NewTokensAreTakenWithoutARestart) {
  StartServer(TokenOptions());
  EXPECT_EQ(TryLookup("late-token"), grpc::StatusCode::UNAUTHENTICATED);
  Write("tokens", "acme " + HashOf("late-token") + "\n");
  ASSERT_TRUE(server_->ReloadTokens().ok());
  EXPECT_EQ(TryLookup("late-token"), grpc::StatusCode::OK);
  EXPECT_EQ(TryLookup("acme-token"), grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(AccessTest, TlsProtectsTheConnection) {
  StartServer(TlsOptions(TransportSecurity::kTls));
  EXPECT_EQ(TryLookup(""), grpc::StatusCode::UNAVAILABLE);  // the fixture connects in plain text
  Connect(ClientCredentials(nullptr));
  EXPECT_EQ(TryLookup(""), grpc::StatusCode::OK);
}

TEST_F(AccessTest, FailedHandshakesAreEventsOfTheLog) {
  ::testing::internal::CaptureStderr();
  StartServer(TlsOptions(TransportSecurity::kTls));
  EXPECT_EQ(TryFlush(""), grpc::StatusCode::UNAVAILABLE);
  server_->Stop(absl::ZeroDuration());
  std::istringstream log(::testing::internal::GetCapturedStderr());
  std::string line;
  int events = 0;
  while (std::getline(log, line)) {
    EXPECT_EQ(line.substr(0, 1), "{") << line;
    events += line.find("\"event\":\"grpc\"") != std::string::npos ? 1 : 0;
  }
  EXPECT_GT(events, 0);
}

TEST_F(AccessTest, MutualTlsTakesTheTenantFromTheCertificate) {
  RpcServerOptions options = TlsOptions(TransportSecurity::kMutualTls);
  options.auth.mode = Authenticator::Mode::kCertificate;
  options.auth.default_tenant = "ops";
  StartServer(options);
  Connect(ClientCredentials(nullptr));
  EXPECT_EQ(TryLookup(""), grpc::StatusCode::UNAVAILABLE);
  const TestAuthority stranger("somebody else");
  const TestPair forged = stranger.Issue("engine-7");
  Connect(ClientCredentials(&forged));
  EXPECT_EQ(TryLookup(""), grpc::StatusCode::UNAVAILABLE);

  const TestPair engine = authority_.Issue("engine-7");
  Connect(ClientCredentials(&engine));
  EXPECT_EQ(TryStore("", DigestOf("a")), grpc::StatusCode::OK);
  EXPECT_EQ(store_.Bytes("engine-7", DigestOf("a")).size(), 10u);
  EXPECT_EQ(TryFlush(""), grpc::StatusCode::PERMISSION_DENIED);
  const TestPair operators = authority_.Issue("ops");
  Connect(ClientCredentials(&operators));
  EXPECT_EQ(TryFlush(""), grpc::StatusCode::OK);
}

TEST_F(AccessTest, AKeyOfAnotherCertificateIsNamed) {
  RpcServerOptions options = TlsOptions(TransportSecurity::kTls);
  options.key_file = Write("other.key", authority_.Issue("kdn.test").key_pem);
  const absl::Status refused = CheckFiles(options);
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_EQ(FromAbsl(refused.message()),
            "tls.key " + options.key_file + " does not belong to tls.cert " + options.cert_file);
  EXPECT_TRUE(CheckFiles(TlsOptions(TransportSecurity::kMutualTls)).ok());
}

TEST_F(AccessTest, FilesThatCannotBeReadAreFoundBeforeServing) {
  RpcServerOptions options = TokenOptions();
  EXPECT_TRUE(CheckFiles(options).ok());
  options.auth.tokens_file = folder_ + "/absent";
  EXPECT_TRUE(absl::IsNotFound(CheckFiles(options)));
  RpcServerOptions tls = TlsOptions(TransportSecurity::kTls);
  tls.cert_file = Write("empty.crt", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n");
  EXPECT_TRUE(absl::IsInvalidArgument(CheckFiles(tls)));
}

TEST_F(AccessTest, AUnixSocketServesAndIsRemovedAtTheEnd) {
  RpcServerOptions options;
  options.unix_path = folder_ + "/kdn.sock";
  const mode_t mask = umask(077);
  StartServer(options);
  umask(mask);
  EXPECT_EQ(server_->address(), "unix:" + options.unix_path);
  EXPECT_EQ(std::filesystem::status(options.unix_path).permissions() & std::filesystem::perms::others_all,
            std::filesystem::perms::none);
  EXPECT_EQ(TryFlush(""), grpc::StatusCode::OK);
  server_->Stop(absl::ZeroDuration());
  EXPECT_FALSE(std::filesystem::exists(options.unix_path));
}

TEST_F(AccessTest, ASocketThatAServerLeftBehindIsReplaced) {
  RpcServerOptions options;
  options.unix_path = folder_ + "/kdn.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  options.unix_path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  close(fd);
  StartServer(options);
  EXPECT_EQ(TryFlush(""), grpc::StatusCode::OK);
  // While it serves, a second one is refused and does not take the socket away.
  const auto second = RpcServer::Start(options, store_, *metrics_);
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  EXPECT_EQ(TryFlush(""), grpc::StatusCode::OK);
}

TEST_F(AccessTest, AFileInTheSocketsPlaceIsLeftAlone) {
  RpcServerOptions options;
  options.unix_path = Write("kdn.sock", "precious");
  metrics_ = std::make_unique<Metrics>(NewMetricsRegistry(), BuildLabels{"1", "c", "x"});
  EXPECT_TRUE(absl::IsFailedPrecondition(RpcServer::Start(options, store_, *metrics_).status()));
  EXPECT_EQ(std::filesystem::file_size(options.unix_path), 8u);
}

TEST_F(AccessTest, BadCertificatesKeepTheServerFromStarting) {
  Metrics metrics(NewMetricsRegistry(), {});
  RpcServerOptions options = TlsOptions(TransportSecurity::kTls);
  options.key_file = folder_ + "/none";
  EXPECT_EQ(RpcServer::Start(options, store_, metrics).status().code(), absl::StatusCode::kNotFound);
  options.key_file = Write("nonsense", "no key");
  const absl::Status status = RpcServer::Start(options, store_, metrics).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(FromAbsl(status.message()).find("tls.key"), std::string_view::npos);
}

}  // namespace
}  // namespace kdn::testing
