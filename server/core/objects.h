#ifndef KDN_SERVER_CORE_OBJECTS_H_
#define KDN_SERVER_CORE_OBJECTS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "server/core/core_context.h"

namespace kdn {

// Calibration objects: stored as pinned rows among the chunks' (record.proto), under a key of a digest of
// their own, which no chunk has unless a client of the same tenant names one so on purpose. An object is activated by
// writing its value anew with a higher activation number, so that a rebuild of the index finds the same one active.
// Thread-safe.
class Objects {
 public:
  explicit Objects(CoreContext& context) : c_(context) {}

  absl::StatusOr<PutObjectResult> Put(const Caller& caller, const PutObjectRequest& request, const SharedBytes& bytes);
  absl::StatusOr<StoredObject> Get(const Caller& caller, const std::optional<Fingerprint>& fingerprint,
                                   const Digest& digest);
  absl::StatusOr<std::vector<ObjectInfo>> List(const Caller& caller, const Fingerprint& fingerprint);
  absl::StatusOr<ObjectInfo> Activate(const Caller& caller, const Fingerprint& fingerprint, const Digest& digest);
  absl::StatusOr<ObjectInfo> Delete(const Caller& caller, const Fingerprint& fingerprint, const Digest& digest,
                                    ChunkStore::ObjectDeletion deletion);

  // Of every tenant.
  struct Totals {
    uint64_t objects = 0;
    uint64_t object_bytes = 0;
  };
  absl::StatusOr<Totals> Count();

  // What the row of an object is found by.
  static ChunkKey KeyOf(const TenantRef& tenant, const Fingerprint& fingerprint, const Digest& digest);

 private:
  struct Row;  // an object's row with its key

  absl::StatusOr<std::vector<Row>> ReadRows(const TenantRef& tenant, const Fingerprint& fingerprint);
  static std::vector<ObjectInfo> InfosOf(const std::vector<Row>& rows);
  // The bytes of the row's value; nullopt when they are damaged or gone, which is counted and takes the row away.
  absl::StatusOr<std::optional<SharedBytes>> ReadValue(const ChunkKey& key, const v1::ChunkRecord& row);
  absl::StatusOr<std::optional<StoredObject>> Find(const TenantRef& tenant, const Fingerprint& fingerprint,
                                                   const Digest& digest);
  // The model that has it; NotFound when none does.
  absl::StatusOr<Fingerprint> FindModelOf(const TenantRef& tenant, const Digest& digest);
  absl::Status CheckRoom(const TenantRef& tenant, const Fingerprint& fingerprint, uint64_t bytes);
  // Writes value and row, durably. `previous` is the row as it was read, if there was one; Aborted when it is another
  // one by now.
  absl::Status Write(const TenantRef& tenant, const ChunkKey& key, v1::ChunkRecord row,
                     const std::optional<v1::ChunkRecord>& previous, const SharedBytes& bytes);
  // The activation number of the active one of a kind, 0 without one.
  static uint64_t HighestActivation(const std::vector<Row>& rows, uint32_t kind);
  // Activates an object that is there.
  absl::Status ActivateRow(const TenantRef& tenant, const Row& row, const std::vector<Row>& rows);
  absl::StatusOr<ObjectInfo> InfoOf(const TenantRef& tenant, const Fingerprint& fingerprint, const Digest& digest);
  absl::Status Remove(const TenantRef& tenant, const ChunkKey& key);

  CoreContext& c_;
  // Held by whoever changes objects. Before any KeyLocks and the evictor's step.
  absl::Mutex change_mutex_;
};

}  // namespace kdn

#endif  // KDN_SERVER_CORE_OBJECTS_H_
