#ifndef KDN_SERVER_RPC_TIMER_QUEUE_H_
#define KDN_SERVER_RPC_TIMER_QUEUE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace kdn {

// Runs functions at a point in time, on one thread of its own: they must be short and not block. Thread-safe.
class TimerQueue {
 public:
  using Id = std::pair<absl::Time, uint64_t>;

  TimerQueue();
  ~TimerQueue() { Stop(); }
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;

  Id Schedule(absl::Time when, std::function<void()> function);
  // Drops the functions that are not due and waits for one that runs; no other runs afterwards. Idempotent, from one
  // thread at a time.
  void Stop();

  // Drops the function. False when it runs, has run, or was cancelled before.
  bool Cancel(const Id& id);

 private:
  void Run();

  absl::Mutex mu_;
  absl::CondVar changed_;
  std::map<Id, std::function<void()>> timers_ ABSL_GUARDED_BY(mu_);
  uint64_t next_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_TIMER_QUEUE_H_
