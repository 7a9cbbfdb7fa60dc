#ifndef KDN_SERVER_RPC_GRPC_LOG_H_
#define KDN_SERVER_RPC_GRPC_LOG_H_

namespace kdn {

// From now on what gRPC logs goes to the daemon's log, as events of their own. Process-wide.
void RouteGrpcLog();

}  // namespace kdn

#endif  // KDN_SERVER_RPC_GRPC_LOG_H_
