#include <grpcpp/impl/codegen/client_callback.h>
#include <grpcpp/support/sync_stream.h>

#include <string>

#include "absl/synchronization/notification.h"
#include "tests/server/rpc/rpc_fixture.h"

namespace kdn::testing {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

class StoreTest : public RpcTest {
 protected:
  // Sends messages as they are.
  grpc::Status StoreRaw(const std::vector<std::string>& messages) {
    grpc::ClientContext context;
    SetDeadline(context);
    grpc::ByteBuffer response;
    const grpc::internal::RpcMethod method("/kdn.v1.Kdn/Store", grpc::internal::RpcMethod::CLIENT_STREAMING, channel_);
    const std::unique_ptr<grpc::ClientWriter<grpc::ByteBuffer>> writer(
        grpc::internal::ClientWriterFactory<grpc::ByteBuffer>::Create(channel_.get(), method, &context, &response));
    for (const std::string& message : messages) {
      const grpc::Slice slice(message);
      if (!writer->Write(grpc::ByteBuffer(&slice, 1))) break;
    }
    writer->WritesDone();
    return writer->Finish();
  }

  void ExpectBroken(const std::vector<v1::StoreFrame>& frames, const std::string& what) {
    v1::StoreResponse response;
    const grpc::Status status = Store(frames, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << what;
    EXPECT_NE(status.error_message().find(what), std::string::npos) << status.error_message();
    EXPECT_EQ(store_.size(), 0u) << what;
  }
};

TEST_F(StoreTest, StoresManyChunksOfOneStream) {
  StartServer({});
  std::vector<v1::StoreFrame> frames;
  std::vector<std::vector<uint8_t>> containers;
  for (uint32_t i = 0; i < 5; ++i) {
    containers.push_back(Pattern(i * 700 * 1000 + 1, i));
    for (v1::StoreFrame& frame : Frames(i, DigestOf(std::to_string(i)), containers[i])) frames.push_back(frame);
  }
  v1::StoreResponse response;
  const grpc::Status status = Store(frames, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.results_size(), 5);
  for (int i = 0; i < 5; ++i) {
    const size_t at = static_cast<size_t>(i);
    EXPECT_EQ(response.results(i).outcome(), v1::STORED);
    EXPECT_EQ(response.results(i).stored_bytes(), containers[at].size());
    EXPECT_EQ(response.results(i).chunk_digest(), DigestOf(std::to_string(i)).view());
    EXPECT_EQ(store_.Bytes("default", DigestOf(std::to_string(i))), containers[at]);
  }
}

TEST_F(StoreTest, TellsWhatBecameOfAChunkThatWasThere) {
  StartServer({});
  const std::vector<uint8_t> bytes = Pattern(1000, 1);
  v1::StoreResponse response;
  ASSERT_TRUE(Store(Frames(0, DigestOf("a"), bytes), &response).ok());
  ASSERT_TRUE(Store(Frames(0, DigestOf("a"), bytes), &response).ok());
  EXPECT_EQ(response.results(0).outcome(), v1::DEDUPLICATED);
  ASSERT_TRUE(Store(Frames(0, DigestOf("a"), Pattern(1000, 2)), &response).ok());
  EXPECT_EQ(response.results(0).outcome(), v1::KEPT_EXISTING);
  EXPECT_EQ(store_.Bytes("default", DigestOf("a")), bytes);
}

TEST_F(StoreTest, EndsTheStreamOnFramesOutOfOrder) {
  StartServer({});
  const std::vector<uint8_t> bytes = Pattern(100, 1);
  const ByteSpan data(bytes);
  const Digest digest = DigestOf("a");
  const v1::StoreFrame first = FirstFrame(0, digest, 100, data.first(50));
  ExpectBroken({Frame(0, 0, data)}, "where the begin of chunk 0 is due");
  ExpectBroken({FirstFrame(1, digest, 100, data)}, "begin of chunk 1 where chunk 0 is due");
  ExpectBroken({first, FirstFrame(1, digest, 100, data)}, "a begin in the middle of chunk 0 at offset 50 of 100");
  ExpectBroken({first, Frame(0, 60, data.first(10))}, "frame at offset 60");
  ExpectBroken({first, Frame(0, 40, data.first(10))}, "frame at offset 40");
  ExpectBroken({first, Frame(1, 50, data.first(10))}, "frame of chunk 1 in the middle of chunk 0");
  ExpectBroken({first, Frame(0, 50, data.first(51))}, "run past the end");
  ExpectBroken({first, Frame(0, 50, {})}, "frame without data");
  ExpectBroken({first}, "ended in the middle of chunk 0 at offset 50 of 100");
  ExpectBroken({FirstFrame(0, digest, 100, {})}, "without data");
  ExpectBroken({FirstFrame(0, digest, 40, data.first(50))}, "50 bytes of data in chunk 0 of 40 bytes");
  ExpectBroken({FirstFrame(0, digest, 0, data.first(50))}, "of 0 bytes");
}

TEST_F(StoreTest, EndsTheStreamOnDataAfterTheLastChunk) {
  StartServer({});
  const std::vector<uint8_t> bytes = Pattern(100, 1);
  std::vector<v1::StoreFrame> frames = Frames(0, DigestOf("a"), bytes);
  frames.push_back(Frame(0, 100, bytes));
  v1::StoreResponse response;
  const grpc::Status status = Store(frames, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_NE(status.error_message().find("where the begin of chunk 1 is due"), std::string::npos);
}

TEST_F(StoreTest, EndsTheStreamOnAFrameThatIsTooLarge) {
  StartServer({});
  const std::vector<uint8_t> bytes = Pattern(kMiB + 1, 1);
  ExpectBroken({FirstFrame(0, DigestOf("a"), kMiB + 1, bytes)}, "frame of 1048577 bytes of data, at most 1048576");
  // Beyond what gRPC receives at all.
  const std::vector<uint8_t> huge = Pattern(5 * kMiB, 1);
  v1::StoreResponse response;
  const grpc::Status status = Store({FirstFrame(0, DigestOf("a"), 5 * kMiB, huge)}, &response);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(store_.size(), 0u);
}

TEST_F(StoreTest, EndsTheStreamOnTooManyChunks) {
  RpcServerOptions options;
  options.limits.max_chunks_per_call = 1;
  StartServer(options);
  std::vector<v1::StoreFrame> frames = Frames(0, DigestOf("a"), Pattern(10, 1));
  frames.push_back(Frames(1, DigestOf("b"), Pattern(10, 1))[0]);
  v1::StoreResponse response;
  EXPECT_EQ(Store(frames, &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(StoreTest, EndsTheStreamOnBytesThatAreNoFrame) {
  StartServer({});
  for (const std::string& message :
       {std::string("\xff\xff\xff"), std::string("\x7a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), std::string("\x0b"),
        std::string("\x0a\x05") + "abcde", std::string("\x12\x00", 2), std::string("\x10\x00\x10\x00", 4)}) {
    const grpc::Status status = StoreRaw({message});
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
    EXPECT_NE(status.error_message().find("store frame"), std::string::npos) << status.error_message();
  }
}

TEST_F(StoreTest, AcceptsFieldsInAnyOrderAndUnknownOnes) {
  StartServer({});
  const std::vector<uint8_t> bytes = Pattern(3, 1);
  v1::StoreFrame rest = FirstFrame(0, DigestOf("a"), 3, bytes);
  v1::StoreFrame data_only;
  data_only.set_data(rest.data());
  rest.clear_data();
  const std::string unknown("\xa0\x06\x01", 3);  // field 100, varint 1
  const grpc::Status status = StoreRaw({data_only.SerializeAsString() + unknown + rest.SerializeAsString()});
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(store_.Bytes("default", DigestOf("a")), bytes);
}

// What is wrong with one chunk does not concern the next.
TEST_F(StoreTest, RefusesAChunkAndGoesOn) {
  RpcServerOptions options;
  options.limits.max_container_bytes = 4 * kMiB;
  options.limits.per_call_bytes = 3 * kMiB;
  StartServer(options);
  std::vector<v1::StoreFrame> frames;
  uint32_t index = 0;
  const auto add = [&](size_t bytes, const std::function<void(v1::StoreFrame&)>& spoil) {
    std::vector<v1::StoreFrame> chunk = Frames(index, DigestOf(std::to_string(index)), Pattern(bytes, index));
    spoil(chunk[0]);
    frames.insert(frames.end(), chunk.begin(), chunk.end());
    ++index;
  };
  add(1500 * 1000, [](v1::StoreFrame& f) { f.set_crc32c(f.crc32c() + 1); });
  add(5 * kMiB, [](v1::StoreFrame&) {});
  add(3 * kMiB + 1, [](v1::StoreFrame&) {});
  add(10, [](v1::StoreFrame& f) { f.mutable_begin()->set_fingerprint("short"); });
  add(10, [](v1::StoreFrame& f) { f.mutable_begin()->set_chunk_digest(""); });
  add(10, [](v1::StoreFrame& f) { f.mutable_begin()->set_kind(3); });
  add(10, [](v1::StoreFrame& f) { f.mutable_begin()->set_document(std::string(513, 'x')); });
  add(10, [](v1::StoreFrame& f) { f.mutable_begin()->set_parent_digest("x"); });
  add(10, [](v1::StoreFrame&) {});
  v1::StoreResponse response;
  const grpc::Status status = Store(frames, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.results_size(), 9);
  const std::vector<std::pair<grpc::StatusCode, std::string>> expected = {
      {grpc::StatusCode::DATA_LOSS, "CRC-32C"},
      {grpc::StatusCode::RESOURCE_EXHAUSTED, "limits.max_container_bytes"},
      {grpc::StatusCode::RESOURCE_EXHAUSTED, "memory.per_call"},
      {grpc::StatusCode::INVALID_ARGUMENT, "fingerprint has 5 bytes"},
      {grpc::StatusCode::INVALID_ARGUMENT, "chunk_digest has 0 bytes"},
      {grpc::StatusCode::INVALID_ARGUMENT, "kind 3"},
      {grpc::StatusCode::INVALID_ARGUMENT, "document name of 513 bytes"},
      {grpc::StatusCode::INVALID_ARGUMENT, "parent_digest has 1 bytes"}};
  for (size_t i = 0; i < expected.size(); ++i) {
    const v1::StoreResult& result = response.results(static_cast<int>(i));
    EXPECT_EQ(result.outcome(), v1::REJECTED);
    EXPECT_EQ(result.code(), static_cast<uint32_t>(expected[i].first)) << result.message();
    EXPECT_NE(result.message().find(expected[i].second), std::string::npos) << result.message();
  }
  EXPECT_EQ(response.results(8).outcome(), v1::STORED);
  EXPECT_EQ(store_.size(), 1u);
}

TEST_F(StoreTest, ADeclaredSizeIsCheckedBeforeItIsAllocated) {
  StartServer({});
  for (const uint64_t bytes : {uint64_t{1} << 40, ~uint64_t{0}}) {
    v1::StoreResponse response;
    const grpc::Status status = Store({FirstFrame(0, DigestOf("a"), bytes, Pattern(10, 1))}, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);  // the rest never came
  }
  EXPECT_EQ(server_->memory_used_bytes(), 0u);
}

TEST_F(StoreTest, ABrokenStreamKeepsWhatWasWholeAndNothingElse) {
  StartServer({});
  absl::Notification first_stored;
  store_.on_store = [&](const StoreRequest&) { first_stored.Notify(); };
  {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::StoreResponse response;
    const auto writer = kdn_->Store(&context, &response);
    for (const v1::StoreFrame& frame : Frames(0, DigestOf("whole"), Pattern(1000, 1))) writer->Write(frame);
    writer->Write(FirstFrame(1, DigestOf("half"), 2000, Pattern(1000, 2)));
    first_stored.WaitForNotification();
    context.TryCancel();
    EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  server_->Stop(absl::Seconds(30));
  EXPECT_EQ(store_.size(), 1u);
  EXPECT_EQ(store_.Bytes("default", DigestOf("whole")).size(), 1000u);
  EXPECT_EQ(server_->memory_used_bytes(), 0u);
}

// The client could not send the second chunk, larger than what flow control lets pass, if the server did not read it
// while the first is being committed.
TEST_F(StoreTest, ReceivesTheNextChunkWhileOneIsCommitted) {
  StartServer({});
  absl::Notification sent;
  store_.on_store = [&](const StoreRequest& request) {
    if (request.chunk_digest == DigestOf("0")) sent.WaitForNotification();
  };
  grpc::ClientContext context;
  SetDeadline(context);
  v1::StoreResponse response;
  const auto writer = kdn_->Store(&context, &response);
  for (const v1::StoreFrame& frame : Frames(0, DigestOf("0"), Pattern(1000, 1))) ASSERT_TRUE(writer->Write(frame));
  for (const v1::StoreFrame& frame : Frames(1, DigestOf("1"), Pattern(48 * kMiB, 2))) ASSERT_TRUE(writer->Write(frame));
  sent.Notify();
  writer->WritesDone();
  ASSERT_TRUE(writer->Finish().ok());
  ASSERT_EQ(response.results_size(), 2);
  EXPECT_EQ(response.results(1).outcome(), v1::STORED);
}

// With no room for a second container the stream waits for the first one's commit.
TEST_F(StoreTest, AStreamWithLittleMemoryStoresOneChunkAfterTheOther) {
  RpcServerOptions options;
  options.limits.per_call_bytes = 3 * kMiB;
  options.inflight_bytes = 16 * kMiB;
  StartServer(options);
  std::vector<v1::StoreFrame> frames;
  for (uint32_t i = 0; i < 6; ++i) {
    for (v1::StoreFrame& frame : Frames(i, DigestOf(std::to_string(i)), Pattern(2 * kMiB, i))) frames.push_back(frame);
  }
  v1::StoreResponse response;
  ASSERT_TRUE(Store(frames, &response).ok());
  ASSERT_EQ(response.results_size(), 6);
  for (const v1::StoreResult& result : response.results()) EXPECT_EQ(result.outcome(), v1::STORED);
}

TEST_F(StoreTest, AChunkThatFindsNoMemoryInTimeIsRefused) {
  RpcServerOptions options;
  options.inflight_bytes = 16 * kMiB;
  StartServer(options);
  absl::Notification release;
  absl::Notification holding;
  store_.on_store = [&](const StoreRequest& request) {
    if (request.chunk_digest != DigestOf("holder")) return;
    holding.Notify();
    release.WaitForNotification();
  };
  std::thread holder([&] {
    v1::StoreResponse response;
    EXPECT_TRUE(Store(Frames(0, DigestOf("holder"), Pattern(16 * kMiB, 1)), &response).ok());
  });
  holding.WaitForNotification();
  grpc::ClientContext context;
  SetDeadline(context, 2);
  v1::StoreResponse response;
  const grpc::Status status = Store(context, Frames(0, DigestOf("late"), Pattern(1000, 1)), &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.results_size(), 1);
  EXPECT_EQ(response.results(0).code(), static_cast<uint32_t>(grpc::StatusCode::RESOURCE_EXHAUSTED));
  EXPECT_NE(response.results(0).message().find("memory.inflight"), std::string::npos);
  release.Notify();
  holder.join();
}

TEST_F(StoreTest, AStreamThatStopsInAChunkGivesItsMemoryBack) {
  RpcServerOptions options;
  options.limits.stall_timeout = absl::Milliseconds(200);
  StartServer(options);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::hours(24));
  v1::StoreResponse response;
  const auto writer = kdn_->Store(&context, &response);
  writer->Write(FirstFrame(0, DigestOf("a"), 2000, Pattern(1000, 1)));
  const grpc::Status status = writer->Finish();  // the client neither sends more nor ends
  EXPECT_FALSE(status.ok());
  server_->Stop(absl::Seconds(30));  // every call is over after it
  EXPECT_EQ(server_->memory_used_bytes(), 0u);
}

TEST_F(StoreTest, AStreamWithoutDeadlineGetsTheServers) {
  RpcServerOptions options;
  options.limits.default_deadline = absl::Milliseconds(100);
  StartServer(options);
  grpc::ClientContext context;
  v1::StoreResponse response;
  const auto writer = kdn_->Store(&context, &response);
  writer->Write(FirstFrame(0, DigestOf("a"), 2000, Pattern(1000, 1)));
  // The client neither sends more nor ends.
  const grpc::Status status = writer->Finish();
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(store_.size(), 0u);
}

}  // namespace
}  // namespace kdn::testing
