#ifndef KDN_SERVER_CORE_LOOKUPS_H_
#define KDN_SERVER_CORE_LOOKUPS_H_

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "server/core/core_context.h"

namespace kdn {

// The Lookup and FindMissing use cases: index only. Thread-safe.
class Lookups {
 public:
  explicit Lookups(CoreContext& context) : c_(context) {}

  absl::StatusOr<LookupResult> Lookup(const Caller& caller, const LookupQuery& query);
  absl::StatusOr<std::vector<CellSet>> FindMissing(const Caller& caller, const Fingerprint& fingerprint,
                                                   std::span<const ChunkOffer> offers,
                                                   std::optional<OfferedCoding> coding);

 private:
  using Rows = std::vector<std::optional<v1::ChunkRecord>>;
  // Gets a chunk's index in the query and its row, unset when absent or expired. False ends the visit.
  using RowVisitor = std::function<bool(size_t, const std::optional<v1::ChunkRecord>&)>;

  absl::StatusOr<Rows> ReadRows(const TenantRef& tenant, std::span<const Digest> digests);
  // Holds a batch of rows at a time, not all of them.
  absl::Status VisitRows(const TenantRef& tenant, std::span<const Digest> digests, const RowVisitor& visit);
  absl::StatusOr<LookupResult> LongestPrefix(const TenantRef& tenant, const Model& model, const LookupQuery& query,
                                             const CellSet& wanted);
  absl::StatusOr<LookupResult> WholeSegments(const TenantRef& tenant, const Model& model, const LookupQuery& query,
                                             const CellSet& wanted);

  CoreContext& c_;
};

}  // namespace kdn

#endif  // KDN_SERVER_CORE_LOOKUPS_H_
