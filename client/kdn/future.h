#ifndef KDN_CLIENT_KDN_FUTURE_H_
#define KDN_CLIENT_KDN_FUTURE_H_

#include <cassert>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace kdn {
namespace internal {

// The untyped half of an asynchronous operation's state: completion, the staged point, cancellation. Thread-safe.
class OperationState {
 public:
  virtual ~OperationState() = default;

  bool done() const;
  // True when it is done; false when `timeout_ms` (< 0: for ever) passed before.
  bool WaitDone(int64_t timeout_ms) const;
  // True when the operation no longer reads caller memory (done implies it); false after the timeout.
  bool WaitStaged(int64_t timeout_ms) const;
  // Asks for the end and returns at once.
  void RequestCancel();
  bool cancel_requested() const;

  // For the operation itself. MarkStaged may be called any number of times.
  void MarkStaged();
  // `cancel` is run by RequestCancel, on its thread, at most once; at once when it was requested before. An empty
  // function detaches: once this returns, no earlier `cancel` is running or will run.
  void OnCancel(std::function<void()> cancel);

 protected:
  void MarkDone();

 private:
  mutable absl::Mutex mutex_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  bool staged_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancel_requested_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> cancel_ ABSL_GUARDED_BY(mutex_);
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
  const absl::StatusOr<Result>& result() const { return result_; }
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
    if (state_ == nullptr || state_->done()) return;
    if constexpr (!Result::kContinuesUnobserved) state_->RequestCancel();
    state_->WaitStaged(-1);
  }

  // Shared by the handle and the running operation.
  std::shared_ptr<internal::TypedOperationState<Result>> state_;
};

}  // namespace kdn

#endif  // KDN_CLIENT_KDN_FUTURE_H_
