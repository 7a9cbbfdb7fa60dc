#include <grpcpp/impl/codegen/client_unary_call.h>

#include <string>
#include <thread>

#include "absl/synchronization/notification.h"
#include "tests/server/rpc/rpc_fixture.h"

namespace kdn::testing {
namespace {

class AdminTest : public RpcTest {
 protected:
  // Asks grpc.health.v1 in bytes: 1 is SERVING, 2 NOT_SERVING; 0 when it does not answer.
  int Health(const std::string& service) {
    grpc::ClientContext context;
    SetDeadline(context);
    std::string message;
    if (!service.empty()) message = std::string("\x0a") + static_cast<char>(service.size()) + service;
    const grpc::Slice slice(message);
    const grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    const grpc::internal::RpcMethod method("/grpc.health.v1.Health/Check", grpc::internal::RpcMethod::NORMAL_RPC,
                                           channel_);
    const grpc::Status status = grpc::internal::BlockingUnaryCall<grpc::ByteBuffer, grpc::ByteBuffer>(
        channel_.get(), method, &context, request, &response);
    grpc::Slice answer;
    if (!status.ok() || !response.DumpToSingleSlice(&answer).ok() || answer.size() != 2) return 0;
    return answer.begin()[1];
  }
  std::string Drain(bool undo) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::DrainRequest request;
    request.set_undo(undo);
    v1::DrainResponse response;
    EXPECT_TRUE(admin_->Drain(&context, request, &response).ok());
    return response.state();
  }
  v1::StatusResponse GetStatus() {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::StatusResponse response;
    EXPECT_TRUE(admin_->Status(&context, {}, &response).ok());
    return response;
  }
  template <typename Request, typename Response>
  grpc::Status Call(grpc::Status (v1::Admin::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext context;
    SetDeadline(context);
    return (admin_.get()->*method)(&context, request, response);
  }
};

TEST_F(AdminTest, HealthFollowsDrainAndItsUndoing) {
  StartServer({});
  for (const char* service : {"", "kdn.v1.Kdn", "kdn.v1.Admin"}) EXPECT_EQ(Health(service), 1) << service;
  EXPECT_EQ(Drain(false), "draining");
  EXPECT_EQ(Health(""), 2);
  EXPECT_EQ(Health("kdn.v1.Kdn"), 2);
  EXPECT_EQ(Health("kdn.v1.Admin"), 1);
  EXPECT_EQ(GetStatus().state(), "draining");
  EXPECT_EQ(Retrieve(Ask({DigestOf("a")})).status.error_code(), grpc::StatusCode::UNAVAILABLE);
  v1::StoreResponse stored;
  EXPECT_EQ(Store(Frames(0, DigestOf("a"), Pattern(10, 1)), &stored).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Drain(true), "serving");
  EXPECT_EQ(Health(""), 1);
  EXPECT_TRUE(Retrieve(Ask({DigestOf("a")})).status.ok());
}

TEST_F(AdminTest, StreamsInProgressFinishWhileTheServerDrainsAndStops) {
  StartServer({});
  store_.Put("default", DigestOf("a"), Pattern(32 << 20, 1));
  grpc::ClientContext context;
  SetDeadline(context);
  const auto reader = kdn_->Retrieve(&context, Ask({DigestOf("a"), DigestOf("a")}));
  v1::RetrieveFrame frame;
  ASSERT_TRUE(reader->Read(&frame));
  uint64_t bytes = frame.data().size();
  EXPECT_EQ(Drain(false), "draining");
  std::thread stopper([this] { server_->Stop(absl::Seconds(60)); });
  while (reader->Read(&frame)) bytes += frame.data().size();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(bytes, uint64_t{64} << 20);
  stopper.join();
}

TEST_F(AdminTest, StopCancelsWhatDoesNotFinishInTime) {
  StartServer({});
  grpc::ClientContext context;
  SetDeadline(context);
  v1::StoreResponse response;
  const auto writer = kdn_->Store(&context, &response);
  ASSERT_TRUE(writer->Write(FirstFrame(0, DigestOf("a"), 2000, Pattern(1000, 1))));
  server_->Stop(absl::Milliseconds(10));
  EXPECT_FALSE(writer->Finish().ok());
  EXPECT_EQ(store_.size(), 0u);
}

TEST_F(AdminTest, StatusTellsWhatRunsAndWhere) {
  RpcServerOptions options;
  options.facts.version = "1.2.3";
  options.facts.sync = "batch";
  options.facts.recovery = "index rebuilt";
  StartServer(options);
  server_->SetMetricsAddress("127.0.0.1:9");
  const v1::StatusResponse status = GetStatus();
  EXPECT_EQ(status.version(), "1.2.3");
  EXPECT_EQ(status.sync(), "batch");
  EXPECT_EQ(status.recovery(), "index rebuilt");
  EXPECT_EQ(status.state(), "serving");
  EXPECT_EQ(status.listen(), server_->address());
  EXPECT_EQ(status.metrics_listen(), "127.0.0.1:9");
  EXPECT_EQ(status.container_major(), 1u);
}

TEST_F(AdminTest, StatsCountsWhatTheMetricsCount) {
  StartServer({});
  v1::StoreResponse stored;
  v1::StoreFrame bad = Frames(0, DigestOf("a"), Pattern(10, 1))[0];
  bad.set_crc32c(bad.crc32c() + 1);
  ASSERT_TRUE(Store({bad}, &stored).ok());
  v1::StatsResponse stats;
  ASSERT_TRUE(Call(&v1::Admin::Stub::Stats, v1::StatsRequest(), &stats).ok());
  EXPECT_EQ(stats.counters().at("kdn_store_rejected_total{reason=\"data_loss\"}"), 1u);
  EXPECT_EQ(stats.tiers(0).tier(), "ram");
  EXPECT_GT(stats.rss_bytes(), 0u);
}

TEST_F(AdminTest, ListsInspectsPinsAndDeletesChunks) {
  StartServer({});
  const Digest digest = DigestOf("a");
  const std::string raw(digest.view());
  store_.Put("default", digest, Pattern(10, 1));
  v1::ListChunksResponse list;
  ASSERT_TRUE(Call(&v1::Admin::Stub::ListChunks, v1::ListChunksRequest(), &list).ok());
  ASSERT_EQ(list.chunks_size(), 1);
  EXPECT_EQ(list.chunks(0).stored_bytes(), 10u);
  v1::ListModelsResponse models;
  ASSERT_TRUE(Call(&v1::Admin::Stub::ListModels, v1::ListModelsRequest(), &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).chunk_tokens(), 100u);
  v1::ListModelsRequest next;
  next.set_page_token(models.next_page_token());
  next.set_limit(7);
  ASSERT_TRUE(Call(&v1::Admin::Stub::ListModels, next, &models).ok());
  EXPECT_EQ(models.models(0).chunk_tokens(), 7u);
  EXPECT_TRUE(models.next_page_token().empty());
  next.set_limit(1001);
  EXPECT_EQ(Call(&v1::Admin::Stub::ListModels, next, &models).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  v1::InspectChunkRequest inspect;
  inspect.set_chunk_digest(raw);
  inspect.set_verify(true);
  v1::InspectChunkResponse inspected;
  ASSERT_TRUE(Call(&v1::Admin::Stub::InspectChunk, inspect, &inspected).ok());
  EXPECT_EQ(inspected.verify_result(), "ok");
  v1::PinRequest pin;
  pin.set_chunk_digest(raw);
  v1::PinResponse pinned;
  EXPECT_TRUE(Call(&v1::Admin::Stub::Pin, pin, &pinned).ok());
  v1::DeleteRequest remove;
  v1::DeleteResponse removed;
  EXPECT_EQ(Call(&v1::Admin::Stub::Delete, remove, &removed).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  remove.set_chunk_digest(raw);
  remove.set_dry_run(true);
  ASSERT_TRUE(Call(&v1::Admin::Stub::Delete, remove, &removed).ok());
  EXPECT_EQ(store_.size(), 1u);
  remove.set_dry_run(false);
  ASSERT_TRUE(Call(&v1::Admin::Stub::Delete, remove, &removed).ok());
  EXPECT_EQ(removed.chunks(), 1u);
  EXPECT_EQ(store_.size(), 0u);
  EXPECT_EQ(Call(&v1::Admin::Stub::InspectChunk, inspect, &inspected).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(AdminTest, ProbesFlushesCompactsAndShowsTheConfiguration) {
  RpcServerOptions options;
  options.facts.config = {{"server.listen", "127.0.0.1:0", "flag --server.listen"}};
  StartServer(options);
  v1::ProbeResponse probe;
  ASSERT_TRUE(Call(&v1::Admin::Stub::Probe, v1::ProbeRequest(), &probe).ok());
  EXPECT_EQ(probe.values_micros(), 20u);
  v1::FlushResponse flush;
  EXPECT_TRUE(Call(&v1::Admin::Stub::Flush, v1::FlushRequest(), &flush).ok());
  v1::CompactResponse compact;
  ASSERT_TRUE(Call(&v1::Admin::Stub::Compact, v1::CompactRequest(), &compact).ok());
  EXPECT_EQ(compact.bytes_before(), 2u);
  v1::GetConfigResponse config;
  ASSERT_TRUE(Call(&v1::Admin::Stub::GetConfig, v1::GetConfigRequest(), &config).ok());
  ASSERT_EQ(config.entries_size(), 1);
  EXPECT_EQ(config.entries(0).origin(), "flag --server.listen");
}

TEST_F(AdminTest, AdminCanBeTurnedOff) {
  RpcServerOptions options;
  options.admin = false;
  StartServer(options);
  v1::StatusResponse response;
  EXPECT_EQ(Call(&v1::Admin::Stub::Status, v1::StatusRequest(), &response).error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(AdminTest, ASecondServerOnTheSamePortFailsClearly) {
  StartServer({});
  RpcServerOptions options;
  const std::string address = server_->address();
  options.port = static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
  Metrics metrics(NewMetricsRegistry(), {});
  const absl::Status status = RpcServer::Start(options, store_, metrics).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(FromAbsl(status.message()), StrCat("cannot listen on ", address, ": Address already in use"));
}

// A compressed message could unpack to any size.
TEST_F(AdminTest, CompressedMessagesAreRefused) {
  StartServer({});
  grpc::ClientContext context;
  SetDeadline(context);
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  v1::RegisterModelRequest request;
  request.set_canonical_spec(std::string(100000, 'x'));
  v1::RegisterModelResponse response;
  EXPECT_EQ(kdn_->RegisterModel(&context, request, &response).error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

// Unary calls of the engine's service: sizes are checked, results come back.
TEST_F(AdminTest, UnaryCallsCheckTheirFields) {
  RpcServerOptions options;
  options.limits.max_spec_bytes = 100;
  options.limits.max_chunks_per_call = 2;
  options.limits.max_text_tokens = 3;
  StartServer(options);
  const std::string digest(DigestOf("x").view());
  const auto expect_refused = [](const grpc::Status& status, const std::string& what) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_NE(status.error_message().find(what), std::string::npos) << status.error_message();
  };
  const auto call = [this](auto method, const auto& request, auto* response) {
    grpc::ClientContext context;
    SetDeadline(context);
    return (kdn_.get()->*method)(&context, request, response);
  };
  v1::RegisterModelRequest model;
  v1::RegisterModelResponse registered;
  model.set_canonical_spec(std::string(101, 'x'));
  expect_refused(call(&v1::Kdn::Stub::RegisterModel, model, &registered), "canonical_spec has 101 bytes, at most 100");
  model.set_canonical_spec("spec");
  model.set_display_name(std::string(257, 'x'));
  expect_refused(call(&v1::Kdn::Stub::RegisterModel, model, &registered), "display_name");
  model.clear_display_name();
  ASSERT_TRUE(call(&v1::Kdn::Stub::RegisterModel, model, &registered).ok());
  EXPECT_EQ(registered.fingerprint(), DigestOf("spec").view());

  v1::LookupRequest lookup;
  v1::LookupResponse found;
  expect_refused(call(&v1::Kdn::Stub::Lookup, lookup, &found), "fingerprint has 0 bytes");
  lookup.set_fingerprint(digest);
  for (int i = 0; i < 3; ++i) lookup.add_chunk_digests(digest);
  expect_refused(call(&v1::Kdn::Stub::Lookup, lookup, &found), "chunk_digests names 3 chunks, at most 2");
  lookup.mutable_chunk_digests()->RemoveLast();
  lookup.mutable_cells()->set_bitmap(std::string(5000, '\xff'));
  expect_refused(call(&v1::Kdn::Stub::Lookup, lookup, &found), "bitmap of 5000 bytes");
  lookup.clear_cells();
  lookup.set_mode(static_cast<v1::LookupRequest::Mode>(7));
  expect_refused(call(&v1::Kdn::Stub::Lookup, lookup, &found), "mode 7");
  lookup.set_mode(v1::LookupRequest::SEGMENTS);
  store_.Put("default", DigestOf("y"), Pattern(1, 1));
  lookup.set_chunk_digests(1, std::string(DigestOf("y").view()));
  ASSERT_TRUE(call(&v1::Kdn::Stub::Lookup, lookup, &found).ok());
  EXPECT_EQ(found.present(), std::string(1, '\x02'));

  v1::FindMissingRequest missing;
  v1::FindMissingResponse lacking;
  missing.set_fingerprint(digest);
  missing.add_chunks()->set_chunk_digest("short");
  expect_refused(call(&v1::Kdn::Stub::FindMissing, missing, &lacking), "chunks[0]: chunk_digest has 5 bytes");
  missing.mutable_chunks(0)->set_chunk_digest(digest);
  missing.add_chunks()->set_chunk_digest(std::string(DigestOf("y").view()));
  ASSERT_TRUE(call(&v1::Kdn::Stub::FindMissing, missing, &lacking).ok());
  EXPECT_EQ(lacking.missing(0).bitmap(), std::string(1, '\x07'));
  EXPECT_EQ(lacking.missing(1).bitmap(), "");

  v1::StoreTextRequest text;
  v1::StoreTextResponse stored;
  text.set_fingerprint(digest);
  text.set_text_digest(digest);
  for (uint32_t i = 0; i < 4; ++i) text.add_token_ids(i);
  expect_refused(call(&v1::Kdn::Stub::StoreText, text, &stored), "token_ids has 4 tokens, at most 3");
  text.mutable_token_ids()->RemoveLast();
  text.set_document(std::string(513, 'x'));
  expect_refused(call(&v1::Kdn::Stub::StoreText, text, &stored), "document has 513 bytes");
  text.clear_document();
  ASSERT_TRUE(call(&v1::Kdn::Stub::StoreText, text, &stored).ok());
  v1::LookupTextRequest ask;
  v1::LookupTextResponse answer;
  ask.set_fingerprint(digest);
  ask.set_text_digest(digest);
  ASSERT_TRUE(call(&v1::Kdn::Stub::LookupText, ask, &answer).ok());
  EXPECT_EQ(answer.token_ids_size(), 3);
  ask.set_text_digest(std::string(32, 'z'));
  EXPECT_EQ(call(&v1::Kdn::Stub::LookupText, ask, &answer).error_code(), grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace kdn::testing
