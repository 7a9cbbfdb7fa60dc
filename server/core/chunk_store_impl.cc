#include "server/core/chunk_store_impl.h"

#include <utility>

#include "kernels/base/log.h"
#include "kernels/base/status.h"

namespace kdn {

std::string_view MissReasonName(MissReason reason) {
  switch (reason) {
    case MissReason::kAbsent:
      return "absent";
    case MissReason::kExpired:
      return "expired";
    case MissReason::kEvicted:
      return "evicted";
    case MissReason::kCorrupt:
      return "corrupt";
    case MissReason::kIncompatible:
      return "incompatible";
    case MissReason::kTimeout:
      return "timeout";
    case MissReason::kOverBudget:
      return "over_budget";
    case MissReason::kIncomplete:
      return "incomplete";
  }
  return "unknown";
}

ChunkStoreImpl::ChunkStoreImpl(const ChunkStoreOptions& options, CoreParts parts, Background background)
    : context_(options, std::move(parts)),
      storing_(context_),
      lookups_(context_),
      retrieving_(context_),
      texts_(context_),
      objects_(context_),
      admin_(context_, objects_),
      deletion_(context_),
      maintenance_(context_) {
  if (background == Background::kRun) maintenance_.Start();
}

ChunkStoreImpl::~ChunkStoreImpl() {
  const absl::Status closed = Close();
  if (!closed.ok()) Log(LogLevel::kError, "closing the store failed", {{"error", closed.ToString()}});
}

absl::StatusOr<RegisteredModel> ChunkStoreImpl::RegisterModel(const Caller& caller, ByteSpan canonical_spec,
                                                              uint32_t chunk_tokens, std::string_view display_name) {
  return storing_.RegisterModel(caller, canonical_spec, chunk_tokens, display_name);
}

absl::StatusOr<LookupResult> ChunkStoreImpl::Lookup(const Caller& caller, const LookupQuery& query) {
  return lookups_.Lookup(caller, query);
}

absl::StatusOr<std::vector<CellSet>> ChunkStoreImpl::FindMissing(const Caller& caller, const Fingerprint& fingerprint,
                                                                 std::span<const ChunkOffer> offers,
                                                                 std::optional<OfferedCoding> coding) {
  return lookups_.FindMissing(caller, fingerprint, offers, coding);
}

absl::StatusOr<StoreOutcome> ChunkStoreImpl::Store(const Caller& caller, const StoreRequest& request,
                                                   SharedBytes container) {
  return storing_.Store(caller, request, container);
}

absl::StatusOr<RetrievedChunk> ChunkStoreImpl::Retrieve(const Caller& caller, const RetrieveQuery& query) {
  return retrieving_.Retrieve(caller, query);
}

absl::StatusOr<uint64_t> ChunkStoreImpl::StoreText(const Caller& caller, const StoreTextRequest& request) {
  return texts_.Store(caller, request);
}

absl::StatusOr<StoredText> ChunkStoreImpl::LookupText(const Caller& caller, const Fingerprint& fingerprint,
                                                      const Digest& text_digest) {
  return texts_.Lookup(caller, fingerprint, text_digest);
}

absl::StatusOr<PutObjectResult> ChunkStoreImpl::PutObject(const Caller& caller, const PutObjectRequest& request,
                                                          SharedBytes bytes) {
  return objects_.Put(caller, request, bytes);
}

absl::StatusOr<StoredObject> ChunkStoreImpl::GetObject(const Caller& caller,
                                                       const std::optional<Fingerprint>& fingerprint,
                                                       const Digest& digest) {
  return objects_.Get(caller, fingerprint, digest);
}

absl::StatusOr<std::vector<ObjectInfo>> ChunkStoreImpl::ListObjects(const Caller& caller,
                                                                    const Fingerprint& fingerprint) {
  return objects_.List(caller, fingerprint);
}

absl::StatusOr<ObjectInfo> ChunkStoreImpl::ActivateObject(const Caller& caller, const Fingerprint& fingerprint,
                                                          const Digest& digest) {
  return objects_.Activate(caller, fingerprint, digest);
}

absl::StatusOr<ObjectInfo> ChunkStoreImpl::DeleteObject(const Caller& caller, const Fingerprint& fingerprint,
                                                        const Digest& digest, ObjectDeletion deletion) {
  return objects_.Delete(caller, fingerprint, digest, deletion);
}

absl::StatusOr<ChunkPage> ChunkStoreImpl::ListChunks(const Caller& caller, const ChunkFilter& filter) {
  return admin_.ListChunks(caller, filter);
}

absl::StatusOr<ChunkDetails> ChunkStoreImpl::InspectChunk(const Caller& caller, const Digest& chunk_digest,
                                                          Verify verify) {
  return admin_.InspectChunk(caller, chunk_digest, verify);
}

absl::StatusOr<DeleteCounts> ChunkStoreImpl::Delete(const Caller& caller, const DeleteTarget& target, DeleteMode mode) {
  return deletion_.Delete(caller, target, mode);
}

absl::Status ChunkStoreImpl::Pin(const Caller& caller, const Digest& chunk_digest, PinChange change, uint64_t ttl_ms) {
  return admin_.Pin(caller, chunk_digest, change, ttl_ms);
}

absl::StatusOr<ModelPage> ChunkStoreImpl::ListModels(const Caller& caller, const ModelFilter& filter) {
  return admin_.ListModels(caller, filter);
}

absl::Status ChunkStoreImpl::Flush() {
  KDN_RETURN_IF_ERROR(context_.values().Sync(0));
  return context_.index().Sync();
}

absl::StatusOr<ChunkStore::CompactResult> ChunkStoreImpl::Compact() { return admin_.Compact(); }

absl::StatusOr<ChunkStore::ProbeResult> ChunkStoreImpl::Probe() { return admin_.Probe(); }

std::vector<TierInfo> ChunkStoreImpl::Tiers() { return admin_.Tiers(); }

absl::StatusOr<ChunkStore::Totals> ChunkStoreImpl::GetTotals() { return admin_.GetTotals(); }

absl::Status ChunkStoreImpl::Close() {
  absl::MutexLock lock(&close_mutex_);
  if (closed_) return absl::OkStatus();
  closed_ = true;
  maintenance_.Stop();
  // Values first: no row may become durable before what it points to.
  absl::Status status = context_.values().Sync(0);
  status.Update(context_.index().Close());
  status.Update(context_.values().Close());
  return status;
}

}  // namespace kdn
