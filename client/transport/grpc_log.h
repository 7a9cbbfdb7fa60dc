#ifndef KDN_CLIENT_TRANSPORT_GRPC_LOG_H_
#define KDN_CLIENT_TRANSPORT_GRPC_LOG_H_

namespace kdn {

// Keeps gRPC from writing failed TLS handshakes to standard error: the status of the call says as much. Process-wide,
// in place of a log function of gRPC that the process may have set itself.
void QuietenHandshakes();

}  // namespace kdn

#endif  // KDN_CLIENT_TRANSPORT_GRPC_LOG_H_
