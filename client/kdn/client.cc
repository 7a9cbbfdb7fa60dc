#include "client/kdn/client.h"

#include <utility>

#include "client/kdn/client_impl.h"
#include "client/kdn/retrieve_operation.h"
#include "client/kdn/span_plan.h"
#include "client/kdn/store_operation.h"
#include "client/transport/grpc_transport.h"
#include "kernels/base/status.h"
#include "kernels/codec/tile_codec.h"

namespace kdn {
namespace {

constexpr uint64_t kMinPoolBytes = uint64_t{1} << 20;

absl::Status CheckRange(std::string_view name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return InvalidArgument(name, " is ", value, ", not in ", low, "..", high);
}

absl::Status ValidateOptions(const ClientOptions& options) {
  KDN_RETURN_IF_ERROR(CheckRange("call_timeout_ms", options.call_timeout_ms, 1, kMaxTimeoutMs));
  KDN_RETURN_IF_ERROR(CheckRange("transfer_timeout_ms", options.transfer_timeout_ms, 1, kMaxTimeoutMs));
  KDN_RETURN_IF_ERROR(CheckRange("transfer_threads", options.transfer_threads, 1, kMaxTransferThreads));
  KDN_RETURN_IF_ERROR(CheckRange("codec_threads", options.codec_threads, 0, kMaxCodecThreads));
  if (options.staging_bytes < kMinPoolBytes || options.receive_bytes < kMinPoolBytes) {
    return InvalidArgument("staging_bytes is ", options.staging_bytes, ", receive_bytes ", options.receive_bytes,
                           ": each at least ", kMinPoolBytes);
  }
  return CheckEncodable(options.profile);
}

}  // namespace

std::string_view ChunkStoreOutcomeName(ChunkStoreOutcome outcome) {
  switch (outcome) {
    case ChunkStoreOutcome::kStored:
      return "stored";
    case ChunkStoreOutcome::kDeduplicated:
      return "deduplicated";
    case ChunkStoreOutcome::kKeptExisting:
      return "kept_existing";
    case ChunkStoreOutcome::kRejected:
      return "rejected";
    case ChunkStoreOutcome::kSkipped:
      return "skipped";
  }
  return "unknown";
}

std::unique_ptr<Client> ClientImpl::MakeClient(const ClientOptions& options, std::unique_ptr<Transport> transport,
                                               const Clock& clock) {
  return std::unique_ptr<Client>(new Client(std::make_unique<ClientImpl>(options, std::move(transport), clock)));
}

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const ClientOptions& options) {
  KDN_RETURN_IF_ERROR(ValidateOptions(options));
  GrpcTransportOptions link;
  link.endpoint = options.endpoint;
  link.dead_after_ms = options.dead_after_ms;
  link.on_refusal = options.on_refusal;
  link.channels = options.channels;
  link.tls = options.tls;
  link.token = options.token;
  KDN_ASSIGN_OR_RETURN(std::unique_ptr<GrpcTransport> transport, GrpcTransport::Create(link, Clock::System()));
  return ClientImpl::MakeClient(options, std::move(transport), Clock::System());
}

Client::Client(std::unique_ptr<ClientImpl> impl) : impl_(std::move(impl)) {}

Client::~Client() {
  // In a forked child the threads are gone and their locks may be held for good: nothing can be taken down.
  if (impl_ != nullptr && impl_->InOtherProcess()) static_cast<void>(impl_.release());
}

absl::StatusOr<ModelHandle> Client::RegisterModel(const ModelSpec& spec, uint32_t chunk_tokens,
                                                  std::string_view display_name) {
  return impl_->RegisterModel(spec, chunk_tokens, display_name);
}

absl::StatusOr<LookupResult> Client::Lookup(const ModelHandle& model, std::span<const uint32_t> token_ids,
                                            const LookupOptions& options) {
  return impl_->Lookup(model, token_ids, options);
}

Future<StoreResult> Client::Store(const ModelHandle& model, std::span<const uint32_t> token_ids, const KvView& view,
                                  const StoreOptions& options) {
  return Future<StoreResult>(StartStore(*impl_, {model, token_ids, view, options}, nullptr, {}));
}

Future<StoreResult> Client::StoreText(const ModelHandle& model, const TextRef& text,
                                      std::span<const uint32_t> token_ids, const KvView& view,
                                      const StoreOptions& options) {
  return Future<StoreResult>(StartStore(*impl_, {model, token_ids, view, options}, &text, {}));
}

Future<RetrieveResult> Client::Retrieve(const ModelHandle& model, std::span<const uint32_t> token_ids,
                                        const KvView& destination, const RetrieveOptions& options) {
  auto job = std::make_shared<RetrieveJob>(model, destination, options);
  job->token_ids.assign(token_ids.begin(), token_ids.end());
  return Future<RetrieveResult>(StartRetrieve(*impl_, job, {}));
}

Future<RetrieveResult> Client::RetrieveText(const ModelHandle& model, const TextRef& text, const KvView& destination,
                                            const RetrieveOptions& options) {
  auto job = std::make_shared<RetrieveJob>(model, destination, options);
  job->text = RetrieveJob::Text{std::string(text.utf8), std::string(text.special_token_policy)};
  return Future<RetrieveResult>(StartRetrieve(*impl_, job, {}));
}

absl::StatusOr<TextLookup> Client::LookupText(const ModelHandle& model, const TextRef& text,
                                              const LookupOptions& options) {
  return impl_->LookupText(model, text, options);
}

absl::StatusOr<std::vector<FetchedContainer>> Client::FetchContainers(const ModelHandle& model,
                                                                      std::span<const ContainerFetch> fetches,
                                                                      const FetchOptions& options) {
  return impl_->FetchContainers(model, fetches, options);
}

absl::StatusOr<std::vector<uint8_t>> Client::FetchContainer(const ModelHandle& model, const Digest& chunk_digest,
                                                            const FetchOptions& options) {
  return FetchOneContainer(*impl_, model, chunk_digest, options);
}

absl::StatusOr<std::vector<ChunkStoreResult>> Client::PutContainers(const ModelHandle& model,
                                                                    std::span<const ByteSpan> containers,
                                                                    const PutOptions& options) {
  return impl_->PutContainers(model, containers, options);
}

absl::StatusOr<PutCalibrationResult> Client::PutCalibration(const Fingerprint& fingerprint, ByteSpan bytes,
                                                            const PutCalibrationOptions& options) {
  return impl_->PutCalibration(fingerprint, bytes, options);
}

absl::StatusOr<CalibrationBytes> Client::GetCalibration(const std::optional<Fingerprint>& fingerprint,
                                                        const Digest& digest, int64_t timeout_ms) {
  return impl_->GetCalibration(fingerprint, digest, timeout_ms);
}

absl::StatusOr<std::vector<CalibrationInfo>> Client::ListCalibrations(const Fingerprint& fingerprint,
                                                                      int64_t timeout_ms) {
  return impl_->ListCalibrations(fingerprint, timeout_ms);
}

absl::StatusOr<CalibrationInfo> Client::ActivateCalibration(const Fingerprint& fingerprint, const Digest& digest,
                                                            int64_t timeout_ms) {
  return impl_->ActivateCalibration(fingerprint, digest, timeout_ms);
}

absl::Status Client::DeleteCalibration(const Fingerprint& fingerprint, const Digest& digest,
                                       CalibrationDeletion deletion, int64_t timeout_ms) {
  return impl_->DeleteCalibration(fingerprint, digest, deletion, timeout_ms);
}

absl::StatusOr<std::vector<ChunkId>> Client::Chunks(const ModelHandle& model, std::span<const uint32_t> token_ids,
                                                    const SpanOptions& options) {
  const uint64_t rest = token_ids.size() - std::min<uint64_t>(options.first_token, token_ids.size());
  KDN_ASSIGN_OR_RETURN(SpanPlan plan, PlanSpan(model, token_ids, options, rest));
  return std::move(plan.chunks);
}

Admin& Client::admin() { return impl_->admin(); }
ClientCounters Client::counters() const { return impl_->counters(); }
const ClientOptions& Client::options() const { return impl_->options(); }

}  // namespace kdn
