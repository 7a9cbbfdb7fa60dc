#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "client/kdn/c_internal.h"
#include "kernels/codec/tile_codec.h"

namespace kdn::c_api {
namespace {

thread_local std::string last_error;

absl::StatusOr<ClientOptions> ReadOptions(const kdn_client_options* from) {
  kdn_client_options defaults;
  kdn_client_options_init(&defaults);
  KDN_ASSIGN_OR_RETURN(const kdn_client_options read, ReadStruct(from, defaults, "options"));
  ClientOptions options;
  if (read.endpoint != nullptr) options.endpoint = read.endpoint;
  options.token = OrEmpty(read.token);
  if (read.tls != 0) {
    TlsOptions& tls = options.tls.emplace();
    tls.ca_file = OrEmpty(read.tls_ca_file);
    tls.cert_file = OrEmpty(read.tls_cert_file);
    tls.key_file = OrEmpty(read.tls_key_file);
    tls.server_name = OrEmpty(read.tls_server_name);
  }
  options.dead_after_ms = read.dead_after_ms;
  options.call_timeout_ms = read.call_timeout_ms;
  options.transfer_timeout_ms = read.transfer_timeout_ms;
  options.staging_bytes = read.staging_bytes;
  options.receive_bytes = read.receive_bytes;
  options.channels = read.channels;
  options.transfer_threads = read.transfer_threads;
  options.codec_threads = read.codec_threads;
  options.calibration_bytes = read.calibration_bytes;
  KDN_ASSIGN_OR_RETURN(const std::optional<ProfileId> profile, ReadProfile(read.profile));
  options.profile = profile.value_or(options.profile);
  return options;
}

template <typename T>
std::span<const T> ReadArray(const T* data, size_t size) {
  return data == nullptr ? std::span<const T>() : std::span<const T>(data, size);
}

absl::StatusOr<ModelSpec> ReadSpec(const kdn_model_spec* from) {
  if (from == nullptr) return InvalidArgument("spec is null");
  if (from->num_ropes > kMaxRopes || from->num_layers > kMaxLayers || from->num_extra > kMaxExtraEntries) {
    return InvalidArgument("spec has ", from->num_ropes, " ropes, ", from->num_layers, " layers, ", from->num_extra,
                           " extra entries");
  }
  ModelSpec spec;
  spec.weights_digest = ReadDigest(from->weights_digest);
  spec.tokenizer_digest = ReadDigest(from->tokenizer_digest);
  spec.adapter_digest = ReadDigest(from->adapter_digest);
  if (from->dtype > UINT8_MAX) return InvalidArgument("spec: dtype is ", from->dtype);
  spec.dtype = static_cast<DType>(from->dtype);
  for (const kdn_rope_spec& rope : ReadArray(from->ropes, from->num_ropes)) {
    if (rope.style > UINT8_MAX || rope.rotary_dim > kMaxHeadDim) {
      return InvalidArgument("spec: rope of style ", rope.style, " over ", rope.rotary_dim, " channels");
    }
    RopeSpec& out = spec.ropes.emplace_back();
    out.style = static_cast<RopeStyle>(rope.style);
    out.rotary_dim = rope.rotary_dim;
    out.rotary_offset = rope.rotary_offset;
    const std::span<const float> inv_freq = ReadArray(rope.inv_freq, rope.rotary_dim / 2);
    out.inv_freq.assign(inv_freq.begin(), inv_freq.end());
    out.amplitude = rope.amplitude;
  }
  for (const kdn_layer_spec& layer : ReadArray(from->layers, from->num_layers)) {
    if (layer.attention > UINT8_MAX) return InvalidArgument("spec: attention is ", layer.attention);
    spec.layers.push_back({static_cast<AttentionKind>(layer.attention), layer.window, layer.num_kv_heads,
                           layer.k_head_dim, layer.v_head_dim, layer.rope_index});
  }
  if (from->num_k_scales > kMaxSpecBytes || from->num_v_scales > kMaxSpecBytes) {
    return InvalidArgument("spec has ", from->num_k_scales, " and ", from->num_v_scales, " scales");
  }
  for (const float scale : ReadArray(from->k_scales, from->num_k_scales)) spec.k_scales.push_back(scale);
  for (const float scale : ReadArray(from->v_scales, from->num_v_scales)) spec.v_scales.push_back(scale);
  for (const char* extra : ReadArray(from->extra, from->num_extra)) spec.extra.emplace_back(OrEmpty(extra));
  KDN_RETURN_IF_ERROR(ValidateModelSpec(spec));
  return spec;
}

nlohmann::ordered_json CountersJson(const ClientCounters& counters) {
  nlohmann::ordered_json json;
  json["chunks_loaded"] = counters.chunks_loaded;
  json["tokens_loaded"] = counters.tokens_loaded;
  nlohmann::ordered_json& misses = json["misses"];
  for (size_t i = 1; i < kNumMissReasons; ++i) {
    misses[std::string(ClientMissReasonName(static_cast<MissReason>(i)))] = counters.misses[i];
  }
  json["received_bytes"] = counters.received_bytes;
  json["written_bytes"] = counters.written_bytes;
  json["chunks_stored"] = counters.chunks_stored;
  json["chunks_skipped"] = counters.chunks_skipped;
  json["chunks_deduplicated"] = counters.chunks_deduplicated;
  json["chunks_kept_existing"] = counters.chunks_kept_existing;
  json["chunks_rejected"] = counters.chunks_rejected;
  json["sent_bytes"] = counters.sent_bytes;
  json["profile_fallbacks"] = counters.profile_fallbacks;
  json["calls_refused_by_breaker"] = counters.calls_refused_by_breaker;
  json["breaker_opened"] = counters.breaker_opened;
  json["breaker"] = counters.breaker == BreakerState::kOpen ? "open" : "closed";
  return json;
}

}  // namespace

kdn_status Report(const absl::Status& status) {
  if (status.ok()) return KDN_OK;
  last_error = std::string(FromAbsl(status.message()));
  return static_cast<kdn_status>(static_cast<int>(status.code()));
}

kdn_bytes CopyBytes(std::string_view bytes) {
  auto* data = static_cast<uint8_t*>(std::malloc(bytes.size() + 1));
  if (data == nullptr) throw std::bad_alloc();
  std::memcpy(data, bytes.data(), bytes.size());
  data[bytes.size()] = 0;
  return {data, bytes.size()};
}

absl::StatusOr<SpanArguments> ReadSpan(const kdn_span* from) {
  kdn_span defaults;
  kdn_span_init(&defaults);
  KDN_ASSIGN_OR_RETURN(const kdn_span read, ReadStruct(from, defaults, "span"));
  SpanArguments span;
  span.token_ids = ReadArray(read.token_ids, read.num_tokens);
  span.options.first_token = read.first_token;
  if (read.segment != 0) {
    SegmentContext& segment = span.options.segment.emplace();
    segment.source_begin = read.source_begin;
    const auto context = ReadArray(read.context_token_ids, read.num_context_tokens);
    if (context.size() > kMaxTokensPerCall) return InvalidArgument("span: ", context.size(), " context tokens");
    segment.context_token_ids.assign(context.begin(), context.end());
  }
  if (read.num_extra_keys > kMaxExtraEntries) return InvalidArgument("span: ", read.num_extra_keys, " extra keys");
  for (const char* key : ReadArray(read.extra_keys, read.num_extra_keys)) {
    span.options.extra_keys.emplace_back(OrEmpty(key));
  }
  return span;
}

absl::StatusOr<KvView> ReadView(const kdn_view* from) {
  kdn_view defaults;
  kdn_view_init(&defaults);
  KDN_ASSIGN_OR_RETURN(const kdn_view read, ReadStruct(from, defaults, "view"));
  if (read.dtype > UINT8_MAX || read.memory > KDN_MEMORY_DEVICE) {
    return InvalidArgument("view: dtype ", read.dtype, ", memory ", read.memory);
  }
  if (read.num_layers > kMaxLayers) return InvalidArgument("view: ", read.num_layers, " layers");
  KvView view;
  view.dtype = static_cast<DType>(read.dtype);
  view.memory = static_cast<MemoryKind>(read.memory);
  view.num_tokens = read.num_tokens;
  view.head_begin = read.head_begin;
  view.head_count = read.head_count;
  view.block_table.blocks = ReadArray(read.blocks, read.num_blocks);
  view.block_table.block_tokens = read.block_tokens;
  const auto plane = [](const kdn_plane& p) {
    return KvPlane{static_cast<uint8_t*>(p.data), p.token_stride_bytes, p.head_stride_bytes, p.channel_stride_bytes,
                   p.block_stride_bytes};
  };
  for (const kdn_layer_view& layer : ReadArray(read.layers, read.num_layers)) {
    view.layers.push_back({layer.layer, layer.first_row, plane(layer.k), plane(layer.v)});
  }
  return view;
}

}  // namespace kdn::c_api

struct kdn_text {
  kdn::TextLookup found;
};

using kdn::InvalidArgument;
using kdn::c_api::CopyBytes;
using kdn::c_api::Guarded;
using kdn::c_api::OrEmpty;

// C has neither default arguments nor overloads.
// NOLINTBEGIN(readability-function-size)
extern "C" {

uint32_t kdn_abi_version(void) { return KDN_ABI_VERSION; }

const char* kdn_version(void) { return KDN_VERSION; }

const char* kdn_status_name(kdn_status status) {
  static constexpr const char* kNames[] = {
      "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
      "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
      "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
      "DATA_LOSS", "UNAUTHENTICATED"};
  const auto index = static_cast<size_t>(status);
  return index < std::size(kNames) ? kNames[index] : "UNKNOWN";
}

const char* kdn_last_error(void) { return kdn::c_api::last_error.c_str(); }

void kdn_bytes_free(kdn_bytes* bytes) {
  if (bytes == nullptr) return;
  std::free(bytes->data);
  *bytes = {nullptr, 0};
}

void kdn_client_options_init(kdn_client_options* options) {
  const kdn::ClientOptions defaults;
  *options = kdn_client_options{};
  options->struct_size = sizeof(kdn_client_options);
  options->endpoint = kdn::kDefaultEndpoint.data();
  options->dead_after_ms = defaults.dead_after_ms;
  options->call_timeout_ms = defaults.call_timeout_ms;
  options->transfer_timeout_ms = defaults.transfer_timeout_ms;
  options->staging_bytes = defaults.staging_bytes;
  options->receive_bytes = defaults.receive_bytes;
  options->channels = defaults.channels;
  options->transfer_threads = defaults.transfer_threads;
  options->codec_threads = defaults.codec_threads;
  options->profile = "lossless";
  options->calibration_bytes = defaults.calibration_bytes;
}

kdn_status kdn_client_open(const kdn_client_options* options, kdn_client** client) {
  return Guarded([&]() -> absl::Status {
    if (client == nullptr) return InvalidArgument("client is null");
    KDN_ASSIGN_OR_RETURN(const kdn::ClientOptions read, kdn::c_api::ReadOptions(options));
    auto opened = std::make_unique<kdn_client>();
    kdn::QuietenHandshakes();  // the language above cannot set a log function of its own
    KDN_ASSIGN_OR_RETURN(opened->client, kdn::Client::Connect(read));
    opened->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (opened->event_fd < 0) return kdn::ResourceExhausted("eventfd: errno ", errno);
    *client = opened.release();
    return absl::OkStatus();
  });
}

void kdn_client_close(kdn_client* client) {
  if (client == nullptr) return;
  // The locks may be held for good by threads that do not exist in this process.
  if (client->impl().InOtherProcess()) return;
  client->client.reset();
  {
    absl::MutexLock lock(&client->mutex);
    for (auto& [op, operation] : client->operations) kdn_completion_clear(&operation.completion);
  }
  close(client->event_fd);
  delete client;
}

kdn_status kdn_client_counters(kdn_client* client, kdn_bytes* json) {
  return Guarded([&]() -> absl::Status {
    KDN_RETURN_IF_ERROR(client->impl().CheckProcess());
    *json = CopyBytes(kdn::c_api::CountersJson(client->client->counters()).dump());
    return absl::OkStatus();
  });
}

kdn_status kdn_spec_encode(const kdn_model_spec* spec, kdn_bytes* canonical) {
  return Guarded([&]() -> absl::Status {
    KDN_ASSIGN_OR_RETURN(const kdn::ModelSpec read, kdn::c_api::ReadSpec(spec));
    *canonical = CopyBytes(kdn::AsStringView(kdn::EncodeModelSpec(read)));
    return absl::OkStatus();
  });
}

kdn_status kdn_spec_fingerprint(const uint8_t* canonical, size_t size, uint8_t fingerprint[32]) {
  return Guarded([&]() -> absl::Status {
    KDN_ASSIGN_OR_RETURN(const kdn::ModelSpec spec, kdn::DecodeModelSpec({canonical, size}));
    std::memcpy(fingerprint, kdn::FingerprintOf(spec).bytes.data(), kdn::Digest::kBytes);
    return absl::OkStatus();
  });
}

kdn_status kdn_model_register(kdn_client* client, const uint8_t* canonical, size_t size, uint32_t chunk_tokens,
                              const char* display_name, kdn_model** model) {
  return Guarded([&]() -> absl::Status {
    KDN_ASSIGN_OR_RETURN(const kdn::ModelSpec spec, kdn::DecodeModelSpec({canonical, size}));
    auto registered = std::make_unique<kdn_model>();
    KDN_ASSIGN_OR_RETURN(registered->handle, client->client->RegisterModel(spec, chunk_tokens, OrEmpty(display_name)));
    *model = registered.release();
    return absl::OkStatus();
  });
}

void kdn_model_free(kdn_model* model) { delete model; }

void kdn_model_fingerprint(const kdn_model* model, uint8_t fingerprint[32]) {
  std::memcpy(fingerprint, model->handle.fingerprint().bytes.data(), kdn::Digest::kBytes);
}

uint32_t kdn_model_chunk_tokens(const kdn_model* model) { return model->handle.chunk_tokens(); }

int kdn_model_created(const kdn_model* model) { return model->handle.created() ? 1 : 0; }

uint64_t kdn_model_token_bytes(const kdn_model* model) { return kdn::TokenBytes(model->handle.spec()); }

void kdn_span_init(kdn_span* span) {
  *span = kdn_span{};
  span->struct_size = sizeof(kdn_span);
}

kdn_status kdn_chunk_digests(const kdn_model* model, const kdn_span* span, kdn_bytes* digests) {
  return Guarded([&]() -> absl::Status {
    KDN_ASSIGN_OR_RETURN(const kdn::c_api::SpanArguments read, kdn::c_api::ReadSpan(span));
    KDN_ASSIGN_OR_RETURN(const std::vector<kdn::ChunkId> chunks,
                         kdn::Client::Chunks(model->handle, read.token_ids, read.options));
    std::string bytes;
    for (const kdn::ChunkId& chunk : chunks) bytes.append(chunk.digest.view());
    *digests = CopyBytes(bytes);
    return absl::OkStatus();
  });
}

void kdn_view_init(kdn_view* view) {
  *view = kdn_view{};
  view->struct_size = sizeof(kdn_view);
}

kdn_status kdn_lookup(kdn_client* client, const kdn_model* model, const kdn_span* span, uint32_t head_begin,
                      uint32_t head_count, int64_t timeout_ms, kdn_lookup_result* result) {
  return Guarded([&]() -> absl::Status {
    KDN_ASSIGN_OR_RETURN(const kdn::c_api::SpanArguments read, kdn::c_api::ReadSpan(span));
    kdn::LookupOptions options;
    options.span = read.options;
    options.head_begin = head_begin;
    options.head_count = head_count;
    options.timeout_ms = timeout_ms;
    KDN_ASSIGN_OR_RETURN(const kdn::LookupResult found, client->client->Lookup(model->handle, read.token_ids, options));
    *result = {found.hit_tokens, found.hit_chunks, found.chunks};
    return absl::OkStatus();
  });
}

kdn_status kdn_lookup_text(kdn_client* client, const kdn_model* model, const char* utf8, size_t utf8_size,
                           const char* policy, int64_t timeout_ms, kdn_text** text) {
  return Guarded([&]() -> absl::Status {
    kdn::LookupOptions options;
    options.timeout_ms = timeout_ms;
    kdn::TextRef text_ref{.utf8 = std::string_view(utf8, utf8_size)};
    if (policy != nullptr) text_ref.special_token_policy = policy;
    auto found = std::make_unique<kdn_text>();
    KDN_ASSIGN_OR_RETURN(found->found, client->client->LookupText(model->handle, text_ref, options));
    *text = found.release();
    return absl::OkStatus();
  });
}

const uint32_t* kdn_text_token_ids(const kdn_text* text, size_t* num_tokens) {
  *num_tokens = text->found.token_ids.size();
  return text->found.token_ids.data();
}

uint64_t kdn_text_hit_tokens(const kdn_text* text) { return text->found.hit_tokens; }

const char* kdn_text_document(const kdn_text* text) { return text->found.document.c_str(); }

size_t kdn_text_num_extra_keys(const kdn_text* text) { return text->found.extra_keys.size(); }

const char* kdn_text_extra_key(const kdn_text* text, size_t index) {
  return index < text->found.extra_keys.size() ? text->found.extra_keys[index].c_str() : nullptr;
}

void kdn_text_free(kdn_text* text) { delete text; }

kdn_status kdn_admin(kdn_client* client, const char* method, const char* request_json, int64_t timeout_ms,
                     kdn_bytes* response_json) {
  return Guarded([&]() -> absl::Status {
    KDN_ASSIGN_OR_RETURN(const std::string response,
                         client->client->admin().CallJson(OrEmpty(method), OrEmpty(request_json), timeout_ms));
    *response_json = CopyBytes(response);
    return absl::OkStatus();
  });
}

kdn_status kdn_fetch_container(kdn_client* client, const kdn_model* model, const uint8_t chunk_digest[32],
                               int64_t timeout_ms, kdn_bytes* container) {
  return Guarded([&]() -> absl::Status {
    kdn::FetchOptions options;
    options.timeout_ms = timeout_ms;
    KDN_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes,
                         client->client->FetchContainer(model->handle, kdn::c_api::ReadDigest(chunk_digest), options));
    *container = CopyBytes(kdn::AsStringView(bytes));
    return absl::OkStatus();
  });
}

kdn_status kdn_put_container(kdn_client* client, const kdn_model* model, const uint8_t* data, size_t size,
                             uint32_t kind, const char* document, int64_t timeout_ms, uint32_t* outcome) {
  return Guarded([&]() -> absl::Status {
    if (kind != 1 && kind != 2) return InvalidArgument("kind is ", kind, ", not 1 or 2");
    kdn::PutOptions options;
    options.timeout_ms = timeout_ms;
    options.kind = static_cast<kdn::ChunkKind>(kind);
    options.document = OrEmpty(document);
    const kdn::ByteSpan container(data, size);
    KDN_ASSIGN_OR_RETURN(const std::vector<kdn::ChunkStoreResult> results,
                         client->client->PutContainers(model->handle, std::span(&container, 1), options));
    if (results[0].outcome == kdn::ChunkStoreOutcome::kRejected) return results[0].status;
    if (outcome != nullptr) *outcome = static_cast<uint32_t>(results[0].outcome);
    return absl::OkStatus();
  });
}

}  // extern "C"
// NOLINTEND(readability-function-size)
