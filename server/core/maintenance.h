#ifndef KDN_SERVER_CORE_MAINTENANCE_H_
#define KDN_SERVER_CORE_MAINTENANCE_H_

#include <cstdint>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/core/core_context.h"
#include "storage/evict/expiry_sweeper.h"

namespace kdn {

// What goes on in the background: eviction ahead of need, expiry, syncing in SyncMode::kBatch, noticing that a full
// disk has space again. Start and Stop from one thread; the steps may be driven directly instead (tests).
class Maintenance {
 public:
  explicit Maintenance(CoreContext& context) : c_(context), sweeper_(context.EvictionDependencies()) {}
  ~Maintenance() { Stop(); }

  void Start();
  // Waits until both threads have ended. Idempotent.
  void Stop();

  // One round of everything but syncing. Errors are logged: the next round tries again.
  void HousekeepingStep();
  // Makes what was written since the last call durable: values before the rows that point to them. A failure of the
  // values is returned once.
  absl::Status SyncStep();

 private:
  bool HasSpaceAgain();
  void Sweep();
  // Runs `step` every `interval_ms` until stopped.
  template <typename Step>
  void Loop(int64_t interval_ms, Step step);

  CoreContext& c_;
  ExpirySweeper sweeper_;
  int64_t next_sweep_ms_ = 0;    // wall clock
  uint64_t flush_failures_ = 0;  // as far as SyncStep has told of them
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread housekeeping_thread_;
  std::thread sync_thread_;
};

}  // namespace kdn

#endif  // KDN_SERVER_CORE_MAINTENANCE_H_
