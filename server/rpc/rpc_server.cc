#include "server/rpc/rpc_server.h"

#include <arpa/inet.h>
#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "kernels/base/log.h"
#include "kernels/base/status.h"
#include "server/rpc/accepting.h"
#include "server/rpc/admin_service.h"
#include "server/rpc/grpc_log.h"
#include "server/rpc/kdn_service.h"
#include "server/rpc/transport_credentials.h"
#include "server/rpc/unix_socket.h"

namespace kdn {
namespace {

constexpr int kHttp2FrameBytes = 1 << 20;
// Memory of containers kept for the next ones: a full RAM tier gives back about as much as it takes.
constexpr size_t kMaxIdleContainerBytes = size_t{256} << 20;
// What a stream may collect before it is written, when more is announced: a Retrieve's whole window.
constexpr int kWriteBufferBytes = 4 << 20;
constexpr int kMillisPerSecond = 1000;
// Pings that a client may send without data: as often as clients keep alive themselves.
constexpr int kMinClientPingMillis = 5 * kMillisPerSecond;

std::string HostPort(const std::string& host, int port) {
  const bool ipv6 = host.find(':') != std::string::npos;
  return ipv6 ? StrCat("[", host, "]:", port) : StrCat(host, ":", port);
}

std::string ListenAddress(const RpcServerOptions& options, int port) {
  return options.unix_path.empty() ? HostPort(options.host, port) : StrCat("unix:", options.unix_path);
}

int Millis(absl::Duration duration) { return static_cast<int>(absl::ToInt64Milliseconds(duration)); }

// The system's reason why this address cannot be bound, which gRPC does not pass on.
std::string BindFailure(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) return gai_strerror(error);
  std::string reason = "gRPC refused the address";
  const int fd = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, found->ai_protocol);
  const int on = 1;
  if (fd < 0) {
    reason = std::strerror(errno);
  } else {
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 1) != 0) reason = std::strerror(errno);
    close(fd);
  }
  freeaddrinfo(found);
  return reason;
}

void SetChannelArguments(const RpcServerOptions& options, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(kMaxReceivedMessageBytes);
  // KV is coded already, and gRPC 1.51 does not bound what a compressed message unpacks to.
  for (const grpc_compression_algorithm algorithm : {GRPC_COMPRESS_DEFLATE, GRPC_COMPRESS_GZIP}) {
    builder.SetCompressionAlgorithmSupportStatus(algorithm, false);
  }
  // A second daemon on the same port must fail, not share the connections.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, kHttp2FrameBytes);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_WRITE_BUFFER_SIZE, kWriteBufferBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_streams_per_connection);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinClientPingMillis);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  if (options.keepalive > absl::ZeroDuration()) {
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Millis(options.keepalive));
  }
  if (options.idle_timeout > absl::ZeroDuration()) {
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, Millis(options.idle_timeout));
  }
}

void LogTokens(const RpcServerOptions& options, const Authenticator& authenticator) {
  if (options.auth.mode != Authenticator::Mode::kToken) return;
  const uint64_t tokens = authenticator.num_tokens();
  Log(tokens == 0 ? LogLevel::kWarn : LogLevel::kInfo,
      tokens == 0 ? "the tokens file holds no token: every caller is refused" : "tokens read",
      {{"file", options.auth.tokens_file}, {"tokens", tokens}});
}

int NumWorkers(int configured) {
  if (configured > 0) return configured;
  return std::max(kMinWorkers, 2 * static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

// Destroyed from the last member to the first: the server before what its calls use.
struct RpcServer::Impl {
  Impl(const RpcServerOptions& options, ChunkStore& store, Metrics& metrics)
      : options(options),
        budget(options.inflight_bytes, timers),
        containers(kMaxIdleContainerBytes),
        pool(std::make_shared<WorkerPool>(static_cast<size_t>(NumWorkers(options.num_threads)))) {
    environment.store = &store;
    environment.metrics = &metrics;
    environment.lifecycle = &lifecycle;
    environment.timers = &timers;
    environment.budget = &budget;
    environment.containers = &containers;
    environment.pool = pool;
    environment.limits = options.limits;
  }

  const RpcServerOptions options;
  int port = 0;
  std::unique_ptr<Authenticator> authenticator;
  Lifecycle lifecycle;
  TimerQueue timers;
  MemoryBudget budget;
  BufferCache containers;
  std::shared_ptr<WorkerPool> pool;
  CallEnvironment environment;
  std::unique_ptr<KdnService> kdn;
  std::unique_ptr<AdminService> admin;
  std::unique_ptr<grpc::Server> server;
  std::once_flag stopped;
};

RpcServer::RpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

RpcServer::~RpcServer() { Stop(absl::ZeroDuration()); }

absl::Status CheckFiles(const RpcServerOptions& options) {
  KDN_RETURN_IF_ERROR(MakeCredentials(options).status());
  return Authenticator::Make(options.auth).status();
}

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(const RpcServerOptions& options, ChunkStore& store,
                                                            Metrics& metrics) {
  RaiseDescriptorLimit();
  auto impl = std::make_unique<Impl>(options, store, metrics);
  KDN_ASSIGN_OR_RETURN(impl->authenticator, Authenticator::Make(options.auth));
  LogTokens(options, *impl->authenticator);
  impl->environment.authenticator = impl->authenticator.get();
  KDN_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ServerCredentials> credentials, MakeCredentials(options));
  impl->kdn = std::make_unique<KdnService>(impl->environment);
  impl->admin = std::make_unique<AdminService>(impl->environment, options.facts);

  if (!options.unix_path.empty()) KDN_RETURN_IF_ERROR(MakeWayForSocket(options.unix_path));
  RouteGrpcLog();
  grpc::EnableDefaultHealthCheckService(true);
  if (options.reflection) {
    // Process-wide in gRPC: every server started from now on answers.
    static std::once_flag once;
    std::call_once(once, [] { grpc::reflection::InitProtoReflectionServerBuilderPlugin(); });
  }
  grpc::ServerBuilder builder;
  SetChannelArguments(options, builder);
  grpc::ResourceQuota quota("kdnd");
  quota.Resize(kGrpcQuotaBytes).SetMaxThreads(kGrpcMaxThreads);
  builder.SetResourceQuota(quota);
  builder.AddListeningPort(ListenAddress(options, options.port), credentials, &impl->port);
  builder.RegisterService(impl->kdn.get());
  if (options.admin) builder.RegisterService(impl->admin.get());
  impl->server = builder.BuildAndStart();
  if (impl->server == nullptr || impl->port == 0) {
    return Unavailable(
        "cannot listen on ", ListenAddress(options, options.port), ": ",
        options.unix_path.empty() ? BindFailure(options.host, options.port) : SocketBindFailure(options.unix_path));
  }
  impl->lifecycle.Listen([health = impl->server->GetHealthCheckService()](Lifecycle::State state) {
    health->SetServingStatus(state == Lifecycle::State::kServing);
    const bool serving = state == Lifecycle::State::kServing;
    health->SetServingStatus("kdn.v1.Kdn", serving);
    health->SetServingStatus("kdn.v1.Admin", state != Lifecycle::State::kStopping);
  });
  std::unique_ptr<RpcServer> server(new RpcServer(std::move(impl)));
  server->SetMetricsAddress("");
  return server;
}

std::string RpcServer::address() const { return ListenAddress(impl_->options, impl_->port); }

void RpcServer::SetMetricsAddress(std::string address) {
  impl_->admin->SetAddresses(this->address(), std::move(address));
}

absl::Status RpcServer::ReloadTokens() {
  KDN_RETURN_IF_ERROR(impl_->authenticator->Reload());
  LogTokens(impl_->options, *impl_->authenticator);
  return absl::OkStatus();
}

void RpcServer::Stop(absl::Duration timeout) {
  std::call_once(impl_->stopped, [this, timeout] {
    impl_->lifecycle.Change(Lifecycle::State::kStopping);
    impl_->lifecycle.Listen(nullptr);
    const absl::Time deadline = absl::Now() + timeout;
    // Before gRPC's own shutdown, which closes a connection as soon as its last call has been written to the socket:
    // what the client had not read by then would be lost. A connection without calls is closed once the client has
    // answered a ping, hence read everything.
    impl_->lifecycle.WaitForCalls(timeout);
    impl_->server->Shutdown(absl::ToChronoTime(deadline));
    impl_->server->Wait();
    impl_->pool->Shutdown();
    impl_->timers.Stop();  // one may still hold a call that it has just ended
  });
}

Lifecycle& RpcServer::lifecycle() { return impl_->lifecycle; }
uint64_t RpcServer::queue_depth() const { return impl_->pool->queued(); }
uint64_t RpcServer::memory_used_bytes() const { return impl_->budget.used_bytes(); }

}  // namespace kdn
