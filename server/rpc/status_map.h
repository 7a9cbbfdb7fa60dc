#ifndef KDN_SERVER_RPC_STATUS_MAP_H_
#define KDN_SERVER_RPC_STATUS_MAP_H_

#include <grpcpp/support/status.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace kdn {

// Bytes of an error message that go on the wire: trailers share HTTP/2's header limit.
inline constexpr size_t kMaxStatusMessageBytes = 1024;

// Canonical codes are the same on both sides; the message is cut to kMaxStatusMessageBytes.
grpc::Status ToGrpcStatus(const absl::Status& status);

// "OK", "INVALID_ARGUMENT", ...: the label of metrics.
std::string_view CodeName(int code);

}  // namespace kdn

#endif  // KDN_SERVER_RPC_STATUS_MAP_H_
