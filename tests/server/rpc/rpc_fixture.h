#ifndef KDN_TESTS_SERVER_RPC_RPC_FIXTURE_H_
#define KDN_TESTS_SERVER_RPC_RPC_FIXTURE_H_

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kdn/v1/admin.grpc.pb.h"
#include "kdn/v1/kdn.grpc.pb.h"
#include "kernels/base/crc32c.h"
#include "server/metrics/metrics.h"
#include "server/rpc/rpc_server.h"
#include "tests/server/rpc/memory_chunk_store.h"

namespace kdn::testing {

inline Digest DigestOf(std::string_view text) { return Sha256::Of(AsBytes(text)); }

// Bytes that differ from chunk to chunk and do not repeat within a frame.
inline std::vector<uint8_t> Pattern(size_t size, uint32_t seed) {
  std::vector<uint8_t> bytes(size);
  uint32_t state = seed * 2654435761U + 1;
  for (uint8_t& byte : bytes) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<uint8_t>(state >> 24);
  }
  return bytes;
}

// A call that must not hang the test for ever.
inline void SetDeadline(grpc::ClientContext& context, int seconds = 60) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(seconds));
}

// A real server on a free port of the loopback, over a store in memory, and a client made of generated code alone.
class RpcTest : public ::testing::Test {
 protected:
  void StartServer(const RpcServerOptions& options) {
    metrics_ = std::make_unique<Metrics>(NewMetricsRegistry(), BuildLabels{"1", "c", "x"});
    absl::StatusOr<std::unique_ptr<RpcServer>> server = RpcServer::Start(options, store_, *metrics_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    Connect(grpc::InsecureChannelCredentials());
  }
  void Connect(const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetSslTargetNameOverride("kdn.test");
    channel_ = grpc::CreateCustomChannel(server_->address(), credentials, arguments);
    kdn_ = v1::Kdn::NewStub(channel_);
    admin_ = v1::Admin::NewStub(channel_);
  }

  static v1::StoreFrame Frame(uint32_t chunk_index, uint64_t offset, ByteSpan data) {
    v1::StoreFrame frame;
    frame.set_chunk_index(chunk_index);
    frame.set_offset(offset);
    frame.set_crc32c(Crc32c(data));
    frame.set_data(data.data(), data.size());
    return frame;
  }
  static v1::StoreFrame FirstFrame(uint32_t chunk_index, const Digest& digest, uint64_t container_bytes,
                                   ByteSpan data) {
    v1::StoreFrame frame = Frame(chunk_index, 0, data);
    v1::StoreBegin& begin = *frame.mutable_begin();
    begin.set_fingerprint(std::string(DigestOf("model").view()));
    begin.set_chunk_digest(std::string(digest.view()));
    begin.set_container_bytes(container_bytes);
    begin.set_kind(1);
    return frame;
  }
  // The frames of a whole container.
  static std::vector<v1::StoreFrame> Frames(uint32_t chunk_index, const Digest& digest, ByteSpan container,
                                            size_t frame_bytes = 1 << 20) {
    std::vector<v1::StoreFrame> frames;
    for (size_t at = 0; at < container.size(); at += frame_bytes) {
      const ByteSpan data = container.subspan(at, std::min(frame_bytes, container.size() - at));
      frames.push_back(at == 0 ? FirstFrame(chunk_index, digest, container.size(), data)
                               : Frame(chunk_index, at, data));
    }
    return frames;
  }

  grpc::Status Store(const std::vector<v1::StoreFrame>& frames, v1::StoreResponse* response) {
    grpc::ClientContext context;
    SetDeadline(context);
    return Store(context, frames, response);
  }
  grpc::Status Store(grpc::ClientContext& context, const std::vector<v1::StoreFrame>& frames,
                     v1::StoreResponse* response) {
    const auto writer = kdn_->Store(&context, response);
    for (const v1::StoreFrame& frame : frames) {
      if (!writer->Write(frame)) break;
    }
    writer->WritesDone();
    return writer->Finish();
  }

  static v1::RetrieveRequest Ask(const std::vector<Digest>& digests) {
    v1::RetrieveRequest request;
    request.set_fingerprint(std::string(DigestOf("model").view()));
    for (const Digest& digest : digests) request.add_chunks()->set_chunk_digest(std::string(digest.view()));
    return request;
  }

  struct Delivered {
    grpc::Status status;
    std::vector<v1::RetrieveFrame> frames;
  };
  Delivered Retrieve(const v1::RetrieveRequest& request) {
    grpc::ClientContext context;
    SetDeadline(context);
    return Retrieve(context, request);
  }
  Delivered Retrieve(grpc::ClientContext& context, const v1::RetrieveRequest& request) {
    Delivered delivered;
    const auto reader = kdn_->Retrieve(&context, request);
    for (v1::RetrieveFrame frame; reader->Read(&frame);) delivered.frames.push_back(frame);
    delivered.status = reader->Finish();
    return delivered;
  }

  MemoryChunkStore store_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Kdn::Stub> kdn_;
  std::unique_ptr<v1::Admin::Stub> admin_;
};

}  // namespace kdn::testing

#endif  // KDN_TESTS_SERVER_RPC_RPC_FIXTURE_H_
