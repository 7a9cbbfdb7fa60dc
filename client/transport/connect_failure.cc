#include "client/transport/connect_failure.h"

namespace kdn {
namespace {

struct Cause {
  std::string_view sign;  // part of gRPC's message
  std::string_view meaning;
};

// The first that fits.
constexpr Cause kCauses[] = {
    {"Connection refused", "connection refused"},
    {"No such file or directory", "there is no such socket"},
    {"Permission denied", "permission denied"},
    {"DNS resolution failed", "the name of the host is not known"},
    {"No route to host", "no route to the host"},
    {"Network is unreachable", "the network is unreachable"},
    {"CERTIFICATE_VERIFY_FAILED", "the server's certificate is not signed by an authority that is trusted here"},
    {"Hostname Verification Check failed", "the server's certificate is for another name"},
    {"Peer name", "the server's certificate is for another name"},
    {"WRONG_VERSION_NUMBER", "the server does not speak TLS"},
};

constexpr std::string_view kCutOff[] = {"Socket closed",  "Connection reset", "handshake failed",
                                        "SETTINGS frame", "Broken pipe",      "handshaker"};

bool Contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

}  // namespace

std::string DescribeConnectFailure(std::string_view message, LinkSecurity security) {
  for (const Cause& cause : kCauses) {
    if (Contains(message, cause.sign)) return std::string(cause.meaning);
  }
  for (const std::string_view sign : kCutOff) {
    if (!Contains(message, sign)) continue;
    return security == LinkSecurity::kPlaintext
               ? "the server ended the connection at once: it may want TLS"
               : "the TLS handshake failed: the server may speak no TLS, or want a client certificate";
  }
  return std::string(message);
}

}  // namespace kdn
