#ifndef KDN_STORAGE_ROCKSDB_USE_GATE_H_
#define KDN_STORAGE_ROCKSDB_USE_GATE_H_

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace kdn {

// Keeps a database open while calls use it. Thread-safe; calls may nest.
class UseGate {
 public:
  class Use {
   public:
    explicit Use(UseGate& gate) : gate_(&gate) {}
    Use(Use&& other) noexcept : gate_(other.gate_) { other.gate_ = nullptr; }
    Use& operator=(Use&&) = delete;
    ~Use() {
      if (gate_ != nullptr) gate_->Leave();
    }

   private:
    UseGate* gate_;
  };

  // `what` is the name of the database in messages.
  explicit UseGate(std::string what) : what_(std::move(what)) {}

  // Unavailable once Shut was called. Waits while paused.
  absl::StatusOr<Use> Enter();
  // Waits until every Use is gone and lets nobody in until Unpause. False, with nothing changed, when that takes longer
  // than `patience_ms` (a caller may hold a Use itself) or the gate is shut.
  bool TryPause(int64_t patience_ms);
  void Unpause();
  // Waits until every Use is gone and lets nobody in any more. Idempotent.
  void Shut();

 private:
  void Leave();

  const std::string what_;
  absl::Mutex mutex_;
  int users_ ABSL_GUARDED_BY(mutex_) = 0;
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  bool shut_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kdn

#endif  // KDN_STORAGE_ROCKSDB_USE_GATE_H_
