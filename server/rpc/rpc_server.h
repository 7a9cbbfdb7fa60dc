#ifndef KDN_SERVER_RPC_RPC_SERVER_H_
#define KDN_SERVER_RPC_RPC_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/rpc/environment.h"

namespace kdn {

enum class TransportSecurity { kPlaintext, kTls, kMutualTls };

struct RpcServerOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 0;      // 0 = a free one
  std::string unix_path;  // of a Unix socket to listen on instead; its mode follows the process's umask
  TransportSecurity security = TransportSecurity::kPlaintext;
  std::string cert_file;       // PEM, unless kPlaintext
  std::string key_file;        // PEM, unless kPlaintext
  std::string client_ca_file;  // PEM, kMutualTls
  Authenticator::Options auth;
  CallLimits limits;
  uint64_t inflight_bytes = uint64_t{1} << 30;
  int num_threads = 0;  // workers; 0 = max(kMinWorkers, 2 x cores)
  int max_streams_per_connection = 128;
  absl::Duration keepalive = absl::Seconds(30);     // zero = none
  absl::Duration idle_timeout = absl::Minutes(10);  // zero = none
  bool reflection = false;
  bool admin = true;
  DaemonFacts facts;
};

inline constexpr int kMinWorkers = 4;
// gRPC's own memory and threads, beside what MemoryBudget and WorkerPool count.
inline constexpr size_t kGrpcQuotaBytes = size_t{1} << 30;
inline constexpr int kGrpcMaxThreads = 256;
inline constexpr int kMaxReceivedMessageBytes = 4 << 20;

// Reads certificates, keys and tokens. InvalidArgument or NotFound name the file and what is wrong with it.
absl::Status CheckFiles(const RpcServerOptions& options);

// The gRPC server with its services, workers and budgets. Thread-safe.
class RpcServer {
 public:
  // Listens and serves from now on. `store` and `metrics` outlive the server. InvalidArgument or NotFound for
  // certificates and tokens that cannot be read; Unavailable, with the system's reason, when the address cannot be
  // listened on.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(const RpcServerOptions& options, ChunkStore& store,
                                                          Metrics& metrics);
  // Stops at once if Stop was not called.
  ~RpcServer();

  // "host:port" with the actual port, or "unix:/path".
  std::string address() const;
  // What Status tells of the metrics endpoint.
  void SetMetricsAddress(std::string address);
  absl::Status ReloadTokens();

  // Health turns NOT_SERVING, no new calls are taken, those in progress may finish for `timeout`, then they are
  // cancelled. Returns when all are over. Idempotent.
  void Stop(absl::Duration timeout);

  Lifecycle& lifecycle();
  uint64_t queue_depth() const;
  uint64_t memory_used_bytes() const;

 private:
  struct Impl;
  explicit RpcServer(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_RPC_SERVER_H_
