#ifndef KDN_SERVER_RPC_KDN_SERVICE_H_
#define KDN_SERVER_RPC_KDN_SERVICE_H_

#include "kdn/v1/kdn.grpc.pb.h"
#include "server/rpc/environment.h"

namespace kdn {

// Retrieve and Store work on the bytes of messages (frames.h), the others on generated messages.
using KdnServiceBase = v1::Kdn::WithRawCallbackMethod_Retrieve<
    v1::Kdn::WithRawCallbackMethod_Store<v1::Kdn::WithCallbackMethod_RegisterModel<
        v1::Kdn::WithCallbackMethod_Lookup<v1::Kdn::WithCallbackMethod_FindMissing<
            v1::Kdn::WithCallbackMethod_StoreText<v1::Kdn::WithCallbackMethod_LookupText<v1::Kdn::Service>>>>>>>;

// The engine-facing service: reads messages, calls the store on a worker, writes messages. Thread-safe.
class KdnService final : public KdnServiceBase {
 public:
  // `environment` outlives the service.
  explicit KdnService(const CallEnvironment& environment) : environment_(environment) {}

  grpc::ServerUnaryReactor* RegisterModel(grpc::CallbackServerContext* context, const v1::RegisterModelRequest* request,
                                          v1::RegisterModelResponse* response) override;
  grpc::ServerUnaryReactor* Lookup(grpc::CallbackServerContext* context, const v1::LookupRequest* request,
                                   v1::LookupResponse* response) override;
  grpc::ServerUnaryReactor* FindMissing(grpc::CallbackServerContext* context, const v1::FindMissingRequest* request,
                                        v1::FindMissingResponse* response) override;
  grpc::ServerReadReactor<grpc::ByteBuffer>* Store(grpc::CallbackServerContext* context,
                                                   grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Retrieve(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* StoreText(grpc::CallbackServerContext* context, const v1::StoreTextRequest* request,
                                      v1::StoreTextResponse* response) override;
  grpc::ServerUnaryReactor* LookupText(grpc::CallbackServerContext* context, const v1::LookupTextRequest* request,
                                       v1::LookupTextResponse* response) override;

 private:
  const CallEnvironment& environment_;
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_KDN_SERVICE_H_
