#ifndef KDN_STORAGE_ROCKSDB_TENANT_FILE_H_
#define KDN_STORAGE_ROCKSDB_TENANT_FILE_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "kdn/v1/record.pb.h"
#include "rocksdb/env.h"
#include "storage/index/chunk_index.h"

// The tenants' secrets, without which nothing stored can be asked for: kept beside the index in two equal copies, so
// that neither a damaged index nor a damaged file loses them. Not thread-safe.

namespace kdn {

using TenantMap = std::map<TenantId, v1::TenantRecord>;

class TenantFile {
 public:
  // `env` is borrowed. The copies are `<path>/tenants` and `<path>/tenants.copy`.
  TenantFile(rocksdb::Env& env, const std::string& path);

  struct Loaded {
    TenantMap tenants;  // of all intact copies together
    int intact_copies = 0;
    int damaged_copies = 0;  // present, but unreadable
  };
  // Errors are those of the machine; damage is reported in the result. FailedPrecondition for a later version's file.
  absl::StatusOr<Loaded> Load();

  // Replaces one copy after the other: at any moment one is intact.
  absl::Status Save(const TenantMap& tenants);

  // Moves unreadable copies out of the way (`.damaged`), so that an expert may look at them.
  void SetDamagedAside();

 private:
  rocksdb::Env& env_;
  const std::string copies_[2];
};

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_TENANT_FILE_H_
