#ifndef KDN_CLIENT_TRANSPORT_GRPC_OPTIONS_H_
#define KDN_CLIENT_TRANSPORT_GRPC_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace kdn {

struct TlsOptions {
  std::string ca_file;      // PEM of the authorities to trust; empty = the system's
  std::string cert_file;    // PEM of the client's certificate chain; with key_file: mTLS
  std::string key_file;     // PEM of its key
  std::string server_name;  // name to expect in the server's certificate where it is not the host of the endpoint
};

inline constexpr uint32_t kMaxChannels = 8;

// How the message of a call begins that found no connection.
inline constexpr std::string_view kCannotConnect = "cannot connect to ";

// When a connection is refused: keep trying for dead_after_ms, as a server that restarts is worth it; or say so at
// once, as to a person.
enum class OnRefusal { kTryAgain, kFail };

struct GrpcTransportOptions {
  std::string endpoint;  // "host:port" or "unix:/path"
  int64_t dead_after_ms = 250;
  OnRefusal on_refusal = OnRefusal::kTryAgain;
  uint32_t channels = 1;
  std::optional<TlsOptions> tls;
  std::string token;
};

// Whether `endpoint` cannot leave this machine: unix:, localhost, 127.0.0.0/8, ::1.
bool IsLocalEndpoint(std::string_view endpoint);

// OK, or InvalidArgument naming what is wrong: endpoint without port, counts or times out of range, a key without
// certificate, a token that would travel in plaintext to another machine.
absl::Status ValidateGrpcTransportOptions(const GrpcTransportOptions& options);

}  // namespace kdn

#endif  // KDN_CLIENT_TRANSPORT_GRPC_OPTIONS_H_
