#include "client/device/worker_pool.h"

#include <utility>

#include "kernels/base/status.h"

namespace kdn {

WorkerPool::~WorkerPool() {
  std::vector<std::thread> threads;
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
    wake_.SignalAll();
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
}

absl::Status WorkerPool::Submit(std::function<void()> task) {
  absl::MutexLock lock(&mutex_);
  if (queue_.size() >= max_queued_) return ResourceExhausted(max_queued_, " tasks are queued already");
  queue_.push_back(std::move(task));
  if (idle_ < queue_.size() && threads_.size() < max_threads_) {
    threads_.emplace_back([this] { Run(); });
  } else {
    wake_.Signal();
  }
  return absl::OkStatus();
}

void WorkerPool::Run() {
  while (true) {
    std::function<void()> task;
    {
      absl::MutexLock lock(&mutex_);
      ++idle_;
      while (queue_.empty() && !stop_) wake_.Wait(&mutex_);
      --idle_;
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task();
  }
}

absl::Status TaskGroup::Submit(std::function<void()> task) {
  {
    absl::MutexLock lock(&mutex_);
    ++unfinished_;
  }
  absl::Status status = pool_.Submit([this, task = std::move(task)] {
    task();
    absl::MutexLock lock(&mutex_);
    --unfinished_;
  });
  if (!status.ok()) {
    absl::MutexLock lock(&mutex_);
    --unfinished_;
  }
  return status;
}

void TaskGroup::Wait() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](uint64_t* unfinished) { return *unfinished == 0; }, &unfinished_));
}

}  // namespace kdn
