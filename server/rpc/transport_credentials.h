#ifndef KDN_SERVER_RPC_TRANSPORT_CREDENTIALS_H_
#define KDN_SERVER_RPC_TRANSPORT_CREDENTIALS_H_

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "absl/status/statusor.h"
#include "server/rpc/rpc_server.h"

namespace kdn {

inline constexpr size_t kMaxPemBytes = size_t{1} << 20;

// Reads the PEM files that `options` names. NotFound or InvalidArgument name the file and what is wrong with it.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeCredentials(const RpcServerOptions& options);

}  // namespace kdn

#endif  // KDN_SERVER_RPC_TRANSPORT_CREDENTIALS_H_
