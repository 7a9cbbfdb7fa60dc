#ifndef KDN_CLIENT_KDNCTL_LOOPBACK_BASELINE_H_
#define KDN_CLIENT_KDNCTL_LOOPBACK_BASELINE_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kdn::ctl {

// What a bench compares with: a plain TCP request and response over this machine's loopback, one value of a given size
// at a time, from a thread's memory into the caller's. Not thread-safe: one per worker.
class LoopbackBaseline {
 public:
  static absl::StatusOr<std::unique_ptr<LoopbackBaseline>> Start(uint64_t value_bytes);
  virtual ~LoopbackBaseline() = default;
  // One request, one response of value_bytes.
  virtual absl::Status Fetch() = 0;
};

}  // namespace kdn::ctl

#endif  // KDN_CLIENT_KDNCTL_LOOPBACK_BASELINE_H_
