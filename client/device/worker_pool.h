#ifndef KDN_CLIENT_DEVICE_WORKER_POOL_H_
#define KDN_CLIENT_DEVICE_WORKER_POOL_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace kdn {

// A fixed number of threads that run tasks in the order of their submission. Threads start when there is work for them.
// Thread-safe.
class WorkerPool {
 public:
  // At most `max_queued` tasks wait beside those that run.
  WorkerPool(uint32_t threads, uint32_t max_queued) : max_threads_(threads), max_queued_(max_queued) {}
  // Runs what is queued, then joins the threads.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // ResourceExhausted when the queue is full: the task is not run then.
  absl::Status Submit(std::function<void()> task);

 private:
  void Run();

  const uint32_t max_threads_;
  const uint32_t max_queued_;
  absl::Mutex mutex_;
  absl::CondVar wake_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  uint32_t idle_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
};

// Tasks of one operation on a pool, to be waited for together. Thread-safe.
class TaskGroup {
 public:
  explicit TaskGroup(WorkerPool& pool) : pool_(pool) {}
  // Waits.
  ~TaskGroup() { Wait(); }
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  // As WorkerPool::Submit.
  absl::Status Submit(std::function<void()> task);
  // Until every task submitted so far has run.
  void Wait();

 private:
  WorkerPool& pool_;
  absl::Mutex mutex_;
  uint64_t unfinished_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace kdn

#endif  // KDN_CLIENT_DEVICE_WORKER_POOL_H_
