#include "client/transport/grpc_options.h"

#include <charconv>

#include "kernels/base/status.h"

namespace kdn {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr int64_t kMaxDeadAfterMs = 60'000;
constexpr size_t kMaxTokenBytes = 8192;

// Host of "host:port" without brackets; empty when there is no valid port.
std::string_view HostOf(std::string_view endpoint) {
  const size_t colon = endpoint.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return {};
  const std::string_view port = endpoint.substr(colon + 1);
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc() || end != port.data() + port.size() || number == 0 || number > 65535) return {};
  std::string_view host = endpoint.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) return host.substr(1, host.size() - 2);
  return host.find(':') == std::string_view::npos ? host : std::string_view();
}

bool IsPrintableAscii(std::string_view text) {
  for (const char c : text) {
    if (c < 0x21 || c > 0x7e) return false;
  }
  return true;
}

}  // namespace

bool IsLocalEndpoint(std::string_view endpoint) {
  if (endpoint.starts_with(kUnixPrefix)) return true;
  const std::string_view host = HostOf(endpoint);
  if (host == "localhost" || host == "::1") return true;
  // 127.0.0.0/8 as four decimal numbers: "127.example.org" is a name.
  return host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string_view::npos;
}

absl::Status ValidateGrpcTransportOptions(const GrpcTransportOptions& options) {
  const std::string_view endpoint = options.endpoint;
  if (endpoint.starts_with(kUnixPrefix)) {
    if (endpoint.size() == kUnixPrefix.size()) return InvalidArgument("endpoint \"", endpoint, "\" names no path");
  } else if (HostOf(endpoint).empty()) {
    return InvalidArgument("endpoint \"", endpoint, "\" is neither host:port nor unix:/path");
  }
  if (options.dead_after_ms < 1 || options.dead_after_ms > kMaxDeadAfterMs) {
    return InvalidArgument("dead_after_ms is ", options.dead_after_ms, ", not in 1..", kMaxDeadAfterMs);
  }
  if (options.channels < 1 || options.channels > kMaxChannels) {
    return InvalidArgument("channels is ", options.channels, ", not in 1..", kMaxChannels);
  }
  if (options.tls.has_value() && options.tls->cert_file.empty() != options.tls->key_file.empty()) {
    return InvalidArgument("tls: cert_file and key_file go together, only one is set");
  }
  if (options.token.size() > kMaxTokenBytes || !IsPrintableAscii(options.token)) {
    return InvalidArgument("token: at most ", kMaxTokenBytes, " printable ASCII characters without blanks");
  }
  if (!options.token.empty() && !options.tls.has_value() && !IsLocalEndpoint(endpoint)) {
    return InvalidArgument("token: would travel in plaintext to ", endpoint, "; set tls");
  }
  return absl::OkStatus();
}

}  // namespace kdn
