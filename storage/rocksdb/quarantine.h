#ifndef KDN_STORAGE_ROCKSDB_QUARANTINE_H_
#define KDN_STORAGE_ROCKSDB_QUARANTINE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "rocksdb/env.h"

namespace kdn {

struct QuarantineRule {
  std::string parent;  // folder that holds the damaged one
  std::string name;    // of the damaged folder
  int64_t unix_seconds = 0;
  size_t max_kept = 1;  // older quarantined folders of that name beyond this number are removed
};

// Renames parent/name to parent/name.quarantined-<unix seconds>-<n>, durably, and returns the new path. <n> counts up
// over all that are kept, since clocks jump.
absl::StatusOr<std::string> Quarantine(rocksdb::Env& env, const QuarantineRule& rule);

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_QUARANTINE_H_
