#ifndef KDN_CLIENT_KDN_FUTURE_H_
#define KDN_CLIENT_KDN_FUTURE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/transport/cancel_token.h"

namespace kdn {
namespace internal {

// What calls on objects from before a fork return in the child.
absl::Status OpenedBeforeFork();

// The untyped half of an asynchronous operation's state: completion, the staged point, cancellation. Thread-safe. In a
// child forked later it counts as done, and its lock is not touched.
class OperationState {
 public:
  OperationState();
  virtual ~OperationState() = default;

  bool done() const;
  // True when it is done; false when `timeout_ms` (< 0: for ever) passed before.
  bool WaitDone(int64_t timeout_ms) const;
  // True when the operation no longer reads caller memory (done implies it); false after the timeout.
  bool WaitStaged(int64_t timeout_ms) const;
  // Asks for the end and returns at once.
  void RequestCancel();
  bool InOtherProcess() const;

  // For the operation itself. MarkStaged may be called any number of times.
  void MarkStaged();
  CancelToken& cancel_token() { return cancel_token_; }

 protected:
  void MarkDone();

 private:
  bool WaitFor(const bool& flag, int64_t timeout_ms) const;

  const int64_t process_;
  CancelToken cancel_token_;
  mutable absl::Mutex mutex_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  bool staged_ ABSL_GUARDED_BY(mutex_) = false;
};

template <typename Result>
class TypedOperationState : public OperationState {
 public:
  // Called once, by the operation, when nothing will touch caller memory any more.
  void Complete(absl::StatusOr<Result> result) {
    result_ = std::move(result);
    if (on_done_) on_done_(result_);
    MarkDone();
  }
  // Requires done().
  const absl::StatusOr<Result>& result() const {
    if (!InOtherProcess()) return result_;
    static const auto* const forked = new absl::StatusOr<Result>(OpenedBeforeFork());
    return *forked;
  }
  // Runs on the operation's thread before done() turns true. Set before the operation starts.
  void set_on_done(std::function<void(const absl::StatusOr<Result>&)> on_done) { on_done_ = std::move(on_done); }

 private:
  absl::StatusOr<Result> result_ = absl::UnknownError("not done");
  std::function<void(const absl::StatusOr<Result>&)> on_done_;
};

}  // namespace internal

// Handle of an asynchronous operation of kdn::Client. Movable, not copyable; the functions may be called from any
// thread. It may outlive the Client, whose destructor ends every operation first.
//
// Caller memory. While an operation is not done() it may read the view it stores, until its staged point, or write the
// view it retrieves into. Wait, Cancel and the destructor are the only ways to learn that it no longer does: after any
// of them returned (Wait without having timed out) nothing reads or writes that memory any more, on any thread.
//
// Destroying the handle of an operation that is not done: a retrieve is cancelled, as by Cancel(); a store is waited
// for up to its staged point and then continues in the background, unobserved.
template <typename Result>
class Future {
 public:
  Future() = default;
  explicit Future(std::shared_ptr<internal::TypedOperationState<Result>> state) : state_(std::move(state)) {}
  Future(Future&&) noexcept = default;
  Future& operator=(Future&& other) noexcept {
    if (this != &other) {
      Release();
      state_ = std::move(other.state_);
    }
    return *this;
  }
  ~Future() { Release(); }

  bool valid() const { return state_ != nullptr; }
  bool done() const { return state_->done(); }

  // Blocks until done; the reference lives as long as the handle. Every operation has a deadline, so this returns.
  const absl::StatusOr<Result>& Wait() const {
    state_->WaitDone(-1);
    return state_->result();
  }
  // True when done within `timeout_ms`. The operation goes on when not.
  bool WaitFor(int64_t timeout_ms) const { return state_->WaitDone(timeout_ms); }

  // Stores: true once the source view is no longer read, false after `timeout_ms` (< 0: for ever). The staged point is
  // when every chunk that the server lacks has been encoded into memory of the client's own (bounded by
  // ClientOptions::staging_bytes), or the operation has failed. Retrieves: as WaitFor.
  bool WaitStaged(int64_t timeout_ms = -1) const { return state_->WaitStaged(timeout_ms); }

  // Ends the operation as early as possible and returns when it is done: nothing reads or writes the view afterwards.
  // The result is Cancelled, unless it had finished before.
  void Cancel() {
    state_->RequestCancel();
    state_->WaitDone(-1);
  }

 private:
  void Release() {
    if (state_ == nullptr) return;
    if (state_->InOtherProcess()) {
      // Its locks may be held by threads that do not exist here.
      new auto(std::move(state_));
      return;
    }
    if (state_->done()) return;
    if constexpr (!Result::kContinuesUnobserved) state_->RequestCancel();
    state_->WaitStaged(-1);
  }

  // Shared by the handle and the running operation.
  std::shared_ptr<internal::TypedOperationState<Result>> state_;
};

}  // namespace kdn

#endif  // KDN_CLIENT_KDN_FUTURE_H_
