#ifndef KDN_SERVER_RPC_LIFECYCLE_H_
#define KDN_SERVER_RPC_LIFECYCLE_H_

#include <cstdint>
#include <functional>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace kdn {

// serving <-> draining -> stopping: what the health service and new calls are told; and how many calls are in progress.
// Thread-safe.
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

  void CallStarted() {
    absl::MutexLock lock(&mu_);
    ++calls_;
  }
  void CallEnded() {
    absl::MutexLock lock(&mu_);
    --calls_;
  }
  // Returns when no call is in progress, or after `timeout`.
  void WaitForCalls(absl::Duration timeout) {
    const auto none = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return calls_ == 0; };
    absl::MutexLock lock(&mu_);
    mu_.AwaitWithTimeout(absl::Condition(&none), timeout);
  }

 private:
  mutable absl::Mutex mu_;
  int64_t calls_ ABSL_GUARDED_BY(mu_) = 0;
  State state_ ABSL_GUARDED_BY(mu_) = State::kServing;
  std::function<void(State)> listener_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_LIFECYCLE_H_
