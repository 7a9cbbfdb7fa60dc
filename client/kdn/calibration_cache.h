#ifndef KDN_CLIENT_KDN_CALIBRATION_CACHE_H_
#define KDN_CLIENT_KDN_CALIBRATION_CACHE_H_

#include <cstdint>
#include <functional>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/kdn/calibration.h"
#include "client/transport/transport.h"
#include "kernels/base/clock.h"

namespace kdn {

// Calibration objects by digest, the longest unused going first. What is in it was verified once. Thread-safe.
class CalibrationCache {
 public:
  // Holds at most `limit_bytes`, beside what its users hold; larger objects are handed out and not kept.
  CalibrationCache(uint64_t limit_bytes, const Clock& clock) : limit_bytes_(limit_bytes), clock_(clock) {}

  // From the cache, or through `fetch`, which at most one caller runs for a digest at a time; what it gives must have
  // that digest (DataLoss). Errors are fetch's; DeadlineExceeded or Cancelled while another caller fetches.
  using Fetch = std::function<absl::StatusOr<std::vector<uint8_t>>()>;
  absl::StatusOr<CalibrationBytes> Get(const Digest& digest, const CallLimits& limits, const Fetch& fetch)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Entry {
    CalibrationBytes bytes;
    uint64_t last_use = 0;
  };

  void Insert(const Digest& digest, const CalibrationBytes& bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint64_t limit_bytes_;
  const Clock& clock_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<Digest, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<Digest> fetching_ ABSL_GUARDED_BY(mutex_);
  uint64_t used_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace kdn

#endif  // KDN_CLIENT_KDN_CALIBRATION_CACHE_H_
