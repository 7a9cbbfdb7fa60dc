#ifndef KDN_SERVER_RPC_WORKER_POOL_H_
#define KDN_SERVER_RPC_WORKER_POOL_H_

#include <cstddef>
#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace kdn {

// Threads that do the blocking work of calls, so that gRPC's own threads never wait for a disk. First come, first
// served. Thread-safe.
class WorkerPool {
 public:
  using Task = absl::AnyInvocable<void()>;

  // Calls that may wait for a thread to begin their work; more are refused.
  static constexpr size_t kMaxQueuedCalls = 1024;

  explicit WorkerPool(size_t num_threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Takes the first task of a call. False, with `task` dropped, when kMaxQueuedCalls tasks wait or after Shutdown.
  bool TryStart(Task task);
  // Takes a further task of a call that was started; never refused, as a call has at most a few (see the streams).
  // After Shutdown the task is dropped.
  void Continue(Task task);
  // Runs what is queued, then joins the threads. Idempotent; not to be called from a task.
  void Shutdown();

  size_t queued() const;
  size_t num_threads() const { return num_threads_; }

 private:
  void Run();

  const size_t num_threads_;
  mutable absl::Mutex mu_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_WORKER_POOL_H_
