#include "client/transport/server_watch.h"

#include <algorithm>
#include <utility>

#include "absl/time/time.h"
#include "kernels/base/status.h"

namespace kdn {

ServerWatch::ServerWatch(int64_t dead_after_ms, const Clock& clock, Probe probe)
    : dead_after_ms_(dead_after_ms), clock_(clock), probe_(std::move(probe)) {}

ServerWatch::~ServerWatch() {
  std::thread thread;
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
    wake_.SignalAll();
    thread = std::move(thread_);
  }
  if (thread.joinable()) thread.join();
}

absl::Status ServerWatch::Admit() {
  absl::MutexLock lock(&mutex_);
  if (stats_.breaker == BreakerState::kClosed) return absl::OkStatus();
  ++stats_.refused_by_breaker;
  return Unavailable("not tried, the server was found dead: ", reason_);
}

void ServerWatch::ReportDead(std::string_view reason) {
  absl::MutexLock lock(&mutex_);
  OpenLocked(reason);
}

TransportStats ServerWatch::stats() const {
  absl::MutexLock lock(&mutex_);
  return stats_;
}

void ServerWatch::OpenLocked(std::string_view reason) {
  if (stats_.breaker == BreakerState::kOpen || stop_) return;
  stats_.breaker = BreakerState::kOpen;
  ++stats_.breaker_opened;
  reason_ = std::string(reason);
  probe_pause_ms_ = kFirstProbePauseMs;
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  wake_.SignalAll();
}

void ServerWatch::Run() {
  absl::MutexLock lock(&mutex_);
  while (!stop_) {
    if (stats_.breaker == BreakerState::kOpen) {
      TryToClose();
    } else if (calls_.empty()) {
      asleep_ = true;
      wake_.Wait(&mutex_);
      asleep_ = false;
    } else {
      CheckCalls();
    }
  }
}

bool ServerWatch::ProbeUnlocked(int64_t timeout_ms) {
  mutex_.Unlock();
  const bool alive = probe_(std::max<int64_t>(timeout_ms, 1));
  mutex_.Lock();
  return alive;
}

void ServerWatch::TryToClose() {
  wake_.WaitWithTimeout(&mutex_, absl::Milliseconds(probe_pause_ms_));
  if (stop_) return;
  if (ProbeUnlocked(dead_after_ms_)) {
    stats_.breaker = BreakerState::kClosed;
    return;
  }
  probe_pause_ms_ = std::min(probe_pause_ms_ * 2, kMaxProbePauseMs);
}

void ServerWatch::CheckCalls() {
  const auto due = [](const Call* call) {
    call->watch_.mutex_.AssertHeld();
    return call->heard_nanos_.load(std::memory_order_relaxed) + call->patience_nanos_;
  };
  const int64_t now = clock_.MonotonicNanos();
  int64_t wait = Patience();
  for (const Call* call : calls_) wait = std::min(wait, due(call) - now);
  if (wait > 0) {
    wake_.WaitWithTimeout(&mutex_, absl::Nanoseconds(wait));
    return;
  }
  const bool alive = ProbeUnlocked(dead_after_ms_ / 2);
  if (alive) {
    for (Call* call : calls_) {
      if (due(call) > now) continue;
      call->patience_nanos_ = std::min(call->patience_nanos_ * 2, Patience() * kMaxPatienceFactor);
      call->Heard();
    }
    return;
  }
  bool dead = false;
  for (Call* call : calls_) {
    // Started or heard of after the probe began: no proof of death.
    if (call->heard_nanos_.load(std::memory_order_relaxed) >= now || call->given_up_.exchange(true)) continue;
    dead = true;
    call->give_up_();
  }
  if (dead) OpenLocked(StrCat("no answer for ", dead_after_ms_, " ms, nor to a health check"));
}

ServerWatch::Call::Call(ServerWatch& watch, std::function<void()> give_up)
    : watch_(watch), give_up_(std::move(give_up)), heard_nanos_(watch.clock_.MonotonicNanos()) {
  absl::MutexLock lock(&watch_.mutex_);
  patience_nanos_ = watch_.Patience();
  place_ = watch_.calls_.insert(watch_.calls_.end(), this);
  if (!watch_.thread_.joinable()) watch_.thread_ = std::thread([this_watch = &watch_] { this_watch->Run(); });
  if (watch_.asleep_) watch_.wake_.SignalAll();
}

ServerWatch::Call::~Call() {
  absl::MutexLock lock(&watch_.mutex_);
  watch_.calls_.erase(place_);
}

}  // namespace kdn
