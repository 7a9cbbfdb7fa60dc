#ifndef KDN_CLIENT_TRANSPORT_SERVER_WATCH_H_
#define KDN_CLIENT_TRANSPORT_SERVER_WATCH_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <string>
#include <string_view>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "client/transport/transport_stats.h"
#include "kernels/base/clock.h"

namespace kdn {

// The circuit breaker of one server. It opens when a connection cannot be made, or when a call hears nothing for half
// of dead_after_ms and a probe goes unanswered for the other half; then every call is refused at once, and calls that
// hear nothing are given up, until a probe succeeds. A busy server that still answers probes is never given up.
//
// Thread-safe. Its one thread starts with the first call and runs the probes.
class ServerWatch {
 public:
  // Asks the server for a sign of life, blocking for at most `timeout_ms`. True when it gave one.
  using Probe = std::function<bool(int64_t timeout_ms)>;

  static constexpr int64_t kFirstProbePauseMs = 50;
  static constexpr int64_t kMaxProbePauseMs = 1000;
  static constexpr int64_t kMaxPatienceFactor = 16;

  ServerWatch(int64_t dead_after_ms, const Clock& clock, Probe probe);
  // Waits for a probe under way. No Call may exist any more.
  ~ServerWatch();
  ServerWatch(const ServerWatch&) = delete;
  ServerWatch& operator=(const ServerWatch&) = delete;

  // Unavailable, with the reason, while the breaker is open.
  absl::Status Admit();
  // Opens the breaker.
  void ReportDead(std::string_view reason);
  TransportStats stats() const;

  // One call under way, from construction to destruction.
  class Call {
   public:
    // `give_up` is run at most once, on the watch's thread; it must not block. Once the destructor returned it is not
    // running.
    Call(ServerWatch& watch, std::function<void()> give_up);
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    // Something came back from the server.
    void Heard() { heard_nanos_.store(watch_.clock_.MonotonicNanos(), std::memory_order_relaxed); }
    bool given_up() const { return given_up_.load(); }

   private:
    friend class ServerWatch;
    ServerWatch& watch_;
    const std::function<void()> give_up_;
    std::atomic<int64_t> heard_nanos_;
    std::atomic<bool> given_up_{false};
    int64_t patience_nanos_ ABSL_GUARDED_BY(watch_.mutex_);
    std::list<Call*>::iterator place_ ABSL_GUARDED_BY(watch_.mutex_);
  };

 private:
  void Run();
  void OpenLocked(std::string_view reason) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // One round of probing an open breaker.
  void TryToClose() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Looks at the calls under way; probes when one is overdue.
  void CheckCalls() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool ProbeUnlocked(int64_t timeout_ms) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t Patience() const { return dead_after_ms_ * 1'000'000 / 2; }

  const int64_t dead_after_ms_;
  const Clock& clock_;
  const Probe probe_;

  mutable absl::Mutex mutex_;
  absl::CondVar wake_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool asleep_ ABSL_GUARDED_BY(mutex_) = false;  // the thread waits without a timeout
  std::list<Call*> calls_ ABSL_GUARDED_BY(mutex_);
  std::string reason_ ABSL_GUARDED_BY(mutex_);
  int64_t probe_pause_ms_ ABSL_GUARDED_BY(mutex_) = kFirstProbePauseMs;
  TransportStats stats_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kdn

#endif  // KDN_CLIENT_TRANSPORT_SERVER_WATCH_H_
