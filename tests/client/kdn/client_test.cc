#include "client/kdn/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/synchronization/notification.h"
#include "kernels/format/container.h"
#include "tests/client/kdn/fake_server.h"
#include "tests/client/kdn/test_kv.h"
#include "tests/kernels/format/test_containers.h"

namespace kdn {
namespace {

using testing::FakeServer;
using testing::HostKv;
using testing::MakeSpec;
using testing::MakeTokens;
using testing::TestModel;

constexpr uint32_t kChunk = 32;

class ClientTest : public ::testing::Test {
 protected:
  void Open(const TestModel& model) {
    ClientOptions options;
    options.endpoint = server_.endpoint();
    options.dead_after_ms = 10'000;
    client_ = *Client::Connect(options);
    spec_ = MakeSpec(model);
    absl::StatusOr<ModelHandle> handle = client_->RegisterModel(spec_, kChunk, "test");
    ASSERT_TRUE(handle.ok()) << handle.status();
    model_ = *handle;
  }

  FakeServer server_;
  std::unique_ptr<Client> client_;
  ModelSpec spec_;
  ModelHandle model_;
};

TEST_F(ClientTest, LoadsExactlyWhatWasStored) {
  Open({});
  const auto tokens = MakeTokens(100);
  HostKv source(spec_, 100), destination(spec_, 100);
  source.Fill(1);
  const auto stored = client_->Store(model_, tokens, source.view(), {}).Wait();
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_EQ(stored->tokens_present, 100u);
  EXPECT_EQ(stored->chunks.size(), 4u);
  EXPECT_GT(stored->raw_bytes, 0u);
  EXPECT_EQ(server_.num_chunks(), 4u);

  const auto lookup = client_->Lookup(model_, tokens, {});
  ASSERT_TRUE(lookup.ok()) << lookup.status();
  EXPECT_EQ(lookup->hit_tokens, 100u);

  const auto loaded = client_->Retrieve(model_, tokens, destination.view(), {}).Wait();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->tokens_loaded, 100u);
  EXPECT_TRUE(loaded->misses.empty());
  EXPECT_EQ(loaded->chunks_from_ram, 4u);
  EXPECT_TRUE(source.SameRows(destination, 0, 100));
  EXPECT_EQ(client_->counters().chunks_stored, 4u);
  EXPECT_EQ(client_->counters().tokens_loaded, 100u);
}

TEST_F(ClientTest, SendsOnlyWhatTheServerLacks) {
  Open({});
  const auto tokens = MakeTokens(96);
  HostKv source(spec_, 96);
  source.Fill(1);
  ASSERT_TRUE(client_->Store(model_, tokens, source.view(64), {}).Wait().ok());
  const auto again = client_->Store(model_, tokens, source.view(), {}).Wait();
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->chunks[0].outcome, ChunkStoreOutcome::kSkipped);
  EXPECT_EQ(again->chunks[1].outcome, ChunkStoreOutcome::kSkipped);
  EXPECT_EQ(again->chunks[2].outcome, ChunkStoreOutcome::kStored);
  EXPECT_EQ(again->tokens_present, 96u);
  const auto third = client_->Store(model_, tokens, source.view(), {}).Wait();
  ASSERT_TRUE(third.ok());
  EXPECT_EQ(third->sent_bytes, 0u);
  EXPECT_EQ(server_.store_calls(), 2u);
}

TEST_F(ClientTest, WhatTwoRanksStoredOneReads) {
  Open({.heads = 4});
  const auto tokens = MakeTokens(64);
  HostKv all(spec_, 64), low(spec_, 64, 0, 2), high(spec_, 64, 2, 2), destination(spec_, 64);
  low.Fill(1);
  high.Fill(2);
  ASSERT_TRUE(client_->Store(model_, tokens, low.view(), {}).Wait().ok());
  auto half = client_->Retrieve(model_, tokens, destination.view(), {}).Wait();
  ASSERT_TRUE(half.ok()) << half.status();
  EXPECT_EQ(half->tokens_loaded, 0u);
  ASSERT_EQ(half->misses.size(), 2u);
  EXPECT_EQ(half->misses[0].reason, MissReason::kIncomplete);
  ASSERT_TRUE(client_->Store(model_, tokens, high.view(), {}).Wait().ok());
  auto whole = client_->Retrieve(model_, tokens, destination.view(), {}).Wait();
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->tokens_loaded, 64u);
  EXPECT_TRUE(destination.SameRows(low, 0, 64));
  EXPECT_TRUE(destination.SameRows(high, 0, 64));
  HostKv middle(spec_, 64, 1, 2);
  auto ranks = client_->Retrieve(model_, tokens, middle.view(), {}).Wait();
  ASSERT_TRUE(ranks.ok()) << ranks.status();
  EXPECT_EQ(ranks->tokens_loaded, 64u);
  EXPECT_TRUE(middle.SameRows(destination, 0, 64));
}

TEST_F(ClientTest, LoadsTheTailBehindWhatTheEngineHolds) {
  Open({});
  const auto tokens = MakeTokens(96);
  HostKv source(spec_, 96), tail(spec_, 64);
  source.Fill(3);
  ASSERT_TRUE(client_->Store(model_, tokens, source.view(), {}).Wait().ok());
  RetrieveOptions options;
  options.span.first_token = 32;
  const auto loaded = client_->Retrieve(model_, tokens, tail.view(), options).Wait();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->tokens_loaded, 64u);
  options.span.first_token = 33;
  EXPECT_TRUE(absl::IsInvalidArgument(client_->Retrieve(model_, tokens, tail.view(63), options).Wait().status()));
}

TEST_F(ClientTest, StopsAtTheFirstMissAndNamesIt) {
  Open({});
  const auto tokens = MakeTokens(128);
  HostKv source(spec_, 128), destination(spec_, 128);
  source.Fill(4);
  ASSERT_TRUE(client_->Store(model_, tokens, source.view(), {}).Wait().ok());
  const auto chunks = *Client::Chunks(model_, tokens, {});
  server_.Remove(std::string(chunks[2].digest.view()));
  const auto loaded = client_->Retrieve(model_, tokens, destination.view(), {}).Wait();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->tokens_loaded, 64u);
  ASSERT_EQ(loaded->misses.size(), 1u);
  EXPECT_EQ(loaded->misses[0].chunk_index, 2u);
  EXPECT_EQ(loaded->misses[0].reason, MissReason::kAbsent);
  EXPECT_THAT(loaded->chunk_loaded, ::testing::ElementsAre(true, true, false, true));
  EXPECT_TRUE(source.SameRows(destination, 0, 64));
}

TEST_F(ClientTest, SlidingLayersNeedOnlyTheirWindow) {
  Open({.window = 40});
  const auto tokens = MakeTokens(128);
  HostKv source(spec_, 128), destination(spec_, 128);
  source.Fill(5);
  KvView view = source.view();
  view.layers[1].first_row = 128 - 40 + 1;
  const auto stored = client_->Store(model_, tokens, view, {}).Wait();
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_EQ(stored->tokens_present, 128u);
  const auto loaded = client_->Retrieve(model_, tokens, destination.view(), {}).Wait();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->tokens_loaded, 128u);
  EXPECT_TRUE(source.SameLayerRows(destination, 0, 0, 128));
  EXPECT_TRUE(source.SameLayerRows(destination, 1, 128 - 40 + 1, 128));

  // Without the last chunk a shorter prefix would need window rows that nobody stored.
  const auto chunks = *Client::Chunks(model_, tokens, {});
  server_.Remove(std::string(chunks[3].digest.view()));
  const auto shorter = client_->Retrieve(model_, tokens, destination.view(), {}).Wait();
  ASSERT_TRUE(shorter.ok()) << shorter.status();
  EXPECT_EQ(shorter->tokens_loaded, 0u);
  EXPECT_EQ(shorter->misses.size(), 4u);
}

TEST_F(ClientTest, ADestinationThatLacksWindowRowsIsNotReportedLoaded) {
  Open({.window = 40});
  const auto tokens = MakeTokens(128);
  HostKv source(spec_, 128), destination(spec_, 128);
  source.Fill(5);
  ASSERT_TRUE(client_->Store(model_, tokens, source.view(), {}).Wait().ok());
  KvView view = destination.view();
  view.layers[1].first_row = 100;
  const auto loaded = client_->Retrieve(model_, tokens, view, {}).Wait();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_LT(loaded->tokens_loaded, 128u);
}

TEST_F(ClientTest, SegmentsStandForThemselves) {
  Open({});
  const auto tokens = MakeTokens(96);
  HostKv source(spec_, 96), destination(spec_, 96);
  source.Fill(6);
  StoreOptions store;
  store.span.segment = SegmentContext{{1, 2, 3}, 64};
  ASSERT_TRUE(client_->Store(model_, tokens, source.view(), store).Wait().ok());
  const auto chunks = *Client::Chunks(model_, tokens, store.span);
  server_.Remove(std::string(chunks[0].digest.view()));
  LookupOptions lookup;
  lookup.span = store.span;
  const auto found = client_->Lookup(model_, tokens, lookup);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_THAT(found->present, ::testing::ElementsAre(false, true, true));
  EXPECT_EQ(found->hit_tokens, 64u);
  RetrieveOptions options;
  options.span = store.span;
  const auto loaded = client_->Retrieve(model_, tokens, destination.view(), options).Wait();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->tokens_loaded, 0u);
  EXPECT_THAT(loaded->chunk_loaded, ::testing::ElementsAre(false, true, true));
  EXPECT_TRUE(source.SameRows(destination, 32, 96));
}

TEST_F(ClientTest, TextBringsItsTokensBack) {
  Open({});
  const auto tokens = MakeTokens(70);
  HostKv source(spec_, 70), destination(spec_, 70);
  source.Fill(7);
  StoreOptions store;
  store.document = "doc";
  ASSERT_TRUE(client_->StoreText(model_, {"some text"}, tokens, source.view(), store).Wait().ok());
  const auto found = client_->LookupText(model_, {"some text"}, {});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->token_ids, tokens);
  EXPECT_EQ(found->hit_tokens, 70u);
  EXPECT_EQ(found->document, "doc");
  const auto loaded = client_->RetrieveText(model_, {"some text"}, destination.view(), {}).Wait();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->tokens_loaded, 70u);
  EXPECT_EQ(loaded->token_ids, tokens);
  EXPECT_TRUE(source.SameRows(destination, 0, 70));
  EXPECT_TRUE(absl::IsNotFound(client_->LookupText(model_, {"other text"}, {}).status()));
  EXPECT_TRUE(absl::IsNotFound(client_->LookupText(model_, {"some text", "none"}, {}).status()));

  server_.FalsifyText([](v1::LookupTextResponse& response) { response.set_token_ids(3, 12345); });
  EXPECT_TRUE(absl::IsDataLoss(client_->LookupText(model_, {"some text"}, {}).status()));
}

TEST_F(ClientTest, ContainersGoOutAndInUnchanged) {
  Open({.heads = 4});
  const auto tokens = MakeTokens(64);
  HostKv low(spec_, 64, 0, 2), high(spec_, 64, 2, 2);
  low.Fill(1);
  high.Fill(2);
  ASSERT_TRUE(client_->Store(model_, tokens, low.view(), {}).Wait().ok());
  ASSERT_TRUE(client_->Store(model_, tokens, high.view(), {}).Wait().ok());
  const auto chunks = *Client::Chunks(model_, tokens, {});
  const std::string digest(chunks[0].digest.view());
  const auto merged = client_->FetchContainer(model_, chunks[0].digest, {});
  ASSERT_TRUE(merged.ok()) << merged.status();

  std::vector<uint8_t> small(64), large(1 << 20);
  const ContainerFetch fetches[] = {{chunks[0].digest, small}, {chunks[1].digest, large}, {Digest{}, large}};
  const auto fetched = client_->FetchContainers(model_, fetches, {});
  ASSERT_TRUE(fetched.ok()) << fetched.status();
  EXPECT_EQ((*fetched)[0].miss, MissReason::kOverBudget);
  EXPECT_FALSE((*fetched)[1].miss.has_value()) << (*fetched)[1].miss_message;
  EXPECT_EQ((*fetched)[1].parts.size(), 2u);
  EXPECT_EQ((*fetched)[2].miss, MissReason::kAbsent);
  const std::string part0 = server_.StoredOf(std::string(chunks[1].digest.view()))[0].bytes;
  EXPECT_EQ(std::string(large.begin(), large.begin() + part0.size()), part0);

  server_.Remove(digest);
  const ByteSpan container(*merged);
  const auto put = client_->PutContainers(model_, std::span(&container, 1), {});
  ASSERT_TRUE(put.ok()) << put.status();
  EXPECT_EQ((*put)[0].outcome, ChunkStoreOutcome::kStored);
  HostKv destination(spec_, 64);
  const auto loaded = client_->Retrieve(model_, tokens, destination.view(), {}).Wait();
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ(loaded->tokens_loaded, 64u);
  EXPECT_TRUE(destination.SameRows(low, 0, 64));
  EXPECT_TRUE(destination.SameRows(high, 0, 64));
  EXPECT_TRUE(absl::IsNotFound(client_->FetchContainer(model_, Digest{}, {}).status()));
}

// Parts of other ranks whose sections code several cells together.
class WidePartsTest : public ClientTest {
 protected:
  void SetUp() override {
    Open({.heads = 4});
    recipe_.num_tokens = kChunk;
    recipe_.tile_tokens = 16;
  }
  std::vector<uint8_t> Part(uint32_t head_begin, uint32_t head_end, std::vector<testing::WideScope> wide) {
    recipe_.wide = std::move(wide);
    recipe_.cells = CellSet(model_.cells().num_cells());
    for (uint32_t head = head_begin; head < head_end; ++head) recipe_.cells->Insert(model_.cells().CellOf(0, head));
    return testing::MakeContainer(spec_, model_.cells(), recipe_);
  }
  void Put(const std::vector<uint8_t>& container) {
    const ByteSpan bytes(container);
    const auto put = client_->PutContainers(model_, std::span(&bytes, 1), {});
    ASSERT_TRUE(put.ok()) << put.status();
    ASSERT_EQ((*put)[0].outcome, ChunkStoreOutcome::kStored);
  }

  testing::ContainerRecipe recipe_;
};

TEST_F(WidePartsTest, MakeOneContainer) {
  const std::vector<uint8_t> high = Part(2, 4, {{0, 2, 2, 2}}), low = Part(0, 2, {{0, 1, 0, 2}});
  Put(high);
  Put(low);
  const auto merged = client_->FetchContainer(model_, recipe_.chunk_digest, {});
  ASSERT_TRUE(merged.ok()) << merged.status();
  const ContainerHeader header = *ParseContainerHeader(*merged);
  ASSERT_TRUE(CheckAgainstModel(header, spec_, model_.cells()).ok());
  EXPECT_EQ(header.cells.Count(), 4u);
  for (uint32_t cell = 0; cell < 4; ++cell) {
    const ContainerHeader part = *ParseContainerHeader(cell < 2 ? low : high);
    EXPECT_EQ(CellContentDigest(header, model_.cells(), cell), CellContentDigest(part, model_.cells(), cell));
  }
}

TEST_F(WidePartsTest, OneThatHoldsAllStandsForWhatCannotBeMerged) {
  const std::vector<uint8_t> low = Part(0, 2, {{0, 2, 0, 2}}), all = Part(0, 4, {{0, 2, 0, 4}});
  Put(low);
  Put(all);
  const auto whole = client_->FetchContainer(model_, recipe_.chunk_digest, {});
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(*whole, all);
}

TEST_F(WidePartsTest, NoContainerIsMadeOfPartsThatShareASection) {
  Put(Part(0, 1, {}));              // exact
  Put(Part(0, 4, {{0, 2, 0, 4}}));  // lossy: it may not stand for the first
  const auto merged = client_->FetchContainer(model_, recipe_.chunk_digest, {});
  EXPECT_TRUE(absl::IsFailedPrecondition(merged.status())) << merged.status();
}

TEST_F(ClientTest, SourceMayBeReusedOnceStaged) {
  Open({});
  const auto tokens = MakeTokens(96);
  HostKv source(spec_, 96), copy(spec_, 96), destination(spec_, 96);
  source.Fill(8);
  copy.Fill(8);
  absl::Notification go;
  server_.BeforeCall([&go](const std::string& method) {
    if (method == "Store") go.WaitForNotification();
  });
  Future<StoreResult> future = client_->Store(model_, tokens, source.view(), {});
  EXPECT_TRUE(future.WaitStaged());
  EXPECT_FALSE(future.done());
  source.Forbid();
  go.Notify();
  ASSERT_TRUE(future.Wait().ok()) << future.Wait().status();
  const auto loaded = client_->Retrieve(model_, tokens, destination.view(), {}).Wait();
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ(loaded->tokens_loaded, 96u);
  EXPECT_TRUE(copy.SameRows(destination, 0, 96));
}

TEST_F(ClientTest, StagingIsBounded) {
  TestModel model{.layers = 8, .heads = 4, .head_dim = 128};
  spec_ = MakeSpec(model);
  ClientOptions options;
  options.endpoint = server_.endpoint();
  options.dead_after_ms = 10'000;
  options.staging_bytes = 1 << 20;  // room for one chunk
  client_ = *Client::Connect(options);
  model_ = *client_->RegisterModel(spec_, kChunk, "");
  const auto tokens = MakeTokens(160);
  HostKv source(spec_, 160), destination(spec_, 160);
  source.Fill(9);
  StoreOptions store;
  store.when_staging_full = WhenStagingFull::kFail;
  const auto refused = client_->Store(model_, tokens, source.view(), store).Wait();
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status())) << refused.status();
  const auto stored = client_->Store(model_, tokens, source.view(), {}).Wait();
  ASSERT_TRUE(stored.ok()) << stored.status();
  const auto loaded = client_->Retrieve(model_, tokens, destination.view(), {}).Wait();
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ(loaded->tokens_loaded, 160u);
  EXPECT_TRUE(source.SameRows(destination, 0, 160));
}

TEST_F(ClientTest, PagedDestinationsAreWrittenThroughTheirBlockTable) {
  Open({});
  const auto tokens = MakeTokens(64);
  HostKv source(spec_, 64), paged(spec_, 96);
  source.Fill(10);
  paged.Clear(0xee);
  ASSERT_TRUE(client_->Store(model_, tokens, source.view(), {}).Wait().ok());
  KvView view = paged.view(64);
  // Token t lies in row blocks[t / 16] * 16 + t % 16 of the mapping.
  const std::vector<int32_t> blocks = {5, 0, 3, 1};
  view.block_table = {blocks, 16};
  for (KvLayerView& layer : view.layers) {
    layer.k.block_stride_bytes = layer.k.token_stride_bytes * 16;
    layer.v.block_stride_bytes = layer.v.token_stride_bytes * 16;
  }
  const auto loaded = client_->Retrieve(model_, tokens, view, {}).Wait();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_EQ(loaded->tokens_loaded, 64u);
  HostKv back(spec_, 64);
  const KvView flat = back.view();
  for (uint32_t t = 0; t < 64; ++t) {
    for (size_t l = 0; l < flat.layers.size(); ++l) {
      for (uint32_t h = 0; h < 2; ++h) {
        std::memcpy(ElementAddress(flat.layers[l].k, flat.block_table, t, h),
                    ElementAddress(view.layers[l].k, view.block_table, t, h), 64);
        std::memcpy(ElementAddress(flat.layers[l].v, flat.block_table, t, h),
                    ElementAddress(view.layers[l].v, view.block_table, t, h), 64);
      }
    }
  }
  EXPECT_TRUE(source.SameRows(back, 0, 64));
}

TEST_F(ClientTest, TextWhoseAnswerPassesFourMebibytesIsFound) {
  Open({});
  const auto tokens = MakeTokens(32);
  HostKv source(spec_, 32);
  ASSERT_TRUE(client_->StoreText(model_, {"long"}, tokens, source.view(), {}).Wait().ok());
  server_.FalsifyText([](v1::LookupTextResponse& response) { response.set_document(std::string(12 << 20, 'd')); });
  const auto found = client_->LookupText(model_, {"long"}, {});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->document.size(), size_t{12} << 20);
}

TEST_F(ClientTest, ListsTheModelsOfEveryPage) {
  Open({});
  ModelSpec other = spec_;
  other.weights_digest = Sha256::Of(AsBytes("other weights"));
  const absl::StatusOr<ModelHandle> handle = client_->RegisterModel(other, kChunk, "other");
  ASSERT_TRUE(handle.ok()) << handle.status();
  const auto models = client_->admin().ListModels();
  ASSERT_TRUE(models.ok()) << models.status();
  ASSERT_EQ(models->size(), 2u);
  EXPECT_NE((*models)[0].fingerprint, (*models)[1].fingerprint);
}

TEST_F(ClientTest, AdminCallsPassThrough) {
  Open({});
  const auto tokens = MakeTokens(32);
  HostKv source(spec_, 32);
  StoreOptions store;
  store.document = "d";
  ASSERT_TRUE(client_->Store(model_, tokens, source.view(), store).Wait().ok());
  const auto status = client_->admin().Status();
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->version, "1.2.3");
  const auto list = client_->admin().ListChunks({});
  ASSERT_TRUE(list.ok()) << list.status();
  ASSERT_EQ(list->chunks.size(), 1u);
  EXPECT_EQ(list->chunks[0].fingerprint, model_.fingerprint());
  EXPECT_EQ(*client_->admin().Health(), "SERVING");
  const std::string hex = list->chunks[0].chunk_digest.ToHex();
  const auto json = client_->admin().CallJson("ListChunks", R"({"limit": 5})");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_THAT(*json, ::testing::HasSubstr("\"chunk_digest\":\"" + hex + "\""));
  EXPECT_THAT(*client_->admin().CallJson("Delete", "{\"chunk_digest\": \"" + hex + "\", \"dry_run\": true}"),
              ::testing::HasSubstr("\"chunks\":1"));
  EXPECT_TRUE(absl::IsInvalidArgument(client_->admin().CallJson("Nonsense", "{}").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(client_->admin().CallJson("ListChunks", R"({"limitt": 5})").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(client_->admin().CallJson("ListChunks", R"({"limit": "x"})").status()));
  EXPECT_TRUE(absl::IsUnimplemented(client_->admin().Compact().status()));
  EXPECT_TRUE(absl::IsInvalidArgument(client_->admin().Delete({}, DeleteMode::kDelete).status()));
}

TEST_F(ClientTest, ArgumentsAreChecked) {
  Open({});
  const auto tokens = MakeTokens(64);
  HostKv kv(spec_, 64);
  EXPECT_TRUE(absl::IsInvalidArgument(client_->Store({}, tokens, kv.view(), {}).Wait().status()));
  KvView device = kv.view();
  device.memory = MemoryKind::kDevice;
  EXPECT_TRUE(absl::IsUnimplemented(client_->Retrieve(model_, tokens, device, {}).Wait().status()));
  KvView wrong = kv.view();
  wrong.dtype = DType::kFp32;
  EXPECT_TRUE(absl::IsInvalidArgument(client_->Store(model_, tokens, wrong, {}).Wait().status()));
  EXPECT_TRUE(absl::IsInvalidArgument(client_->Retrieve(model_, MakeTokens(10), kv.view(), {}).Wait().status()));
  // Room for a part of a chunk: no place for what a retrieve is asked for, as for a store.
  EXPECT_TRUE(absl::IsInvalidArgument(client_->Retrieve(model_, tokens, kv.view(5), {}).Wait().status()));
  EXPECT_TRUE(absl::IsInvalidArgument(client_->Store(model_, tokens, kv.view(5), {}).Wait().status()));
  KvView heads = kv.view();
  heads.head_begin = 1;
  EXPECT_TRUE(absl::IsInvalidArgument(client_->Retrieve(model_, tokens, heads, {}).Wait().status()));
  EXPECT_TRUE(absl::IsInvalidArgument(client_->Lookup(model_, {}, {}).status()));
  StoreOptions options;
  options.timeout_ms = -5;
  EXPECT_TRUE(absl::IsInvalidArgument(client_->Store(model_, tokens, kv.view(), options).Wait().status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(client_->RegisterModel(spec_, 64, "").status()));
}

TEST(ClientConnectTest, NamesTheOptionThatIsWrong) {
  ClientOptions options;
  options.endpoint = "nonsense";
  EXPECT_TRUE(absl::IsInvalidArgument(Client::Connect(options).status()));
  options.endpoint = "kdn.example.org:9460";
  options.token = "secret";
  EXPECT_THAT(std::string(Client::Connect(options).status().message()), ::testing::HasSubstr("plaintext"));
  options.tls.emplace();
  EXPECT_TRUE(Client::Connect(options).ok());
  options.tls->ca_file = "/nonexistent.pem";
  EXPECT_THAT(std::string(Client::Connect(options).status().message()), ::testing::HasSubstr("ca_file"));
  options = {};
  options.transfer_threads = 0;
  EXPECT_THAT(std::string(Client::Connect(options).status().message()), ::testing::HasSubstr("transfer_threads"));
}

}  // namespace
}  // namespace kdn
