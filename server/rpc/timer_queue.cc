#include "server/rpc/timer_queue.h"

#include "absl/time/clock.h"

namespace kdn {

TimerQueue::TimerQueue() : thread_([this] { Run(); }) {}

void TimerQueue::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    changed_.Signal();
  }
  if (thread_.joinable()) thread_.join();
}

TimerQueue::Id TimerQueue::Schedule(absl::Time when, std::function<void()> function) {
  absl::MutexLock lock(&mu_);
  const Id id{when, next_++};
  const auto it = timers_.emplace(id, std::move(function)).first;
  if (it == timers_.begin()) changed_.Signal();
  return id;
}

bool TimerQueue::Cancel(const Id& id) {
  absl::MutexLock lock(&mu_);
  return timers_.erase(id) > 0;
}

void TimerQueue::Run() {
  mu_.Lock();
  while (!stopping_) {
    if (timers_.empty()) {
      changed_.Wait(&mu_);
      continue;
    }
    const auto first = timers_.begin();
    if (first->first.first > absl::Now()) {
      changed_.WaitWithDeadline(&mu_, first->first.first);
      continue;
    }
    std::function<void()> function = std::move(first->second);
    timers_.erase(first);
    mu_.Unlock();
    function();
    function = nullptr;  // what it holds is destroyed without the lock
    mu_.Lock();
  }
  mu_.Unlock();
}

}  // namespace kdn
