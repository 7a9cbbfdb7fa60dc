#include "client/kdn/client_impl.h"

#include <unistd.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "client/kdn/span_plan.h"
#include "kdn/v1/admin.pb.h"
#include "kernels/base/status.h"

namespace kdn {
namespace {

constexpr uint32_t kMaxQueuedCodecTasks = 1u << 20;
constexpr size_t kMaxDisplayNameBytes = 256;
constexpr uint32_t kDefaultCodecThreads = 2;

uint32_t CodecThreads(const ClientOptions& options) {
  if (options.codec_threads != 0) return options.codec_threads;
  return std::clamp(std::thread::hardware_concurrency(), 1u, kDefaultCodecThreads);
}

void SetDigest(const Digest& digest, std::string* out) {
  out->assign(reinterpret_cast<const char*>(digest.bytes.data()), Digest::kBytes);
}

}  // namespace

ClientImpl::ClientImpl(const ClientOptions& options, std::unique_ptr<Transport> transport, const Clock& clock)
    : process_(getpid()),
      options_(options),
      clock_(clock),
      transport_(std::move(transport)),
      staging_(std::make_shared<ByteBudget>("staging", options.staging_bytes, clock)),
      receive_pool_("receive memory", options.receive_bytes, clock),
      calibrations_(options.calibration_bytes, clock),
      admin_(*this),
      codec_pool_(CodecThreads(options), kMaxQueuedCodecTasks),
      transfer_pool_(options.transfer_threads, kMaxQueuedOperations) {}

ClientImpl::~ClientImpl() {
  std::vector<std::weak_ptr<internal::OperationState>> operations;
  {
    absl::MutexLock lock(&mutex_);
    operations.swap(operations_);
  }
  for (const auto& operation : operations) {
    if (const auto state = operation.lock()) state->RequestCancel();
  }
}

absl::StatusOr<ModelHandle> ClientImpl::MakeModel(const ModelSpec& spec, uint32_t chunk_tokens, bool created) {
  KDN_RETURN_IF_ERROR(ValidateModelSpec(spec));
  const Fingerprint fingerprint = FingerprintOf(spec);
  KDN_RETURN_IF_ERROR(ValidateChunkingContext({fingerprint, chunk_tokens, {}}));
  ModelHandle model;
  model.data_ = std::make_shared<const ModelHandle::Data>(
      ModelHandle::Data{spec, fingerprint, chunk_tokens, CellMap(spec, chunk_tokens), created});
  return model;
}

bool ClientImpl::InOtherProcess() const { return process_ != getpid(); }

absl::Status ClientImpl::CheckProcess() const {
  return InOtherProcess() ? internal::OpenedBeforeFork() : absl::OkStatus();
}

absl::StatusOr<int64_t> ClientImpl::DeadlineNanos(int64_t timeout_ms, int64_t default_ms) const {
  const int64_t effective_ms = timeout_ms == 0 ? default_ms : timeout_ms;
  if (effective_ms < 1 || effective_ms > kMaxTimeoutMs) {
    return InvalidArgument("timeout_ms is ", effective_ms, ", not in 1..", kMaxTimeoutMs);
  }
  return clock_.MonotonicNanos() + effective_ms * 1'000'000;
}

absl::Status ClientImpl::CallKdn(std::string_view method, const google::protobuf::MessageLite& request,
                                 const CallLimits& limits, google::protobuf::MessageLite& response) {
  KDN_RETURN_IF_ERROR(CheckProcess());
  return transport_->Call(StrCat("/kdn.v1.Kdn/", method), request, limits, response);
}

absl::Status ClientImpl::CallAdmin(std::string_view method, const google::protobuf::MessageLite& request,
                                   int64_t timeout_ms, google::protobuf::MessageLite& response) {
  KDN_RETURN_IF_ERROR(CheckProcess());
  CallLimits limits;
  KDN_ASSIGN_OR_RETURN(limits.deadline_nanos, DeadlineNanos(timeout_ms, options_.call_timeout_ms));
  return transport_->Call(StrCat("/kdn.v1.Admin/", method), request, limits, response);
}

absl::StatusOr<ModelHandle> ClientImpl::RegisterModel(const ModelSpec& spec, uint32_t chunk_tokens,
                                                      std::string_view display_name) {
  KDN_RETURN_IF_ERROR(ValidateModelSpec(spec));
  if (display_name.size() > kMaxDisplayNameBytes) {
    return InvalidArgument("display_name has ", display_name.size(), " bytes, at most ", kMaxDisplayNameBytes);
  }
  v1::RegisterModelRequest request;
  const std::vector<uint8_t> canonical = EncodeModelSpec(spec);
  request.set_canonical_spec(canonical.data(), canonical.size());
  request.set_chunk_tokens(chunk_tokens);
  request.set_display_name(std::string(display_name));
  CallLimits limits;
  KDN_ASSIGN_OR_RETURN(limits.deadline_nanos, DeadlineNanos(0, options_.call_timeout_ms));
  v1::RegisterModelResponse response;
  KDN_RETURN_IF_ERROR(CallKdn("RegisterModel", request, limits, response));
  const std::optional<Digest> fingerprint = Digest::FromBytes(AsBytes(response.fingerprint()));
  if (fingerprint != FingerprintOf(spec)) return DataLoss("RegisterModel answered with another fingerprint");
  if (chunk_tokens != 0 && response.chunk_tokens() != chunk_tokens) {
    return DataLoss("RegisterModel pinned ", response.chunk_tokens(), " tokens a chunk instead of ", chunk_tokens);
  }
  return MakeModel(spec, response.chunk_tokens(), response.created());
}

absl::StatusOr<LookupResult> ClientImpl::Lookup(const ModelHandle& model, std::span<const uint32_t> token_ids,
                                                const LookupOptions& options) {
  KDN_RETURN_IF_ERROR(CheckProcess());
  if (options.span.first_token > token_ids.size()) {
    return InvalidArgument("first_token ", options.span.first_token, " is beyond the ", token_ids.size(), " tokens");
  }
  KDN_ASSIGN_OR_RETURN(const SpanPlan plan,
                       PlanSpan(model, token_ids, options.span, token_ids.size() - options.span.first_token));
  LookupResult result;
  result.chunks = static_cast<uint32_t>(plan.chunks.size());
  if (plan.chunks.empty()) return result;
  v1::LookupRequest request;
  SetDigest(model.fingerprint(), request.mutable_fingerprint());
  for (const ChunkId& chunk : plan.chunks) SetDigest(chunk.digest, request.add_chunk_digests());
  request.set_last_chunk_tokens(plan.chunks.back().num_tokens);
  const std::vector<uint8_t> bitmap = CellsOfHeads(model, options.head_begin, options.head_count).ToBytes();
  request.mutable_cells()->set_bitmap(bitmap.data(), bitmap.size());
  const bool segments = options.span.segment.has_value();
  request.set_mode(segments ? v1::LookupRequest::SEGMENTS : v1::LookupRequest::PREFIX);
  request.set_lossiest(static_cast<uint32_t>(options.lossiest.value_or(options_.profile)));
  CallLimits limits;
  KDN_ASSIGN_OR_RETURN(limits.deadline_nanos, DeadlineNanos(options.timeout_ms, options_.call_timeout_ms));
  v1::LookupResponse response;
  KDN_RETURN_IF_ERROR(CallKdn("Lookup", request, limits, response));
  if (response.hit_chunks() > plan.chunks.size()) {
    return DataLoss("Lookup answered with ", response.hit_chunks(), " of ", plan.chunks.size(), " chunks");
  }
  result.hit_chunks = response.hit_chunks();
  for (size_t i = 0; segments && i < plan.chunks.size(); ++i) {
    const bool present =
        i / 8 < response.present().size() && (static_cast<uint8_t>(response.present()[i / 8]) >> (i % 8) & 1) != 0;
    result.present.push_back(present);
    if (present) result.hit_tokens += plan.chunks[i].num_tokens;
  }
  for (size_t i = 0; !segments && i < result.hit_chunks; ++i) result.hit_tokens += plan.chunks[i].num_tokens;
  return result;
}

absl::StatusOr<TextLookup> ClientImpl::LookupText(const ModelHandle& model, const TextRef& text,
                                                  const LookupOptions& options) {
  KDN_RETURN_IF_ERROR(CheckProcess());
  if (!model.valid()) return InvalidArgument("the model handle is empty");
  if (options.span.segment.has_value()) return InvalidArgument("texts are stored as prefix chunks");
  v1::LookupTextRequest request;
  SetDigest(model.fingerprint(), request.mutable_fingerprint());
  SetDigest(TextDigest(model.fingerprint(), text.special_token_policy, text.utf8), request.mutable_text_digest());
  CallLimits limits;
  KDN_ASSIGN_OR_RETURN(limits.deadline_nanos, DeadlineNanos(options.timeout_ms, options_.call_timeout_ms));
  v1::LookupTextResponse response;
  KDN_RETURN_IF_ERROR(CallKdn("LookupText", request, limits, response));
  TextLookup found;
  found.token_ids.assign(response.token_ids().begin(), response.token_ids().end());
  found.extra_keys.assign(response.extra_keys().begin(), response.extra_keys().end());
  found.document = response.document();
  SpanOptions span;
  span.extra_keys = found.extra_keys;
  KDN_ASSIGN_OR_RETURN(SpanPlan plan, PlanSpan(model, found.token_ids, span, found.token_ids.size()));
  const auto& digests = response.chunk_digests();
  const bool equal = std::equal(
      plan.chunks.begin(), plan.chunks.end(), digests.begin(), digests.end(),
      [](const ChunkId& chunk, const std::string& digest) { return AsStringView(chunk.digest.bytes) == digest; });
  if (!equal) return DataLoss("LookupText: the chunk digests do not belong to the ", found.token_ids.size(), " tokens");
  found.chunks = std::move(plan.chunks);
  LookupOptions lookup = options;
  lookup.span.extra_keys = found.extra_keys;
  lookup.span.first_token = std::min<uint64_t>(options.span.first_token,
                                               found.token_ids.size() / model.chunk_tokens() * model.chunk_tokens());
  KDN_ASSIGN_OR_RETURN(const LookupResult hit, Lookup(model, found.token_ids, lookup));
  found.hit_tokens = hit.hit_tokens;
  return found;
}

void ClientImpl::Track(std::weak_ptr<internal::OperationState> state) {
  absl::MutexLock lock(&mutex_);
  std::erase_if(operations_, [](const auto& operation) { return operation.expired(); });
  operations_.push_back(std::move(state));
}

ClientCounters ClientImpl::counters() const {
  if (InOtherProcess()) return {};
  const TransportStats stats = transport_->stats();
  absl::MutexLock lock(&mutex_);
  ClientCounters counters = counters_;
  counters.breaker = stats.breaker;
  counters.breaker_opened = stats.breaker_opened;
  counters.calls_refused_by_breaker = stats.refused_by_breaker;
  return counters;
}

void ClientImpl::Count(const StoreResult& result) {
  absl::MutexLock lock(&mutex_);
  if (!result.fallback.empty()) ++counters_.profile_fallbacks;
  counters_.sent_bytes += result.sent_bytes;
  for (const ChunkStoreResult& chunk : result.chunks) {
    if (chunk.outcome == ChunkStoreOutcome::kStored) ++counters_.chunks_stored;
    if (chunk.outcome == ChunkStoreOutcome::kSkipped) ++counters_.chunks_skipped;
    if (chunk.outcome == ChunkStoreOutcome::kDeduplicated) ++counters_.chunks_deduplicated;
    if (chunk.outcome == ChunkStoreOutcome::kKeptExisting) ++counters_.chunks_kept_existing;
    if (chunk.outcome == ChunkStoreOutcome::kRejected) ++counters_.chunks_rejected;
  }
}

void ClientImpl::Count(const RetrieveResult& result) {
  absl::MutexLock lock(&mutex_);
  counters_.chunks_loaded += result.chunks_loaded;
  counters_.tokens_loaded += result.tokens_loaded;
  counters_.received_bytes += result.received_bytes;
  counters_.written_bytes += result.written_bytes;
  for (const ChunkMiss& miss : result.misses) ++counters_.misses[static_cast<size_t>(miss.reason)];
}

}  // namespace kdn
