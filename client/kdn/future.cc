#include "client/kdn/future.h"

#include <unistd.h>

#include "absl/time/time.h"
#include "kernels/base/status.h"

namespace kdn::internal {

absl::Status OpenedBeforeFork() { return Unavailable("opened before fork; open a client in this process"); }

OperationState::OperationState() : process_(getpid()) {}

bool OperationState::InOtherProcess() const { return process_ != getpid(); }

bool OperationState::done() const {
  if (InOtherProcess()) return true;
  absl::MutexLock lock(&mutex_);
  return done_;
}

bool OperationState::WaitFor(const bool& flag, int64_t timeout_ms) const {
  if (InOtherProcess()) return true;
  absl::MutexLock lock(&mutex_);
  const absl::Condition condition(&flag);
  if (timeout_ms < 0) {
    mutex_.Await(condition);
    return true;
  }
  return mutex_.AwaitWithTimeout(condition, absl::Milliseconds(timeout_ms));
}

bool OperationState::WaitDone(int64_t timeout_ms) const ABSL_NO_THREAD_SAFETY_ANALYSIS {
  return WaitFor(done_, timeout_ms);
}

bool OperationState::WaitStaged(int64_t timeout_ms) const ABSL_NO_THREAD_SAFETY_ANALYSIS {
  return WaitFor(staged_, timeout_ms);
}

void OperationState::RequestCancel() {
  if (!InOtherProcess()) cancel_token_.Cancel();
}

void OperationState::MarkStaged() {
  absl::MutexLock lock(&mutex_);
  staged_ = true;
}

void OperationState::MarkDone() {
  absl::MutexLock lock(&mutex_);
  staged_ = true;
  done_ = true;
}

}  // namespace kdn::internal
