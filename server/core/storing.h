#ifndef KDN_SERVER_CORE_STORING_H_
#define KDN_SERVER_CORE_STORING_H_

#include <optional>

#include "absl/status/statusor.h"
#include "server/core/chunk_cells.h"
#include "server/core/core_context.h"

namespace kdn {

// The Store and RegisterModel use cases. Thread-safe.
class Storing {
 public:
  explicit Storing(CoreContext& context) : c_(context) {}

  absl::StatusOr<RegisteredModel> RegisterModel(const Caller& caller, ByteSpan canonical_spec, uint32_t chunk_tokens,
                                                std::string_view display_name);
  absl::StatusOr<StoreOutcome> Store(const Caller& caller, const StoreRequest& request, const SharedBytes& container);

 private:
  struct Upload;

  absl::StatusOr<StoreOutcome> StoreChecked(const Upload& upload);
  // Under the row's lock. Unset when there is something to write and `admission` is empty and could not be filled.
  absl::StatusOr<std::optional<StoreOutcome>> StoreLocked(const Upload& upload, std::optional<Admission>& admission);
  absl::StatusOr<StoreOutcome> KeepRow(const Upload& upload, const v1::ChunkRecord& row, const StorePlan& plan);
  absl::StatusOr<StoreOutcome> WritePart(const Upload& upload, const std::optional<v1::ChunkRecord>& row,
                                         const StorePlan& plan);
  void TouchParent(const Upload& upload);
  absl::Status WriteModel(const TenantRef& tenant, const ModelRef& model);

  CoreContext& c_;
};

}  // namespace kdn

#endif  // KDN_SERVER_CORE_STORING_H_
