#ifndef KDN_SERVER_RPC_KDN_SERVICE_H_
#define KDN_SERVER_RPC_KDN_SERVICE_H_

#include "kdn/v1/kdn.grpc.pb.h"
#include "server/rpc/environment.h"

namespace kdn {

using KdnObjectMethods =
    v1::Kdn::WithCallbackMethod_PutObject<v1::Kdn::WithCallbackMethod_GetObject<v1::Kdn::WithCallbackMethod_ListObjects<
        v1::Kdn::WithCallbackMethod_ActivateObject<v1::Kdn::WithCallbackMethod_DeleteObject<v1::Kdn::Service>>>>>;

// Retrieve and Store work on the bytes of messages (frames.h), the others on generated messages.
using KdnServiceBase = v1::Kdn::WithRawCallbackMethod_Retrieve<
    v1::Kdn::WithRawCallbackMethod_Store<v1::Kdn::WithCallbackMethod_RegisterModel<
        v1::Kdn::WithCallbackMethod_Lookup<v1::Kdn::WithCallbackMethod_FindMissing<
            v1::Kdn::WithCallbackMethod_StoreText<v1::Kdn::WithCallbackMethod_LookupText<KdnObjectMethods>>>>>>>;

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
  grpc::ServerReadReactor<v1::PutObjectFrame>* PutObject(grpc::CallbackServerContext* context,
                                                         v1::PutObjectResponse* response) override;
  grpc::ServerWriteReactor<v1::GetObjectFrame>* GetObject(grpc::CallbackServerContext* context,
                                                          const v1::GetObjectRequest* request) override;
  grpc::ServerUnaryReactor* ListObjects(grpc::CallbackServerContext* context, const v1::ListObjectsRequest* request,
                                        v1::ListObjectsResponse* response) override;
  grpc::ServerUnaryReactor* ActivateObject(grpc::CallbackServerContext* context,
                                           const v1::ActivateObjectRequest* request,
                                           v1::ActivateObjectResponse* response) override;
  grpc::ServerUnaryReactor* DeleteObject(grpc::CallbackServerContext* context, const v1::DeleteObjectRequest* request,
                                         v1::DeleteObjectResponse* response) override;

 private:
  const CallEnvironment& environment_;
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_KDN_SERVICE_H_
