#ifndef KDN_SERVER_CORE_ADMIN_H_
#define KDN_SERVER_CORE_ADMIN_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/core/core_context.h"
#include "server/core/objects.h"

namespace kdn {

// The operator's use cases inside one tenant: list, inspect, pin; and the whole store's probe and figures. Thread-safe.
class Admin {
 public:
  // `objects` outlives it.
  Admin(CoreContext& context, Objects& objects) : c_(context), objects_(objects) {}

  absl::StatusOr<ChunkPage> ListChunks(const Caller& caller, const ChunkFilter& filter);
  absl::StatusOr<ChunkDetails> InspectChunk(const Caller& caller, const Digest& chunk_digest,
                                            ChunkStore::Verify verify);
  absl::Status Pin(const Caller& caller, const Digest& chunk_digest, ChunkStore::PinChange change, uint64_t ttl_ms);
  absl::StatusOr<ModelPage> ListModels(const Caller& caller, const ModelFilter& filter);

  absl::StatusOr<ChunkStore::CompactResult> Compact();
  absl::StatusOr<ChunkStore::ProbeResult> Probe();
  std::vector<TierInfo> Tiers();
  absl::StatusOr<ChunkStore::Totals> GetTotals();

 private:
  ChunkInfo InfoOf(const TenantRef& tenant, const v1::ChunkRecord& row);
  absl::Status InspectPart(const v1::PartRecord& part, ChunkStore::Verify verify, ChunkDetails& details);

  CoreContext& c_;
  Objects& objects_;
};

}  // namespace kdn

#endif  // KDN_SERVER_CORE_ADMIN_H_
