#ifndef KDN_CLIENT_TRANSPORT_CANCEL_TOKEN_H_
#define KDN_CLIENT_TRANSPORT_CANCEL_TOKEN_H_

#include <atomic>
#include <functional>
#include <list>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace kdn {

// Asks one operation to end. Thread-safe.
class CancelToken {
 public:
  // Runs the callbacks of the moment, on this thread; only the first call does anything.
  void Cancel() {
    absl::MutexLock lock(&mutex_);
    if (cancelled_.exchange(true)) return;
    for (const auto& callback : callbacks_) callback();
  }

  bool cancelled() const { return cancelled_.load(); }

 private:
  friend class ScopedCancelCallback;

  absl::Mutex mutex_;
  std::atomic<bool> cancelled_{false};
  std::list<std::function<void()>> callbacks_ ABSL_GUARDED_BY(mutex_);
};

// What Cancel shall run for the length of a scope: at once when it was called before. Once the destructor returned the
// callback is not running and will not run. It may neither block nor use the token.
class ScopedCancelCallback {
 public:
  // `token` may be null.
  ScopedCancelCallback(CancelToken* token, std::function<void()> callback) : token_(token) {
    if (token_ == nullptr) return;
    absl::MutexLock lock(&token_->mutex_);
    place_ = token_->callbacks_.insert(token_->callbacks_.end(), std::move(callback));
    if (token_->cancelled()) (*place_)();
  }
  ~ScopedCancelCallback() {
    if (token_ == nullptr) return;
    absl::MutexLock lock(&token_->mutex_);
    token_->callbacks_.erase(place_);
  }
  ScopedCancelCallback(const ScopedCancelCallback&) = delete;
  ScopedCancelCallback& operator=(const ScopedCancelCallback&) = delete;

 private:
  CancelToken* const token_;
  std::list<std::function<void()>>::iterator place_;
};

}  // namespace kdn

#endif  // KDN_CLIENT_TRANSPORT_CANCEL_TOKEN_H_
