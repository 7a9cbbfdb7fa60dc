#include "server/wiring/daemon.h"

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "config/load.h"
#include "kdn/v1/admin.grpc.pb.h"
#include "kernels/base/status.h"
#include "server/wiring/build_info.h"
#include "server/wiring/notify.h"
#include "server/wiring/store_options.h"

namespace kdn {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

class DaemonTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = StrCat(::testing::TempDir(), "kdnd.", getpid(), ".",
                     ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  config::Config NewConfig() {
    config::Config config;
    config.server.listen.port = 0;
    config.metrics.listen.port = 0;
    config.storage.path = folder_ + "/data";
    config.storage.reserve_bytes = 0;
    return config;
  }

  // A kdnd of its own process, with a datagram socket that takes its notifications.
  struct Process {
    pid_t pid = 0;
    int notify_fd = -1;
  };
  Process StartProcess(std::vector<std::string> arguments) {
    Process process;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = StrCat("kdnd-test-", getpid());  // abstract: begins with a zero byte
    std::memcpy(address.sun_path + 1, name.data(), name.size());
    process.notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(bind(process.notify_fd, reinterpret_cast<const sockaddr*>(&address),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())),
              0);
    arguments.insert(arguments.begin(), KDND_PATH);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    process.pid = fork();
    if (process.pid == 0) {
      setenv("NOTIFY_SOCKET", ("@" + name).c_str(), 1);
      const int log = open((folder_ + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      dup2(log, STDOUT_FILENO);
      dup2(log, STDERR_FILENO);
      execv(argv[0], argv.data());
      _exit(127);
    }
    return process;
  }
  std::vector<std::string> Arguments() {
    return {"--server.listen=127.0.0.1:0",
            "--metrics.listen=127.0.0.1:0",
            "--storage.reserve=0",
            "--storage.path=" + folder_ + "/data",
            "--ready-file",
            folder_ + "/ready"};
  }
  // The next notification; waits for it.
  static std::string Notification(const Process& process) {
    char buffer[256];
    const ssize_t size = recv(process.notify_fd, buffer, sizeof(buffer), 0);
    return size < 0 ? std::string(std::strerror(errno)) : std::string(buffer, static_cast<size_t>(size));
  }
  static int ExitCode(const Process& process) {
    int status = 0;
    EXPECT_EQ(waitpid(process.pid, &status, 0), process.pid);
    close(process.notify_fd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  std::string folder_;
};

TEST_F(DaemonTest, ServesOnThePortsItReports) {
  absl::StatusOr<std::unique_ptr<Daemon>> daemon = Daemon::Start(NewConfig());
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  const auto stub =
      v1::Admin::NewStub(grpc::CreateChannel((*daemon)->listen_address(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  v1::StatusResponse response;
  const grpc::Status status = stub->Status(&context, {}, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.version(), ThisBuild().version);
  EXPECT_EQ(response.listen(), (*daemon)->listen_address());
  EXPECT_EQ(response.metrics_listen(), (*daemon)->metrics_address());
  EXPECT_EQ(response.data_path(), folder_ + "/data");
  EXPECT_EQ(response.values(), "segments");
  EXPECT_EQ(response.sync(), "batch");
  EXPECT_TRUE((*daemon)->Stop().ok());
  EXPECT_TRUE((*daemon)->Stop().ok());
}

TEST_F(DaemonTest, MetricsCanBeOff) {
  config::Config config = NewConfig();
  config.metrics.listen = {};
  absl::StatusOr<std::unique_ptr<Daemon>> daemon = Daemon::Start(config);
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  EXPECT_EQ((*daemon)->metrics_address(), "");
}

TEST_F(DaemonTest, ASecondDaemonOnTheSameDataNamesPathAndProcess) {
  absl::StatusOr<std::unique_ptr<Daemon>> first = Daemon::Start(NewConfig());
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::Status second = Daemon::Start(NewConfig()).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(FromAbsl(second.message()).find(folder_ + "/data"), std::string_view::npos) << second;
  EXPECT_NE(FromAbsl(second.message()).find(std::to_string(getpid())), std::string_view::npos) << second;
}

TEST_F(DaemonTest, ListenersBeyondTheLoopbackWantAuthentication) {
  config::Sources sources;
  sources.flags = {{"server.listen", "0.0.0.0:9460", "--server.listen"}};
  const absl::Status status = config::LoadConfig(sources).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(FromAbsl(status.message()).find("auth.mode"), std::string_view::npos) << status;
}

TEST_F(DaemonTest, TranslatesTheConfiguration) {
  config::Config config = NewConfig();
  config.tls.mode = config::TlsMode::kMutual;
  config.auth.mode = config::AuthMode::kMutualTls;
  config.tenants.default_tenant = "ops";
  config.memory.per_call_bytes = 5;
  config.limits.max_container_bytes = 6;
  config.server.default_deadline = std::chrono::milliseconds(7);
  const RpcServerOptions rpc = MakeRpcOptions(config);
  EXPECT_EQ(rpc.security, TransportSecurity::kMutualTls);
  EXPECT_EQ(rpc.auth.mode, Authenticator::Mode::kCertificate);
  EXPECT_EQ(rpc.auth.default_tenant, "ops");
  EXPECT_EQ(rpc.limits.per_call_bytes, 5u);
  EXPECT_EQ(rpc.limits.default_deadline, absl::Milliseconds(7));
  EXPECT_GT(rpc.facts.config.size(), 30u);
  config.storage.values = config::ValuesKind::kRocksDb;
  config.storage.sync = config::SyncMode::kAlways;
  config.storage.ttl = std::chrono::seconds(2);
  const ChunkStoreOptions store = MakeStoreOptions(config);
  EXPECT_EQ(store.values, ValuesKind::kRocksDb);
  EXPECT_EQ(store.sync, SyncMode::kAlways);
  EXPECT_EQ(store.ttl_ms, 2000u);
  EXPECT_EQ(store.max_container_bytes, 6u);
}

TEST_F(DaemonTest, TheProcessTellsWhenItIsReadyAndStopsOnSigterm) {
  const Process process = StartProcess(Arguments());
  ASSERT_EQ(Notification(process), "READY=1");
  const std::string ready = ReadFile(folder_ + "/ready");
  EXPECT_EQ(ready.find("listen=127.0.0.1:"), 0u) << ready;
  EXPECT_NE(ready.find("\nmetrics=127.0.0.1:"), std::string::npos) << ready;
  kill(process.pid, SIGTERM);
  EXPECT_EQ(Notification(process), "STOPPING=1");
  EXPECT_EQ(ExitCode(process), 0) << ReadFile(folder_ + "/log");
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/ready"));
  const std::string log = ReadFile(folder_ + "/log");
  EXPECT_NE(log.find("\"event\":\"serving\""), std::string::npos) << log;
  EXPECT_NE(log.find("\"event\":\"stopped\""), std::string::npos) << log;
}

TEST_F(DaemonTest, TheProcessRefusesWrongArgumentsWithTwoAndFailuresWithOne) {
  const Process wrong = StartProcess({"--server.lisen=127.0.0.1:0"});
  EXPECT_EQ(ExitCode(wrong), 2);
  EXPECT_NE(ReadFile(folder_ + "/log").find("did you mean"), std::string::npos);
  const Process no_path = StartProcess({"--ready-file"});
  EXPECT_EQ(ExitCode(no_path), 2);
  std::ofstream(folder_ + "/file") << "in the way";
  std::vector<std::string> arguments = Arguments();
  arguments.push_back("--storage.path=" + folder_ + "/file");
  const Process failing = StartProcess(arguments);
  EXPECT_EQ(ExitCode(failing), 1);
  EXPECT_NE(ReadFile(folder_ + "/log").find(folder_ + "/file"), std::string::npos);
}

TEST_F(DaemonTest, CheckingTheConfigurationReadsTheFilesItNames) {
  std::vector<std::string> arguments = Arguments();
  arguments.push_back("--auth.mode=token");
  arguments.push_back("--auth.tokens_file=" + folder_ + "/tokens");
  arguments.push_back("--check-config");
  EXPECT_EQ(ExitCode(StartProcess(arguments)), 2);
  EXPECT_NE(ReadFile(folder_ + "/log").find("auth.tokens_file " + folder_ + "/tokens cannot be opened"),
            std::string::npos)
      << ReadFile(folder_ + "/log");
  std::ofstream(folder_ + "/tokens") << "# none yet\n";
  EXPECT_EQ(ExitCode(StartProcess(arguments)), 0);
  EXPECT_NE(ReadFile(folder_ + "/log").find("configuration is valid"), std::string::npos);
}

TEST_F(DaemonTest, ASocketAndTheDataAreTheUsersOwn) {
  std::vector<std::string> arguments = Arguments();
  arguments[0] = "--server.listen=unix:" + folder_ + "/kdn.sock";
  const Process process = StartProcess(arguments);
  ASSERT_EQ(Notification(process), "READY=1") << ReadFile(folder_ + "/log");
  constexpr auto kOthers = std::filesystem::perms::group_all | std::filesystem::perms::others_all;
  for (const char* name : {"/kdn.sock", "/data", "/data/segments", "/data/index"}) {
    EXPECT_EQ(std::filesystem::status(folder_ + name).permissions() & kOthers, std::filesystem::perms::none) << name;
  }
  EXPECT_EQ(ReadFile(folder_ + "/ready").find("listen=unix:" + folder_ + "/kdn.sock\n"), 0u);
  kill(process.pid, SIGTERM);
  EXPECT_EQ(ExitCode(process), 0) << ReadFile(folder_ + "/log");
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/kdn.sock"));
}

TEST(NotifyTest, NothingIsSentWithoutASocket) {
  EXPECT_TRUE(NotifySystemd("", "READY=1").ok());
  EXPECT_EQ(NotifySystemd("/nowhere/socket", "READY=1").code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(NotifySystemd(std::string(200, 'x'), "READY=1").code(), absl::StatusCode::kInvalidArgument);
}

TEST(NotifyTest, AFileThatCannotBeWrittenIsAnError) {
  EXPECT_EQ(WriteFileAtomically("/nowhere/file", "x").code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace kdn
