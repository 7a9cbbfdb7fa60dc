#include "client/kdn/calibration_cache.h"

#include <algorithm>
#include <utility>

#include "absl/time/time.h"
#include "kernels/base/status.h"

namespace kdn {

absl::StatusOr<CalibrationBytes> CalibrationCache::Get(const Digest& digest, const CallLimits& limits,
                                                       const Fetch& fetch) {
  {
    const ScopedCancelCallback on_cancel(limits.cancel, [this] { absl::MutexLock wake(&mutex_); });
    const auto ready = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return !fetching_.contains(digest) || (limits.cancel != nullptr && limits.cancel->cancelled());
    };
    absl::MutexLock lock(&mutex_);
    const int64_t left_nanos = limits.deadline_nanos - clock_.MonotonicNanos();
    if (!mutex_.AwaitWithTimeout(absl::Condition(&ready), absl::Nanoseconds(std::max<int64_t>(0, left_nanos)))) {
      return DeadlineExceeded("deadline passed while calibration object ", digest.ToShortHex(), " was fetched");
    }
    if (limits.cancel != nullptr && limits.cancel->cancelled()) return Cancelled("cancelled by the caller");
    const auto found = entries_.find(digest);
    if (found != entries_.end()) {
      found->second.last_use = ++uses_;
      return found->second.bytes;
    }
    fetching_.insert(digest);
  }
  absl::StatusOr<std::vector<uint8_t>> fetched = fetch();
  absl::Status status = fetched.status();
  if (fetched.ok() && Sha256::Of(*fetched) != digest) {
    status = DataLoss("calibration object ", digest.ToShortHex(), " arrived with other bytes");
  }
  CalibrationBytes bytes;
  if (status.ok()) bytes = std::make_shared<const std::vector<uint8_t>>(*std::move(fetched));
  absl::MutexLock lock(&mutex_);
  fetching_.erase(digest);
  if (!status.ok()) return status;
  Insert(digest, bytes);
  return bytes;
}

void CalibrationCache::Insert(const Digest& digest, const CalibrationBytes& bytes) {
  if (bytes->size() > limit_bytes_) return;
  while (used_bytes_ + bytes->size() > limit_bytes_) {
    const auto oldest = std::min_element(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) {
      return a.second.last_use < b.second.last_use;
    });
    used_bytes_ -= oldest->second.bytes->size();
    entries_.erase(oldest);
  }
  used_bytes_ += bytes->size();
  entries_[digest] = {bytes, ++uses_};
}

}  // namespace kdn
