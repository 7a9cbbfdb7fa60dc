#ifndef KDN_SERVER_CORE_CHUNK_STORE_IMPL_H_
#define KDN_SERVER_CORE_CHUNK_STORE_IMPL_H_

#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/core/admin.h"
#include "server/core/chunk_store.h"
#include "server/core/core_context.h"
#include "server/core/deletion.h"
#include "server/core/lookups.h"
#include "server/core/maintenance.h"
#include "server/core/objects.h"
#include "server/core/retrieving.h"
#include "server/core/storing.h"
#include "server/core/texts.h"

namespace kdn {

// The use cases put together over any value store and index. OpenChunkStore makes the one that daemons use.
class ChunkStoreImpl : public ChunkStore {
 public:
  enum class Background { kRun, kNone };  // kNone: who made the store drives maintenance() itself

  ChunkStoreImpl(const ChunkStoreOptions& options, CoreParts parts, Background background);
  ~ChunkStoreImpl() override;

  absl::StatusOr<RegisteredModel> RegisterModel(const Caller& caller, ByteSpan canonical_spec, uint32_t chunk_tokens,
                                                std::string_view display_name) override;
  absl::StatusOr<LookupResult> Lookup(const Caller& caller, const LookupQuery& query) override;
  absl::StatusOr<std::vector<CellSet>> FindMissing(const Caller& caller, const Fingerprint& fingerprint,
                                                   std::span<const ChunkOffer> offers,
                                                   std::optional<OfferedCoding> coding) override;
  absl::StatusOr<StoreOutcome> Store(const Caller& caller, const StoreRequest& request, SharedBytes container) override;
  absl::StatusOr<RetrievedChunk> Retrieve(const Caller& caller, const RetrieveQuery& query) override;
  absl::StatusOr<uint64_t> StoreText(const Caller& caller, const StoreTextRequest& request) override;
  absl::StatusOr<StoredText> LookupText(const Caller& caller, const Fingerprint& fingerprint,
                                        const Digest& text_digest) override;
  absl::StatusOr<PutObjectResult> PutObject(const Caller& caller, const PutObjectRequest& request,
                                            SharedBytes bytes) override;
  absl::StatusOr<StoredObject> GetObject(const Caller& caller, const std::optional<Fingerprint>& fingerprint,
                                         const Digest& digest) override;
  absl::StatusOr<std::vector<ObjectInfo>> ListObjects(const Caller& caller, const Fingerprint& fingerprint) override;
  absl::StatusOr<ObjectInfo> ActivateObject(const Caller& caller, const Fingerprint& fingerprint,
                                            const Digest& digest) override;
  absl::StatusOr<ObjectInfo> DeleteObject(const Caller& caller, const Fingerprint& fingerprint, const Digest& digest,
                                          ObjectDeletion deletion) override;
  absl::StatusOr<ChunkPage> ListChunks(const Caller& caller, const ChunkFilter& filter) override;
  absl::StatusOr<ChunkDetails> InspectChunk(const Caller& caller, const Digest& chunk_digest, Verify verify) override;
  absl::StatusOr<DeleteCounts> Delete(const Caller& caller, const DeleteTarget& target, DeleteMode mode) override;
  absl::Status Pin(const Caller& caller, const Digest& chunk_digest, PinChange change, uint64_t ttl_ms) override;
  absl::StatusOr<ModelPage> ListModels(const Caller& caller, const ModelFilter& filter) override;
  absl::Status Flush() override;
  absl::StatusOr<CompactResult> Compact() override;
  absl::StatusOr<ProbeResult> Probe() override;
  std::vector<TierInfo> Tiers() override;
  absl::StatusOr<Totals> GetTotals() override;
  absl::Status Close() override;

  Maintenance& maintenance() { return maintenance_; }
  CoreContext& context() { return context_; }

 private:
  CoreContext context_;
  Storing storing_;
  Lookups lookups_;
  Retrieving retrieving_;
  Texts texts_;
  Objects objects_;
  Admin admin_;
  Deletion deletion_;
  Maintenance maintenance_;
  absl::Mutex close_mutex_;
  bool closed_ ABSL_GUARDED_BY(close_mutex_) = false;
};

}  // namespace kdn

#endif  // KDN_SERVER_CORE_CHUNK_STORE_IMPL_H_
