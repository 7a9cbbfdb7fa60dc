#ifndef KDN_TESTS_CLIENT_KDN_FAKE_SERVER_H_
#define KDN_TESTS_CLIENT_KDN_FAKE_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "kdn/v1/admin.grpc.pb.h"
#include "kdn/v1/kdn.grpc.pb.h"
#include "kernels/format/container.h"
#include "kernels/layout/cell_map.h"

namespace kdn::testing {

// A server of the generated service, in this process, that keeps containers in memory: proves that the client's
// hand-framed messages are the protocol's. Its answers can be falsified.
class FakeServer final : public v1::Kdn::Service, public v1::Admin::Service {
 public:
  using Frames = std::vector<v1::RetrieveFrame>;

  // Listens on `address` ("127.0.0.1:0" = any port).
  explicit FakeServer(const std::string& address = "127.0.0.1:0");
  ~FakeServer() override;

  const std::string& endpoint() const { return endpoint_; }
  // Ends at once what is under way and frees the port.
  void Stop();

  struct Stored {
    std::string bytes;
    v1::StoreBegin begin;
  };

  // Replaces the frames of every Retrieve.
  void Falsify(std::function<void(Frames&)> falsify);
  // Runs before frame i of a Retrieve is sent; false breaks the stream off with UNAVAILABLE.
  void BeforeFrame(std::function<bool(size_t, grpc::ServerContext*)> hook);
  // Runs at the start of each Store, Lookup and FindMissing.
  void BeforeCall(std::function<void(const std::string& method)> hook);
  void FalsifyText(std::function<void(v1::LookupTextResponse&)> falsify);

  size_t num_chunks();
  std::vector<Stored> StoredOf(const std::string& digest);
  void Remove(const std::string& digest);
  uint64_t store_calls();

  grpc::Status RegisterModel(grpc::ServerContext*, const v1::RegisterModelRequest*,
                             v1::RegisterModelResponse*) override;
  grpc::Status Lookup(grpc::ServerContext*, const v1::LookupRequest*, v1::LookupResponse*) override;
  grpc::Status FindMissing(grpc::ServerContext*, const v1::FindMissingRequest*, v1::FindMissingResponse*) override;
  grpc::Status Store(grpc::ServerContext*, grpc::ServerReader<v1::StoreFrame>*, v1::StoreResponse*) override;
  grpc::Status Retrieve(grpc::ServerContext*, const v1::RetrieveRequest*,
                        grpc::ServerWriter<v1::RetrieveFrame>*) override;
  grpc::Status StoreText(grpc::ServerContext*, const v1::StoreTextRequest*, v1::StoreTextResponse*) override;
  grpc::Status LookupText(grpc::ServerContext*, const v1::LookupTextRequest*, v1::LookupTextResponse*) override;

  grpc::Status Status(grpc::ServerContext*, const v1::StatusRequest*, v1::StatusResponse*) override;
  grpc::Status ListChunks(grpc::ServerContext*, const v1::ListChunksRequest*, v1::ListChunksResponse*) override;
  // Pages of one.
  grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest*, v1::ListModelsResponse*) override;
  grpc::Status Delete(grpc::ServerContext*, const v1::DeleteRequest*, v1::DeleteResponse*) override;

 private:
  struct Model {
    ModelSpec spec;
    uint32_t chunk_tokens = 0;
  };
  Model ModelOf(const std::string& fingerprint);
  void Called(const std::string& method);
  // Cells of a chunk that are stored, with the least first row of each.
  std::map<uint32_t, uint32_t> CellsOf(const std::string& digest, const CellMap& map);
  Frames FramesOf(const v1::RetrieveRequest& request);

  absl::Mutex mutex_;
  std::map<std::string, Model> models_;
  std::map<std::string, std::vector<Stored>> chunks_;
  std::map<std::string, v1::StoreTextRequest> texts_;
  std::function<void(Frames&)> falsify_;
  std::function<void(v1::LookupTextResponse&)> falsify_text_;
  std::function<bool(size_t, grpc::ServerContext*)> before_frame_;
  std::function<void(const std::string&)> before_call_;
  uint64_t store_calls_ = 0;
  std::string endpoint_;
  std::unique_ptr<grpc::Server> server_;
};

// Holds every Retrieve before its frame `frame` until Open.
class FrameGate {
 public:
  FrameGate(FakeServer& server, size_t frame) {
    server.BeforeFrame([state = state_, frame](size_t i, grpc::ServerContext*) {
      if (i == frame) {
        state->reached.Notify();
        state->opened.WaitForNotification();
      }
      return true;
    });
  }

  void AwaitReached() { state_->reached.WaitForNotification(); }
  void Open() { state_->opened.Notify(); }

 private:
  struct State {
    absl::Notification reached;
    absl::Notification opened;
  };
  // Shared with the server's threads: one may still be waking up when the gate is gone.
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace kdn::testing

#endif  // KDN_TESTS_CLIENT_KDN_FAKE_SERVER_H_
