#ifndef KDN_SERVER_WIRING_DAEMON_H_
#define KDN_SERVER_WIRING_DAEMON_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/config.h"
#include "server/rpc/rpc_server.h"

namespace kdn {

// Everything that a running daemon is made of, put together from its configuration. Thread-safe.
class Daemon {
 public:
  // Opens the store and serves. Errors name the key of the configuration that is concerned, where there is one.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const config::Config& config);
  // Stops at once if Stop was not called.
  ~Daemon();

  // "host:port" with actual ports; the second is empty when metrics are off.
  std::string listen_address() const;
  std::string metrics_address() const;

  // Reads the tokens file again; on an error the tokens stay.
  absl::Status Reload();

  // Refuses new calls, lets those in progress finish for the configured time, then flushes and closes the store. The
  // result is that of the store. Idempotent.
  absl::Status Stop();

 private:
  struct Impl;
  explicit Daemon(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

// Reads the files that the configuration names (certificates, keys, tokens) as Start would: OK, or what Start would
// say of them.
absl::Status CheckFiles(const config::Config& config);

// The translation of the configuration, apart for tests.
RpcServerOptions MakeRpcOptions(const config::Config& config);

}  // namespace kdn

#endif  // KDN_SERVER_WIRING_DAEMON_H_
