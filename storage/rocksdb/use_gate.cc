#include "storage/rocksdb/use_gate.h"

#include "absl/time/time.h"
#include "kernels/base/status.h"

namespace kdn {

absl::StatusOr<UseGate::Use> UseGate::Enter() {
  absl::MutexLock lock(&mutex_);
  const auto open = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !paused_; };
  mutex_.Await(absl::Condition(&open));
  if (shut_) return Unavailable(what_, " is closed");
  ++users_;
  return Use(*this);
}

void UseGate::Leave() {
  absl::MutexLock lock(&mutex_);
  --users_;
}

bool UseGate::TryPause(int64_t patience_ms) {
  absl::MutexLock lock(&mutex_);
  if (shut_ || paused_) return false;
  paused_ = true;
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return users_ == 0; };
  if (mutex_.AwaitWithTimeout(absl::Condition(&idle), absl::Milliseconds(patience_ms))) return true;
  paused_ = false;
  return false;
}

void UseGate::Unpause() {
  absl::MutexLock lock(&mutex_);
  paused_ = false;
}

void UseGate::Shut() {
  absl::MutexLock lock(&mutex_);
  shut_ = true;
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return users_ == 0 && !paused_; };
  mutex_.Await(absl::Condition(&idle));
}

}  // namespace kdn
