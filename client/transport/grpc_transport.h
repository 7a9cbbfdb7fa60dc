#ifndef KDN_CLIENT_TRANSPORT_GRPC_TRANSPORT_H_
#define KDN_CLIENT_TRANSPORT_GRPC_TRANSPORT_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/transport/grpc_options.h"
#include "client/transport/server_watch.h"
#include "client/transport/transport.h"

namespace kdn {

// Transport over gRPC. gRPC itself is initialised by the first call. In a process that was forked from one where a call
// had been made, every call is Unavailable: gRPC cannot be used there. Bulk calls exchange grpc::ByteBuffers: payloads
// are referenced, never copied into messages.
class GrpcTransport : public Transport {
 public:
  // Reads the TLS files. InvalidArgument as ValidateGrpcTransportOptions, or for a file that cannot be read.
  static absl::StatusOr<std::unique_ptr<GrpcTransport>> Create(const GrpcTransportOptions& options, const Clock& clock);
  ~GrpcTransport() override = default;

  absl::Status Call(std::string_view method, const google::protobuf::MessageLite& request, const CallLimits& limits,
                    google::protobuf::MessageLite& response) override;
  absl::Status Retrieve(const v1::RetrieveRequest& request, const CallLimits& limits, RetrieveSink& sink) override;
  absl::Status Store(StoreSource& source, const CallLimits& limits, v1::StoreResponse& response) override;
  absl::Status PutObject(const v1::PutObjectBegin& begin, ByteSpan bytes, const CallLimits& limits,
                         v1::PutObjectResponse& response) override;
  absl::Status GetObject(const v1::GetObjectRequest& request, const CallLimits& limits,
                         std::vector<uint8_t>& bytes) override;
  void DropConnections() override;
  TransportStats stats() const override { return watch_.stats(); }

 private:
  struct TlsFiles {
    std::string ca, cert, key;
  };
  class ActiveCall;

  GrpcTransport(const GrpcTransportOptions& options, TlsFiles tls_files, const Clock& clock);

  std::shared_ptr<grpc::Channel> MakeChannel() const;
  // The channel whose turn it is, connected. Unavailable or DeadlineExceeded when that takes too long.
  absl::StatusOr<std::shared_ptr<grpc::Channel>> Connect(const CallLimits& limits);
  std::shared_ptr<grpc::Channel> NextChannel();
  enum class Attempt { kConnected, kRefused, kSilence };
  // Waits for a channel that has begun to connect; kRefused only as OnRefusal::kFail wants it.
  Attempt AwaitConnection(grpc::Channel& channel, int64_t timeout_ms) const;
  bool Probe(int64_t timeout_ms);
  // Status of a health check, for its message.
  absl::Status CheckHealth(int64_t timeout_ms);
  void PrepareContext(grpc::ClientContext& context, const CallLimits& limits) const;
  static absl::Status SendContainer(void* writer, const OutgoingContainer& container, uint32_t index, ActiveCall& call);

  const GrpcTransportOptions options_;
  const TlsFiles tls_files_;
  const Clock& clock_;

  absl::Mutex mutex_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_ ABSL_GUARDED_BY(mutex_);
  uint32_t next_channel_ ABSL_GUARDED_BY(mutex_) = 0;

  ServerWatch watch_;  // last: its thread uses the rest
};

}  // namespace kdn

#endif  // KDN_CLIENT_TRANSPORT_GRPC_TRANSPORT_H_
