#include "storage/rocksdb/use_gate.h"

#include "kernels/base/status.h"

namespace kdn {

absl::StatusOr<UseGate::Use> UseGate::Enter() {
  absl::MutexLock lock(&mutex_);
  if (shut_) return Unavailable(what_, " is closed");
  ++users_;
  return Use(*this);
}

void UseGate::Leave() {
  absl::MutexLock lock(&mutex_);
  --users_;
}

void UseGate::Shut() {
  absl::MutexLock lock(&mutex_);
  shut_ = true;
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return users_ == 0; };
  mutex_.Await(absl::Condition(&idle));
}

}  // namespace kdn
