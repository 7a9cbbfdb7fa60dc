#ifndef KDN_SERVER_RPC_ADMIN_SERVICE_H_
#define KDN_SERVER_RPC_ADMIN_SERVICE_H_

#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "kdn/v1/admin.grpc.pb.h"
#include "server/rpc/environment.h"

namespace kdn {

// The operator's service. What concerns one tenant acts inside the caller's; Drain, Flush, Compact and GetConfig, which
// concern all, want an operator (authenticator.h). Thread-safe.
class AdminService final : public v1::Admin::CallbackService {
 public:
  // `environment` outlives the service.
  AdminService(const CallEnvironment& environment, DaemonFacts facts)
      : environment_(environment), facts_(std::move(facts)) {}

  // Addresses that Status tells; known only once the server listens.
  void SetAddresses(std::string listen, std::string metrics_listen);

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* context, const v1::StatusRequest* request,
                                   v1::StatusResponse* response) override;
  grpc::ServerUnaryReactor* Stats(grpc::CallbackServerContext* context, const v1::StatsRequest* request,
                                  v1::StatsResponse* response) override;
  grpc::ServerUnaryReactor* ListChunks(grpc::CallbackServerContext* context, const v1::ListChunksRequest* request,
                                       v1::ListChunksResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context, const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* InspectChunk(grpc::CallbackServerContext* context, const v1::InspectChunkRequest* request,
                                         v1::InspectChunkResponse* response) override;
  grpc::ServerUnaryReactor* Delete(grpc::CallbackServerContext* context, const v1::DeleteRequest* request,
                                   v1::DeleteResponse* response) override;
  grpc::ServerUnaryReactor* Pin(grpc::CallbackServerContext* context, const v1::PinRequest* request,
                                v1::PinResponse* response) override;
  grpc::ServerUnaryReactor* Flush(grpc::CallbackServerContext* context, const v1::FlushRequest* request,
                                  v1::FlushResponse* response) override;
  grpc::ServerUnaryReactor* Compact(grpc::CallbackServerContext* context, const v1::CompactRequest* request,
                                    v1::CompactResponse* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context, const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override;
  grpc::ServerUnaryReactor* Probe(grpc::CallbackServerContext* context, const v1::ProbeRequest* request,
                                  v1::ProbeResponse* response) override;
  grpc::ServerUnaryReactor* GetConfig(grpc::CallbackServerContext* context, const v1::GetConfigRequest* request,
                                      v1::GetConfigResponse* response) override;

 private:
  absl::Status FillStatus(v1::StatusResponse& response);
  absl::Status FillStats(v1::StatsResponse& response) const;

  const CallEnvironment& environment_;
  const DaemonFacts facts_;
  absl::Mutex mu_;
  std::string listen_ ABSL_GUARDED_BY(mu_);
  std::string metrics_listen_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_ADMIN_SERVICE_H_
