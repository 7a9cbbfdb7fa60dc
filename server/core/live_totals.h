#ifndef KDN_SERVER_CORE_LIVE_TOTALS_H_
#define KDN_SERVER_CORE_LIVE_TOTALS_H_

#include <algorithm>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "storage/evict/chunk_rows.h"

namespace kdn {

// What everything stored amounts to: counted by a first round over the rows, kept up to date by each change, and
// counted again by every later round during which nothing changed. Thread-safe.
class LiveTotals {
 public:
  LiveBytes Get() const {
    absl::MutexLock lock(&mutex_);
    return totals_;
  }

  // A row, or a part of one, went from `before` to `after`.
  void Change(const LiveBytes& before, const LiveBytes& after) {
    absl::MutexLock lock(&mutex_);
    totals_.stored_bytes = Moved(totals_.stored_bytes, before.stored_bytes, after.stored_bytes);
    totals_.raw_bytes = Moved(totals_.raw_bytes, before.raw_bytes, after.raw_bytes);
    changed_in_round_ = true;
  }

  // One round: rows as they are met, then its end.
  void Count(const LiveBytes& rows) {
    absl::MutexLock lock(&mutex_);
    round_ += rows;
  }
  void EndRound() {
    absl::MutexLock lock(&mutex_);
    if (!counted_ || !changed_in_round_) totals_ = round_;
    counted_ = true;
    changed_in_round_ = false;
    round_ = {};
  }

 private:
  // Never below zero: before the first round has ended, what goes was not counted.
  static uint64_t Moved(uint64_t total, uint64_t before, uint64_t after) {
    return total + after - std::min(total + after, before);
  }

  mutable absl::Mutex mutex_;
  LiveBytes totals_ ABSL_GUARDED_BY(mutex_);
  LiveBytes round_ ABSL_GUARDED_BY(mutex_);
  bool changed_in_round_ ABSL_GUARDED_BY(mutex_) = false;
  bool counted_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kdn

#endif  // KDN_SERVER_CORE_LIVE_TOTALS_H_
