#ifndef KDN_SERVER_RPC_LIFECYCLE_H_
#define KDN_SERVER_RPC_LIFECYCLE_H_

#include <functional>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace kdn {

// serving <-> draining -> stopping: what the health service and new calls are told. Thread-safe.
class Lifecycle {
 public:
  enum class State { kServing, kDraining, kStopping };

  State state() const {
    absl::MutexLock lock(&mu_);
    return state_;
  }

  // Calls `listener` with the state now and at each change, one at a time. It must not call back.
  void Listen(std::function<void(State)> listener) {
    absl::MutexLock lock(&mu_);
    listener_ = std::move(listener);
    if (listener_) listener_(state_);
  }

  // The state after it: kStopping is final.
  State Change(State to) {
    absl::MutexLock lock(&mu_);
    if (state_ == State::kStopping || state_ == to) return state_;
    state_ = to;
    if (listener_) listener_(state_);
    return state_;
  }

 private:
  mutable absl::Mutex mu_;
  State state_ ABSL_GUARDED_BY(mu_) = State::kServing;
  std::function<void(State)> listener_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_LIFECYCLE_H_
