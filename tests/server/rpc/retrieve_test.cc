#include <atomic>
#include <string>
#include <thread>

#include "absl/synchronization/notification.h"
#include "tests/server/rpc/rpc_fixture.h"

namespace kdn::testing {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

class RetrieveTest : public RpcTest {
 protected:
  Digest Add(std::string_view name, size_t bytes) {
    const Digest digest = DigestOf(name);
    store_.Put("default", digest, Pattern(bytes, static_cast<uint32_t>(bytes)));
    return digest;
  }

  // Puts frames together as the protocol promises them, and checks what every frame says.
  static std::vector<std::string> Assemble(const std::vector<v1::RetrieveFrame>& frames, uint64_t max_frame_bytes) {
    std::vector<std::string> chunks(1);
    for (const v1::RetrieveFrame& frame : frames) {
      EXPECT_EQ(frame.chunk_index() + 1, chunks.size());
      EXPECT_LE(frame.data().size(), max_frame_bytes);
      EXPECT_EQ(frame.crc32c(), Crc32c(AsBytes(frame.data())));
      EXPECT_EQ(frame.offset(), chunks.back().size());
      EXPECT_EQ(frame.has_part_begin(), chunks.back().empty());
      chunks.back() += frame.data();
      if (frame.chunk_end()) chunks.emplace_back();
    }
    chunks.pop_back();
    return chunks;
  }
};

TEST_F(RetrieveTest, DeliversStoredBytesInRequestOrderToGeneratedClients) {
  StartServer({});
  const std::vector<Digest> digests = {Add("b", 3 * kMiB + 17), Add("a", 5), Add("c", kMiB)};
  const Delivered delivered = Retrieve(Ask(digests));
  ASSERT_TRUE(delivered.status.ok()) << delivered.status.error_message();
  const std::vector<std::string> chunks = Assemble(delivered.frames, kMiB);
  ASSERT_EQ(chunks.size(), 3u);
  for (size_t i = 0; i < digests.size(); ++i) {
    const std::vector<uint8_t> stored = store_.Bytes("default", digests[i]);
    EXPECT_TRUE(AsBytes(chunks[i]).size() == stored.size() &&
                std::equal(stored.begin(), stored.end(), AsBytes(chunks[i]).begin()));
  }
  const v1::PartBegin& begin = delivered.frames[0].part_begin();
  EXPECT_EQ(begin.container_bytes(), 3 * kMiB + 17);
  EXPECT_EQ(begin.sent_bytes(), 3 * kMiB + 17);
  EXPECT_EQ(begin.tier(), "ram");
  EXPECT_EQ(begin.cells().bitmap(), std::string(1, '\x07'));
}

TEST_F(RetrieveTest, JoinsSlicesAndHonoursTheFrameLimit) {
  StartServer({});
  store_.slice_bytes = 1000;
  const std::vector<Digest> digests = {Add("a", 100 * 1000 + 1)};
  v1::RetrieveRequest request = Ask(digests);
  request.set_max_frame_bytes(10000);
  const Delivered delivered = Retrieve(request);
  ASSERT_TRUE(delivered.status.ok());
  EXPECT_EQ(delivered.frames.size(), 11u);
  EXPECT_EQ(Assemble(delivered.frames, 10000)[0].size(), 100001u);
}

TEST_F(RetrieveTest, SaysWhyAChunkIsMissingAndGoesOn) {
  StartServer({});
  const Delivered delivered = Retrieve(Ask({DigestOf("nowhere"), Add("a", 10)}));
  ASSERT_TRUE(delivered.status.ok());
  ASSERT_EQ(delivered.frames.size(), 2u);
  EXPECT_EQ(delivered.frames[0].miss(), v1::ABSENT);
  EXPECT_EQ(delivered.frames[0].miss_message(), "not stored");
  EXPECT_EQ(delivered.frames[1].data().size(), 10u);
}

TEST_F(RetrieveTest, EndsWithTheStoresErrorForAnUnknownModel) {
  StartServer({});
  v1::RetrieveRequest request = Ask({Add("a", 10)});
  request.set_fingerprint(std::string(32, '\0'));
  EXPECT_EQ(Retrieve(request).status.error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(RetrieveTest, RefusesTooManyChunksAndBadDigests) {
  RpcServerOptions options;
  options.limits.max_chunks_per_call = 2;
  StartServer(options);
  const Digest digest = Add("a", 10);
  const Delivered many = Retrieve(Ask({digest, digest, digest}));
  EXPECT_EQ(many.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_NE(many.status.error_message().find("limits.max_chunks_per_call"), std::string::npos);

  v1::RetrieveRequest short_digest = Ask({digest});
  short_digest.mutable_chunks(0)->set_chunk_digest("short");
  const Delivered bad = Retrieve(short_digest);
  EXPECT_EQ(bad.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(bad.status.error_message(), "chunks[0]: chunk_digest has 5 bytes, not 32");
}

TEST_F(RetrieveTest, AnEmptyRequestEndsWell) {
  StartServer({});
  const Delivered delivered = Retrieve(Ask({}));
  EXPECT_TRUE(delivered.status.ok());
  EXPECT_TRUE(delivered.frames.empty());
}

TEST_F(RetrieveTest, AChunkBeyondTheCallsMemoryIsAMiss) {
  RpcServerOptions options;
  options.limits.per_call_bytes = kMiB;
  StartServer(options);
  const Delivered delivered = Retrieve(Ask({Add("large", kMiB + 1), Add("small", 10)}));
  ASSERT_TRUE(delivered.status.ok());
  ASSERT_EQ(delivered.frames.size(), 2u);
  EXPECT_EQ(delivered.frames[0].miss(), v1::OVER_BUDGET);
  EXPECT_NE(delivered.frames[0].miss_message().find("memory.per_call"), std::string::npos);
  EXPECT_EQ(delivered.frames[1].data().size(), 10u);
  EXPECT_EQ(metrics_->Counters().at("kdn_miss_total{reason=\"over_budget\"}"), 1u);
}

// A reader that does not read holds the whole budget; another waits for half of its time, then gets a miss. Once the
// first has read, everything is given back.
TEST_F(RetrieveTest, ReadersShareTheBudgetOfAllCalls) {
  RpcServerOptions options;
  options.inflight_bytes = 24 * kMiB;
  StartServer(options);
  const std::vector<Digest> large = {Add("a", 23 * kMiB), Add("b", 23 * kMiB)};
  const Digest small = Add("c", 10);
  grpc::ClientContext slow_context;
  SetDeadline(slow_context);
  const auto slow = kdn_->Retrieve(&slow_context, Ask(large));
  v1::RetrieveFrame frame;
  ASSERT_TRUE(slow->Read(&frame));  // now the first chunk holds 23 of 24 MiB

  grpc::ClientContext late_context;
  SetDeadline(late_context, 2);
  const Delivered late = Retrieve(late_context, Ask({small}));
  ASSERT_TRUE(late.status.ok()) << late.status.error_message();
  ASSERT_EQ(late.frames.size(), 1u);
  EXPECT_EQ(late.frames[0].miss(), v1::OVER_BUDGET);
  EXPECT_NE(late.frames[0].miss_message().find("memory.inflight"), std::string::npos);

  std::vector<v1::RetrieveFrame> frames = {frame};
  while (slow->Read(&frame)) frames.push_back(frame);
  EXPECT_TRUE(slow->Finish().ok());
  const std::vector<std::string> chunks = Assemble(frames, kMiB);
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[1].size(), 23 * kMiB);

  const Delivered after = Retrieve(Ask({small}));
  ASSERT_EQ(after.frames.size(), 1u);
  EXPECT_EQ(after.frames[0].data().size(), 10u);
}

TEST_F(RetrieveTest, AReaderThatStopsGivesItsMemoryBack) {
  RpcServerOptions options;
  options.inflight_bytes = 24 * kMiB;
  options.limits.stall_timeout = absl::Milliseconds(200);
  StartServer(options);
  const Digest large = Add("a", 23 * kMiB);
  const Digest small = Add("b", 10);
  grpc::ClientContext stuck_context;
  stuck_context.set_deadline(std::chrono::system_clock::now() + std::chrono::hours(24));
  const auto stuck = kdn_->Retrieve(&stuck_context, Ask({large, large}));
  v1::RetrieveFrame frame;
  ASSERT_TRUE(stuck->Read(&frame));  // and nothing more: 23 of 24 MiB are held

  const Delivered other = Retrieve(Ask({small}));
  ASSERT_TRUE(other.status.ok()) << other.status.error_message();
  ASSERT_EQ(other.frames.size(), 1u);
  EXPECT_EQ(other.frames[0].data().size(), 10u) << other.frames[0].miss_message();
  while (stuck->Read(&frame)) {
  }
  EXPECT_FALSE(stuck->Finish().ok());
  server_->Stop(absl::Seconds(30));  // every call is over after it
  EXPECT_EQ(server_->memory_used_bytes(), 0u);
}

TEST_F(RetrieveTest, CancellingStopsReadingFromTheStore) {
  StartServer({});
  const Digest digest = Add("a", 4 * kMiB);
  grpc::ClientContext context;
  SetDeadline(context);
  const auto reader = kdn_->Retrieve(&context, Ask(std::vector<Digest>(200, digest)));
  v1::RetrieveFrame frame;
  ASSERT_TRUE(reader->Read(&frame));
  context.TryCancel();
  while (reader->Read(&frame)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  server_->Stop(absl::Seconds(30));  // every call is over after it
  EXPECT_LT(store_.retrieves, 200u);
  EXPECT_EQ(server_->memory_used_bytes(), 0u);
}

TEST_F(RetrieveTest, ADeadlineOfOneMillisecondHarmsNobody) {
  StartServer({});
  const Digest digest = Add("a", 4 * kMiB);
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(1));
    const grpc::Status status = Retrieve(context, Ask(std::vector<Digest>(100, digest))).status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  EXPECT_TRUE(Retrieve(Ask({digest})).status.ok());
}

TEST_F(RetrieveTest, ACallWithoutDeadlineGetsTheServers) {
  RpcServerOptions options;
  options.limits.default_deadline = absl::Milliseconds(100);
  StartServer(options);
  // Shared: the worker may still be leaving the wait when this test returns.
  const auto ended = std::make_shared<absl::Notification>();
  store_.on_retrieve = [ended](const RetrieveQuery&) { ended->WaitForNotification(); };
  grpc::ClientContext context;
  const Delivered delivered = Retrieve(context, Ask({Add("a", 10)}));
  EXPECT_EQ(delivered.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  ended->Notify();
}

TEST_F(RetrieveTest, ManyStreamsAtOnceDeliverEveryByte) {
  StartServer({});
  store_.slice_bytes = 300 * 1000;
  const std::vector<Digest> digests = {Add("a", 2 * kMiB), Add("b", 3 * kMiB), Add("c", 1000)};
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 5; ++round) {
        const Delivered delivered = Retrieve(Ask(digests));
        if (!delivered.status.ok()) continue;
        const std::vector<std::string> chunks = Assemble(delivered.frames, kMiB);
        if (chunks.size() == 3 && chunks[1].size() == 3 * kMiB) ++good;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 40);
}

}  // namespace
}  // namespace kdn::testing
