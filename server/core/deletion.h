#ifndef KDN_SERVER_CORE_DELETION_H_
#define KDN_SERVER_CORE_DELETION_H_

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/core/core_context.h"

namespace kdn {

// Deletion by name: of a chunk, a document, a model. Each leaves a tombstone among the values, so that a rebuild of the
// index does not bring back what was deleted. Thread-safe.
class Deletion {
 public:
  explicit Deletion(CoreContext& context) : c_(context) {}

  absl::StatusOr<DeleteCounts> Delete(const Caller& caller, const DeleteTarget& target, DeleteMode mode);

 private:
  struct Victims;
  using TextFilter = std::function<bool(const v1::TextRecord&)>;

  absl::StatusOr<DeleteCounts> DeleteChunk(const TenantRef& tenant, const Digest& chunk_digest, DeleteMode mode);
  absl::StatusOr<DeleteCounts> DeleteDocument(const TenantRef& tenant, const std::string& document, DeleteMode mode);
  absl::StatusOr<DeleteCounts> DeleteModel(const TenantRef& tenant, const Fingerprint& fingerprint, DeleteMode mode);
  absl::Status FindTexts(const TenantRef& tenant, const TextFilter& matches, Victims& victims);
  absl::StatusOr<DeleteCounts> Remove(const TenantRef& tenant, const Victims& victims, const std::string& document);
  // Tombstones first, then the rows, while the evictor moves nothing.
  absl::Status RemoveChunks(const TenantRef& tenant, std::span<const Digest> keys, const std::string& document,
                            DeleteCounts& counts);
  absl::Status RemoveTexts(const TenantRef& tenant, std::span<const Digest> keys, DeleteCounts& counts);
  enum class Tombstone { kNone, kWritten };
  absl::Status RemoveChunk(const TenantRef& tenant, const Digest& storage_key, const std::string& document,
                           Tombstone tombstone, DeleteCounts& counts);
  // Writes the row's values anew: a rebuild takes away what is older than a tombstone.
  absl::Status WriteAnew(const TenantRef& tenant, const Digest& storage_key, v1::ChunkRecord& row);
  absl::Status RemoveText(const ChunkKey& key, DeleteCounts& counts);
  absl::Status RemoveModelRow(const TenantRef& tenant, const Fingerprint& fingerprint);

  CoreContext& c_;
};

}  // namespace kdn

#endif  // KDN_SERVER_CORE_DELETION_H_
