#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <thread>

#include "absl/synchronization/notification.h"
#include "client/kdn/client.h"
#include "kernels/base/crc32c.h"
#include "kernels/base/status.h"
#include "kernels/codec/chunk_codec.h"
#include "tests/client/kdn/fake_server.h"
#include "tests/client/kdn/test_kv.h"
#include "tests/kernels/format/test_containers.h"

// What the client makes of servers that lie, break off, are slow or gone.

namespace kdn {
namespace {

using testing::FakeServer;
using testing::FrameGate;
using testing::HostKv;
using testing::MakeSpec;
using testing::MakeTokens;
using testing::TestModel;

constexpr uint32_t kChunk = 32;
constexpr uint32_t kTokens = 96;
using Frames = FakeServer::Frames;

class ClientFaultTest : public ::testing::Test {
 protected:
  void SetUp() override { Open({}); }

  void Open(ClientOptions options) {
    options.endpoint = server_.endpoint();
    if (options.dead_after_ms == ClientOptions().dead_after_ms) options.dead_after_ms = 10'000;
    client_ = *Client::Connect(options);
    model_ = *client_->RegisterModel(spec_, kChunk, "test");
    source_.Fill(1);
    ASSERT_TRUE(client_->Store(model_, tokens_, source_.view(), {}).Wait().ok());
    chunks_ = *Client::Chunks(model_, tokens_, {});
  }

  absl::StatusOr<RetrieveResult> Retrieve(RetrieveOptions options = {}) {
    destination_.Clear(0xcd);
    absl::StatusOr<RetrieveResult> result = client_->Retrieve(model_, tokens_, destination_.view(), options).Wait();
    if (result.ok()) {
      EXPECT_TRUE(source_.SameRows(destination_, 0, static_cast<uint32_t>(result->tokens_loaded)));
    }
    return result;
  }

  // Cuts frame i in two.
  static void Split(Frames& frames, size_t i) {
    v1::RetrieveFrame second;
    const std::string data = frames[i].data();
    const size_t half = data.size() / 2;
    second.set_chunk_index(frames[i].chunk_index());
    second.set_part(frames[i].part());
    second.set_offset(frames[i].offset() + half);
    second.set_data(data.substr(half));
    second.set_crc32c(Crc32c(AsBytes(second.data())));
    SetData(frames[i], data.substr(0, half));
    frames.insert(frames.begin() + static_cast<std::ptrdiff_t>(i) + 1, second);
  }
  static void SetData(v1::RetrieveFrame& frame, const std::string& data) {
    frame.set_data(data);
    frame.set_crc32c(Crc32c(AsBytes(data)));
  }
  // Every chunk is one frame of data and one that ends it.
  static size_t DataFrame(size_t chunk) { return 2 * chunk; }

  // A container of chunk 0 whose header was changed before it was built: consistent, but a lie.
  std::string Lie(const std::function<void(ContainerHeader&)>& change) {
    ContainerHeader header;
    header.fingerprint = model_.fingerprint();
    header.chunk_digest = chunks_[0].digest;
    header.num_tokens = kChunk;
    header.dtype = spec_.dtype;
    header.tile_tokens = DefaultTileTokens(spec_);
    header.cells = CellSet::All(model_.cells().num_cells());
    change(header);
    const KvView view = source_.view();
    const auto bytes = EncodeChunk(spec_, model_.cells(), header, {&view, 0}, ProfileId::kRaw);
    return std::string(AsStringView(*bytes));
  }
  void ServeForChunk0(const std::string& container, const CellSet* cells = nullptr) {
    const uint32_t header_bytes = ParseContainerHeader(AsBytes(container))->header_bytes;
    server_.Falsify([=, cells = cells == nullptr ? std::vector<uint8_t>() : cells->ToBytes()](Frames& frames) {
      SetData(frames[0], container);
      v1::PartBegin& begin = *frames[0].mutable_part_begin();
      begin.set_container_bytes(container.size());
      begin.set_header_bytes(header_bytes);
      begin.set_sent_bytes(container.size());
      if (!cells.empty()) begin.mutable_cells()->set_bitmap(cells.data(), cells.size());
    });
  }
  void ExpectFirstChunkMisses(MissReason reason) {
    const auto loaded = Retrieve();
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ(loaded->tokens_loaded, 0u);
    ASSERT_EQ(loaded->misses.size(), 1u);
    EXPECT_EQ(loaded->misses[0].reason, reason) << loaded->misses[0].message;
    EXPECT_THAT(loaded->chunk_loaded, ::testing::ElementsAre(false, true, true));
  }

  const ModelSpec spec_ = MakeSpec({});
  const std::vector<uint32_t> tokens_ = MakeTokens(kTokens);
  HostKv source_{spec_, kTokens};
  HostKv destination_{spec_, kTokens};
  FakeServer server_;
  std::unique_ptr<Client> client_;
  ModelHandle model_;
  std::vector<ChunkId> chunks_;
};

TEST_F(ClientFaultTest, AFrameWithAWrongChecksumCostsItsChunk) {
  server_.Falsify([](Frames& frames) { frames[DataFrame(1)].set_crc32c(1); });
  const auto loaded = Retrieve();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->tokens_loaded, 32u);
  ASSERT_EQ(loaded->misses.size(), 1u);
  EXPECT_EQ(loaded->misses[0].reason, MissReason::kCorrupt);
  EXPECT_TRUE(loaded->chunk_loaded[2]);
  EXPECT_EQ(client_->counters().misses[static_cast<size_t>(MissReason::kCorrupt)], 1u);
}

TEST_F(ClientFaultTest, FramesOutOfOrderEndTheTransfer) {
  server_.Falsify([](Frames& frames) {
    Split(frames, DataFrame(1));
    Split(frames, DataFrame(1) + 1);
    std::swap(frames[DataFrame(1) + 1], frames[DataFrame(1) + 2]);
  });
  const auto loaded = Retrieve();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->tokens_loaded, 32u);
  EXPECT_TRUE(absl::IsInvalidArgument(loaded->transfer_status));
  ASSERT_EQ(loaded->misses.size(), 2u);
  EXPECT_EQ(loaded->misses[0].reason, MissReason::kCorrupt);
}

TEST_F(ClientFaultTest, AMissingFrameIsNoticed) {
  server_.Falsify([](Frames& frames) {
    Split(frames, DataFrame(1));
    frames.erase(frames.begin() + DataFrame(1) + 1);
  });
  const auto loaded = Retrieve();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->tokens_loaded, 32u);
  EXPECT_FALSE(loaded->transfer_status.ok());
}

TEST_F(ClientFaultTest, FramesBeyondTheLimitAreRefused) {
  server_.Falsify([](Frames& frames) {
    SetData(frames[DataFrame(1)], std::string((1 << 20) + 1, 'x'));
    frames[DataFrame(1)].mutable_part_begin()->set_container_bytes(1 << 21);
    frames[DataFrame(1)].mutable_part_begin()->set_sent_bytes(1 << 21);
  });
  const auto loaded = Retrieve();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->tokens_loaded, 32u);
  EXPECT_FALSE(loaded->transfer_status.ok());
}

TEST_F(ClientFaultTest, MoreDataThanAnnouncedIsRefused) {
  server_.Falsify([](Frames& frames) { SetData(frames[DataFrame(0)], frames[DataFrame(0)].data() + "more"); });
  const auto loaded = Retrieve();
  EXPECT_TRUE(absl::IsInvalidArgument(loaded.status())) << loaded.status();
}

TEST_F(ClientFaultTest, FramesAfterTheEndAreNoticedButHarmNothing) {
  server_.Falsify([](Frames& frames) { frames.push_back(frames.front()); });
  const auto loaded = Retrieve();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->tokens_loaded, kTokens);
  EXPECT_TRUE(absl::IsInvalidArgument(loaded->transfer_status));
}

TEST_F(ClientFaultTest, AnnouncedSizesAreCheckedBeforeAllocation) {
  server_.Falsify([](Frames& frames) {
    frames[0].mutable_part_begin()->set_container_bytes(uint64_t{1} << 40);
    frames[0].mutable_part_begin()->set_sent_bytes(frames[0].data().size());
  });
  ExpectFirstChunkMisses(MissReason::kIncompatible);
}

TEST_F(ClientFaultTest, ATruncatedStreamKeepsWhatWasWhole) {
  server_.Falsify([](Frames& frames) { frames.resize(DataFrame(2)); });
  const auto loaded = Retrieve();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->tokens_loaded, 64u);
  EXPECT_TRUE(absl::IsDataLoss(loaded->transfer_status));
}

TEST_F(ClientFaultTest, AnotherChunksContainerIsIncompatible) {
  ServeForChunk0(server_.StoredOf(std::string(chunks_[1].digest.view()))[0].bytes);
  ExpectFirstChunkMisses(MissReason::kIncompatible);
}

TEST_F(ClientFaultTest, AnotherModelsContainerIsIncompatible) {
  ServeForChunk0(Lie([](ContainerHeader& header) { header.fingerprint.bytes[0] ^= 1; }));
  ExpectFirstChunkMisses(MissReason::kIncompatible);
}

TEST_F(ClientFaultTest, AnotherTokenRangeIsIncompatible) {
  ServeForChunk0(Lie([](ContainerHeader& header) { header.token_begin = 32; }));
  ExpectFirstChunkMisses(MissReason::kIncompatible);
  ServeForChunk0(Lie([](ContainerHeader& header) { header.num_tokens = 16; }));
  ExpectFirstChunkMisses(MissReason::kIncompatible);
}

// The model of these tests has no rotary embedding: K is the same before it.
TEST_F(ClientFaultTest, KeysStoredUnrotatedAreLoaded) {
  ServeForChunk0(Lie([](ContainerHeader& header) { header.rope_state = RopeState::kUnrotated; }));
  const auto loaded = Retrieve();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->tokens_loaded, kTokens);
}

TEST_F(ClientFaultTest, CellsThatTheContainerLacksAreIncompatible) {
  ServeForChunk0(Lie([](ContainerHeader& header) { header.cells.Erase(1); }));
  ExpectFirstChunkMisses(MissReason::kIncompatible);
}

TEST_F(ClientFaultTest, CellsThatAreNotSentAreIncomplete) {
  CellSet one(model_.cells().num_cells());
  one.Insert(0);
  ServeForChunk0(Lie([](ContainerHeader& header) { header.cells.Erase(1); }), &one);
  ExpectFirstChunkMisses(MissReason::kIncomplete);
}

// Wide sections whose tiles decode to nothing: no reader of any of their heads may count what was never written.
TEST_F(ClientFaultTest, AHeadWhoseSectionsWereNotDecodedIsNotLoaded) {
  ::kdn::testing::ContainerRecipe recipe;
  recipe.chunk_digest = chunks_[0].digest;
  recipe.num_tokens = kChunk;
  recipe.tile_tokens = kChunk;
  recipe.wide = {{0, 2, 0, 2}};
  const std::vector<uint8_t> container = ::kdn::testing::MakeContainer(spec_, model_.cells(), recipe);
  server_.Remove(std::string(chunks_[0].digest.view()));
  const ByteSpan bytes(container);
  ASSERT_TRUE(client_->PutContainers(model_, std::span(&bytes, 1), {}).ok());
  RetrieveOptions options;
  options.lossiest = ProfileId::kTransform;
  for (const uint32_t head : {0u, 1u}) {
    HostKv untouched(spec_, kTokens, head, 1), rank(spec_, kTokens, head, 1);
    untouched.Clear(0xcd);
    rank.Clear(0xcd);
    const auto loaded = client_->Retrieve(model_, tokens_, rank.view(), options).Wait();
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ(loaded->tokens_loaded, 0u);
    EXPECT_THAT(loaded->chunk_loaded, ::testing::ElementsAre(false, true, true));
    EXPECT_TRUE(rank.SameRows(untouched, 0, kChunk));
    EXPECT_TRUE(source_.SameRows(rank, kChunk, kTokens));
  }
}

TEST_F(ClientFaultTest, NoFlippedBitIsEverLoaded) {
  const std::string whole = server_.StoredOf(std::string(chunks_[0].digest.view()))[0].bytes;
  std::mt19937 random(7);
  for (int i = 0; i < 300; ++i) {
    // Half of them in the header.
    const size_t limit = i % 2 == 0 ? whole.size() : ParseContainerHeader(AsBytes(whole))->header_bytes;
    const size_t at = random() % limit;
    const char bit = static_cast<char>(1 << (random() % 8));
    server_.Falsify([at, bit](Frames& frames) {
      std::string data = frames[0].data();
      data[at] = static_cast<char>(data[at] ^ bit);
      SetData(frames[0], data);
    });
    const auto loaded = Retrieve();
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    ASSERT_EQ(loaded->tokens_loaded, 0u) << "bit " << int{bit} << " of byte " << at << " of " << whole.size();
  }
}

TEST_F(ClientFaultTest, AServerThatVanishesLeavesAMissList) {
  server_.BeforeFrame([](size_t i, grpc::ServerContext*) { return i < DataFrame(2); });
  const auto loaded = Retrieve();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->tokens_loaded, 64u);
  EXPECT_TRUE(absl::IsUnavailable(loaded->transfer_status));
  ASSERT_EQ(loaded->misses.size(), 1u);
  EXPECT_EQ(loaded->misses[0].reason, MissReason::kUnavailable);
  server_.BeforeFrame([](size_t, grpc::ServerContext*) { return false; });
  EXPECT_TRUE(absl::IsUnavailable(Retrieve().status()));
}

TEST_F(ClientFaultTest, ADeadlineLeavesAMissList) {
  absl::Notification release;
  server_.BeforeFrame([&release](size_t i, grpc::ServerContext*) {
    if (i == DataFrame(1)) release.WaitForNotification();
    return true;
  });
  RetrieveOptions options;
  options.timeout_ms = 400;
  const auto loaded = Retrieve(options);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->tokens_loaded, 32u);
  EXPECT_TRUE(absl::IsDeadlineExceeded(loaded->transfer_status));
  EXPECT_EQ(loaded->misses[0].reason, MissReason::kTimeout);
  destination_.Forbid();
  release.Notify();
  server_.Stop();
  destination_.Allow();
}

TEST_F(ClientFaultTest, ADeadlineOfOneMillisecondEndsCleanly) {
  absl::Notification release;
  server_.BeforeFrame([&release](size_t, grpc::ServerContext*) {
    release.WaitForNotification();
    return true;
  });
  RetrieveOptions retrieve;
  retrieve.timeout_ms = 1;
  EXPECT_TRUE(absl::IsDeadlineExceeded(Retrieve(retrieve).status()));
  destination_.Forbid();
  release.Notify();
  server_.BeforeCall([](const std::string&) {});
  StoreOptions store;
  store.timeout_ms = 1;
  store.span.extra_keys = {"other"};
  const auto stored = client_->Store(model_, tokens_, source_.view(), store).Wait();
  EXPECT_TRUE(stored.ok() || absl::IsDeadlineExceeded(stored.status())) << stored.status();
  server_.Stop();
  destination_.Allow();
}

TEST_F(ClientFaultTest, NothingIsWrittenAfterCancel) {
  for (size_t stop_at = 0; stop_at < 6; ++stop_at) {
    FrameGate gate(server_, stop_at);
    HostKv destination(spec_, kTokens);
    Future<RetrieveResult> future = client_->Retrieve(model_, tokens_, destination.view(), {});
    gate.AwaitReached();
    future.Cancel();
    destination.Forbid();
    gate.Open();
    EXPECT_TRUE(absl::IsCancelled(future.Wait().status())) << future.Wait().status();
    server_.BeforeFrame({});
    // The link is in order: another retrieve, with the server's earlier frames behind it.
    EXPECT_EQ(Retrieve()->tokens_loaded, kTokens);
  }
}

TEST_F(ClientFaultTest, DroppingTheFutureCancelsARetrieve) {
  FrameGate gate(server_, DataFrame(1));
  HostKv destination(spec_, kTokens);
  {
    Future<RetrieveResult> future = client_->Retrieve(model_, tokens_, destination.view(), {});
    gate.AwaitReached();
  }
  destination.Forbid();
  gate.Open();
  server_.Stop();
}

TEST_F(ClientFaultTest, QueuedOperationsAreCancelledAtOnce) {
  ClientOptions options;
  options.transfer_threads = 1;
  Open(options);
  FrameGate gate(server_, 0);
  Future<RetrieveResult> first = client_->Retrieve(model_, tokens_, destination_.view(), {});
  gate.AwaitReached();
  HostKv other(spec_, kTokens);
  Future<RetrieveResult> queued = client_->Retrieve(model_, tokens_, other.view(), {});
  queued.Cancel();
  EXPECT_TRUE(absl::IsCancelled(queued.Wait().status()));
  EXPECT_FALSE(first.done());
  gate.Open();
  EXPECT_EQ(first.Wait()->tokens_loaded, kTokens);
}

TEST_F(ClientFaultTest, ClosingTheClientEndsItsOperations) {
  FrameGate gate(server_, 0);
  Future<RetrieveResult> future = client_->Retrieve(model_, tokens_, destination_.view(), {});
  gate.AwaitReached();
  client_.reset();
  destination_.Forbid();
  EXPECT_TRUE(future.done());
  EXPECT_TRUE(absl::IsCancelled(future.Wait().status()));
  gate.Open();
  server_.Stop();
  destination_.Allow();
}

TEST_F(ClientFaultTest, CancelledStoresLetGoOfTheirSource) {
  absl::Notification reached, release;
  server_.BeforeCall([&](const std::string& method) {
    if (method != "FindMissing") return;
    reached.Notify();
    release.WaitForNotification();
  });
  StoreOptions options;
  options.span.extra_keys = {"other"};
  Future<StoreResult> future = client_->Store(model_, tokens_, source_.view(), options);
  reached.WaitForNotification();
  future.Cancel();
  source_.Forbid();
  EXPECT_TRUE(absl::IsCancelled(future.Wait().status()));
  release.Notify();
  server_.Stop();
  source_.Allow();
}

TEST_F(ClientFaultTest, ABusyServerIsNotGivenUp) {
  ClientOptions options;
  options.dead_after_ms = 2'000;
  Open(options);
  absl::Notification release;
  server_.BeforeCall([&release](const std::string& method) {
    if (method == "Lookup") release.WaitForNotification();
  });
  LookupOptions lookup;
  lookup.timeout_ms = 3'000;
  EXPECT_TRUE(absl::IsDeadlineExceeded(client_->Lookup(model_, tokens_, lookup).status()));
  EXPECT_EQ(client_->counters().breaker, BreakerState::kClosed);
  release.Notify();
  server_.Stop();
}

TEST(ClientBreakerTest, ADeadServerIsRefusedAtOnceUntilItAnswersAgain) {
  auto server = std::make_unique<FakeServer>();
  const std::string endpoint = server->endpoint();
  ClientOptions options;
  options.endpoint = endpoint;
  const auto client = *Client::Connect(options);
  const ModelSpec spec = MakeSpec({});
  ASSERT_TRUE(client->RegisterModel(spec, kChunk, "").ok());
  server->Stop();
  // The connection may still be going down when the first call is made.
  while (client->counters().breaker == BreakerState::kClosed) {
    EXPECT_TRUE(absl::IsUnavailable(client->RegisterModel(spec, kChunk, "").status()));
  }
  const uint64_t refused = client->counters().calls_refused_by_breaker;
  EXPECT_THAT(std::string(client->RegisterModel(spec, kChunk, "").status().message()),
              ::testing::HasSubstr("found dead"));
  EXPECT_GT(client->counters().calls_refused_by_breaker, refused);
  server = std::make_unique<FakeServer>(endpoint);
  while (client->counters().breaker == BreakerState::kOpen) std::this_thread::yield();
  EXPECT_TRUE(client->RegisterModel(spec, kChunk, "").ok());
}

TEST(ClientBreakerTest, AListenerThatNeverSpeaksIsDead) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(listener, 8), 0);
  socklen_t size = sizeof(address);
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  ClientOptions options;
  options.endpoint = StrCat("127.0.0.1:", ntohs(address.sin_port));
  const auto client = *Client::Connect(options);
  EXPECT_TRUE(absl::IsUnavailable(client->RegisterModel(MakeSpec({}), kChunk, "").status()));
  EXPECT_EQ(client->counters().breaker, BreakerState::kOpen);
  close(listener);
}

TEST_F(ClientFaultTest, AForkedChildIsRefusedAndTheParentGoesOn) {
  Future<StoreResult> future = client_->Store(model_, tokens_, source_.view(), {});
  const pid_t child = fork();
  if (child == 0) {
    const bool refused = absl::IsUnavailable(client_->Lookup(model_, tokens_, {}).status()) &&
                         absl::IsUnavailable(Retrieve().status()) && absl::IsUnavailable(future.Wait().status()) &&
                         absl::IsUnavailable(client_->admin().Health().status());
    future = Future<StoreResult>();
    client_.reset();
    // gRPC has run in the parent: a new client cannot use it either, and says so.
    ClientOptions options;
    options.endpoint = server_.endpoint();
    const bool own_refused =
        absl::IsUnavailable((*Client::Connect(options))->RegisterModel(spec_, kChunk, "").status());
    _exit(refused && own_refused ? 0 : 1);
  }
  int state = 0;
  ASSERT_EQ(waitpid(child, &state, 0), child);
  EXPECT_TRUE(WIFEXITED(state) && WEXITSTATUS(state) == 0) << state;
  EXPECT_TRUE(future.Wait().ok());
  EXPECT_EQ(Retrieve()->tokens_loaded, kTokens);
}

}  // namespace
}  // namespace kdn
