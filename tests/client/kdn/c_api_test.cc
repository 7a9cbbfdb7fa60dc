#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <vector>

#include "client/kdn/kdn.h"
#include "tests/client/kdn/fake_server.h"
#include "tests/client/kdn/test_kv.h"

// The C API against a server of the generated service.

namespace kdn {
namespace {

using testing::FakeServer;
using testing::FrameGate;
using testing::HostKv;
using testing::MakeSpec;
using testing::MakeTokens;

constexpr uint32_t kChunk = 32;
constexpr uint32_t kTokens = 80;

std::vector<kdn_layer_view> CLayers(const KvView& view) {
  std::vector<kdn_layer_view> layers;
  const auto plane = [](const KvPlane& p) {
    return kdn_plane{p.data, p.token_stride_bytes, p.head_stride_bytes, p.channel_stride_bytes, p.block_stride_bytes};
  };
  for (const KvLayerView& layer : view.layers) {
    layers.push_back({layer.layer, layer.first_row, plane(layer.k), plane(layer.v)});
  }
  return layers;
}

class CApiTest : public ::testing::Test {
 protected:
  void SetUp() override {
    kdn_client_options options;
    kdn_client_options_init(&options);
    options.endpoint = server_.endpoint().c_str();
    options.dead_after_ms = 10'000;
    ASSERT_EQ(kdn_client_open(&options, &client_), KDN_OK) << kdn_last_error();
    kdn_rope_spec rope{KDN_ROPE_NONE, 0, 0, 1.0f, nullptr};
    std::vector<kdn_layer_spec> layers(2, {KDN_ATTENTION_FULL, 0, 2, 32, 32, 0});
    kdn_model_spec spec{};
    std::fill(std::begin(spec.weights_digest), std::end(spec.weights_digest), 1);
    std::fill(std::begin(spec.tokenizer_digest), std::end(spec.tokenizer_digest), 7);
    spec.dtype = KDN_DTYPE_BF16;
    spec.ropes = &rope;
    spec.num_ropes = 1;
    spec.layers = layers.data();
    spec.num_layers = layers.size();
    kdn_bytes canonical{};
    ASSERT_EQ(kdn_spec_encode(&spec, &canonical), KDN_OK) << kdn_last_error();
    ASSERT_EQ(kdn_model_register(client_, canonical.data, canonical.size, kChunk, "m", &model_), KDN_OK)
        << kdn_last_error();
    uint8_t expected[32], fingerprint[32];
    ASSERT_EQ(kdn_spec_fingerprint(canonical.data, canonical.size, expected), KDN_OK);
    kdn_model_fingerprint(model_, fingerprint);
    EXPECT_EQ(std::memcmp(expected, fingerprint, 32), 0);
    kdn_bytes_free(&canonical);
    source_.Fill(3);
    kdn_span_init(&span_);
    span_.token_ids = tokens_.data();
    span_.num_tokens = tokens_.size();
  }
  void TearDown() override {
    kdn_client_close(client_);
    kdn_model_free(model_);
  }

  kdn_view View(const HostKv& kv, std::vector<kdn_layer_view>& layers) {
    layers = CLayers(kv.view());
    kdn_view view;
    kdn_view_init(&view);
    view.dtype = KDN_DTYPE_BF16;
    view.num_tokens = kTokens;
    view.head_count = 2;
    view.layers = layers.data();
    view.num_layers = layers.size();
    return view;
  }

  void StoreAll() {
    kdn_op op = 0;
    const kdn_view view = View(source_, source_layers_);
    ASSERT_EQ(kdn_submit_store(client_, model_, &span_, &view, nullptr, &op), KDN_OK) << kdn_last_error();
    kdn_completion completion;
    ASSERT_EQ(kdn_wait(client_, op, -1, &completion), KDN_OK) << kdn_last_error();
    EXPECT_EQ(completion.status, KDN_OK);
    EXPECT_EQ(completion.tokens, kTokens);
    kdn_completion_clear(&completion);
  }

  const ModelSpec spec_ = MakeSpec({});
  const std::vector<uint32_t> tokens_ = MakeTokens(kTokens);
  HostKv source_{spec_, kTokens};
  HostKv destination_{spec_, kTokens};
  std::vector<kdn_layer_view> source_layers_, destination_layers_;
  FakeServer server_;
  kdn_client* client_ = nullptr;
  kdn_model* model_ = nullptr;
  kdn_span span_;
};

TEST_F(CApiTest, CompletionsArriveThroughTheEventDescriptor) {
  EXPECT_EQ(kdn_abi_version(), static_cast<uint32_t>(KDN_ABI_VERSION));
  EXPECT_EQ(kdn_model_chunk_tokens(model_), kChunk);
  EXPECT_EQ(kdn_model_created(model_), 1);
  EXPECT_EQ(kdn_model_token_bytes(model_), 2u * 2 * 2 * 32 * 2);
  kdn_store_options store;
  kdn_store_options_init(&store);
  store.document = "doc";
  store.text_utf8 = "text";
  store.text_utf8_size = 4;
  kdn_op op = 0;
  kdn_view view = View(source_, source_layers_);
  ASSERT_EQ(kdn_submit_store(client_, model_, &span_, &view, &store, &op), KDN_OK) << kdn_last_error();
  ASSERT_EQ(kdn_wait_staged(client_, op, -1), KDN_OK);
  pollfd waiting{kdn_completion_fd(client_), POLLIN, 0};
  ASSERT_EQ(poll(&waiting, 1, 30'000), 1);
  kdn_completion completions[4];
  ASSERT_EQ(kdn_poll(client_, completions, 4), 1u);
  EXPECT_EQ(completions[0].op, op);
  EXPECT_EQ(completions[0].kind, static_cast<uint32_t>(KDN_OP_STORE));
  EXPECT_EQ(completions[0].status, KDN_OK);
  EXPECT_EQ(completions[0].chunks_done, 3u);
  EXPECT_THAT(reinterpret_cast<const char*>(completions[0].details.data), ::testing::HasSubstr("\"stored\""));
  kdn_completion_clear(&completions[0]);
  EXPECT_EQ(poll(&waiting, 1, 0), 0);
  EXPECT_EQ(kdn_poll(client_, completions, 4), 0u);
  EXPECT_EQ(kdn_wait(client_, op, 0, &completions[0]), KDN_NOT_FOUND);

  kdn_text* text = nullptr;
  ASSERT_EQ(kdn_lookup_text(client_, model_, "text", 4, nullptr, 0, &text), KDN_OK) << kdn_last_error();
  size_t num_tokens = 0;
  const uint32_t* ids = kdn_text_token_ids(text, &num_tokens);
  EXPECT_EQ(std::vector<uint32_t>(ids, ids + num_tokens), tokens_);
  EXPECT_EQ(kdn_text_hit_tokens(text), kTokens);
  EXPECT_STREQ(kdn_text_document(text), "doc");
  EXPECT_EQ(kdn_text_extra_key(text, 0), nullptr);
  kdn_text_free(text);
  EXPECT_EQ(kdn_lookup_text(client_, model_, "else", 4, nullptr, 0, &text), KDN_NOT_FOUND);

  view = View(destination_, destination_layers_);
  ASSERT_EQ(kdn_submit_retrieve(client_, model_, &span_, &view, nullptr, &op), KDN_OK);
  kdn_completion loaded;
  ASSERT_EQ(kdn_wait(client_, op, -1, &loaded), KDN_OK);
  EXPECT_EQ(loaded.tokens, kTokens);
  kdn_completion_clear(&loaded);
  EXPECT_TRUE(source_.SameRows(destination_, 0, kTokens));
}

TEST_F(CApiTest, MissesAreCountedAndNamed) {
  StoreAll();
  kdn_bytes digests{};
  ASSERT_EQ(kdn_chunk_digests(model_, &span_, &digests), KDN_OK);
  ASSERT_EQ(digests.size, 3u * 32);
  server_.Remove(std::string(reinterpret_cast<char*>(digests.data) + 32, 32));
  kdn_lookup_result found;
  ASSERT_EQ(kdn_lookup(client_, model_, &span_, 0, 0, 0, &found), KDN_OK);
  EXPECT_EQ(found.hit_tokens, kChunk);
  EXPECT_EQ(found.chunks, 3u);
  kdn_op op = 0;
  const kdn_view view = View(destination_, destination_layers_);
  ASSERT_EQ(kdn_submit_retrieve(client_, model_, &span_, &view, nullptr, &op), KDN_OK);
  kdn_completion completion;
  ASSERT_EQ(kdn_wait(client_, op, -1, &completion), KDN_OK);
  EXPECT_EQ(completion.status, KDN_OK);
  EXPECT_EQ(completion.tokens, kChunk);
  EXPECT_EQ(completion.misses[1], 1u);
  EXPECT_THAT(reinterpret_cast<const char*>(completion.details.data), ::testing::HasSubstr("\"miss\":\"absent\""));
  kdn_completion_clear(&completion);
  kdn_bytes container{};
  ASSERT_EQ(kdn_fetch_container(client_, model_, digests.data, 0, &container), KDN_OK) << kdn_last_error();
  EXPECT_EQ(kdn_fetch_container(client_, model_, digests.data + 32, 0, &container), KDN_NOT_FOUND);
  uint32_t outcome = 0;
  ASSERT_EQ(kdn_put_container(client_, model_, container.data, container.size, 1, nullptr, 0, &outcome), KDN_OK)
      << kdn_last_error();
  EXPECT_EQ(outcome, 1u);
  container.data[60] ^= 1;
  EXPECT_NE(kdn_put_container(client_, model_, container.data, container.size, 1, nullptr, 0, &outcome), KDN_OK);
  kdn_bytes_free(&container);
  kdn_bytes_free(&digests);
  kdn_bytes json{};
  ASSERT_EQ(kdn_client_counters(client_, &json), KDN_OK);
  EXPECT_THAT(reinterpret_cast<const char*>(json.data), ::testing::HasSubstr("\"absent\":1"));
  kdn_bytes_free(&json);
  ASSERT_EQ(kdn_admin(client_, "Status", nullptr, 0, &json), KDN_OK) << kdn_last_error();
  EXPECT_THAT(reinterpret_cast<const char*>(json.data), ::testing::HasSubstr("\"version\":\"1.2.3\""));
  kdn_bytes_free(&json);
}

TEST_F(CApiTest, CancelReturnsWhenNothingIsWrittenAnyMore) {
  StoreAll();
  FrameGate gate(server_, 1);
  kdn_op op = 0;
  const kdn_view view = View(destination_, destination_layers_);
  ASSERT_EQ(kdn_submit_retrieve(client_, model_, &span_, &view, nullptr, &op), KDN_OK);
  gate.AwaitReached();
  kdn_completion completion;
  EXPECT_EQ(kdn_wait(client_, op, 1, &completion), KDN_DEADLINE_EXCEEDED);
  EXPECT_EQ(kdn_cancel(client_, op), KDN_OK);
  destination_.Forbid();
  gate.Open();
  ASSERT_EQ(kdn_poll(client_, &completion, 1), 1u);
  EXPECT_EQ(completion.status, KDN_CANCELLED);
  kdn_completion_clear(&completion);
  EXPECT_EQ(kdn_cancel(client_, op), KDN_OK);
  server_.Stop();
  destination_.Allow();
}

TEST_F(CApiTest, WrongArgumentsAreErrorsWithAMessage) {
  kdn_op op = 0;
  kdn_view view = View(source_, source_layers_);
  view.struct_size = 0;
  EXPECT_EQ(kdn_submit_store(client_, model_, &span_, &view, nullptr, &op), KDN_INVALID_ARGUMENT);
  EXPECT_THAT(kdn_last_error(), ::testing::HasSubstr("struct_size"));
  EXPECT_STREQ(kdn_status_name(KDN_INVALID_ARGUMENT), "INVALID_ARGUMENT");
  kdn_client_options options;
  kdn_client_options_init(&options);
  options.profile = "zip";
  kdn_client* other = nullptr;
  EXPECT_EQ(kdn_client_open(&options, &other), KDN_INVALID_ARGUMENT);
  EXPECT_EQ(other, nullptr);
  kdn_model_spec spec{};
  kdn_bytes canonical{};
  EXPECT_EQ(kdn_spec_encode(&spec, &canonical), KDN_INVALID_ARGUMENT);
  const uint8_t garbage[] = {1, 2, 3};
  kdn_model* model = nullptr;
  EXPECT_EQ(kdn_model_register(client_, garbage, 3, 0, "", &model), KDN_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace kdn
