#include "client/device/byte_budget.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "client/device/worker_pool.h"

namespace kdn {
namespace {

int64_t In(int64_t timeout_ms) { return Clock::System().MonotonicNanos() + timeout_ms * 1'000'000; }

TEST(ByteBudgetTest, IsAHardLimit) {
  ByteBudget budget("test", 100, Clock::System());
  EXPECT_TRUE(budget.TryAcquire(60));
  EXPECT_FALSE(budget.TryAcquire(41));
  EXPECT_TRUE(absl::IsResourceExhausted(budget.Acquire(101, In(1000), nullptr)));
  EXPECT_TRUE(absl::IsDeadlineExceeded(budget.Acquire(41, In(1), nullptr)));
  std::thread release([&budget] { budget.Release(60); });
  EXPECT_TRUE(budget.Acquire(41, In(60'000), nullptr).ok());
  release.join();
  EXPECT_EQ(budget.used_bytes(), 41u);
}

TEST(ByteBudgetTest, CancellationWakesTheWaiting) {
  ByteBudget budget("test", 100, Clock::System());
  ASSERT_TRUE(budget.TryAcquire(100));
  CancelToken cancel;
  std::thread canceller([&cancel] { cancel.Cancel(); });
  EXPECT_TRUE(absl::IsCancelled(budget.Acquire(1, In(60'000), &cancel)));
  canceller.join();
}

TEST(BufferPoolTest, ReusesReturnedMemory) {
  BufferPool pool("test", 8 << 20, Clock::System());
  const uint8_t* first = nullptr;
  {
    Buffer buffer = *pool.Acquire(1'000'000, In(1000), nullptr);
    EXPECT_EQ(buffer.span().size(), 1'000'000u);
    first = buffer.span().data();
  }
  EXPECT_EQ(pool.used_bytes(), 0u);
  Buffer again = *pool.Acquire(999'000, In(1000), nullptr);
  EXPECT_EQ(again.span().data(), first);
  Buffer moved = std::move(again);
  EXPECT_EQ(moved.span().data(), first);
  EXPECT_TRUE(absl::IsResourceExhausted(pool.Acquire(9 << 20, In(1000), nullptr).status()));
}

TEST(WorkerPoolTest, RunsEverythingThatWasAccepted) {
  std::atomic<int> ran{0};
  {
    WorkerPool pool(3, 1000);
    TaskGroup group(pool);
    for (int i = 0; i < 500; ++i) ASSERT_TRUE(group.Submit([&ran] { ++ran; }).ok());
    group.Wait();
    EXPECT_EQ(ran, 500);
    ASSERT_TRUE(pool.Submit([&ran] { ++ran; }).ok());
  }
  EXPECT_EQ(ran, 501);
}

TEST(WorkerPoolTest, RefusesBeyondItsQueue) {
  absl::Mutex gate;
  gate.Lock();
  {
    WorkerPool pool(1, 1);
    std::atomic<bool> running{false};
    ASSERT_TRUE(pool.Submit([&] {
                      running = true;
                      absl::MutexLock lock(&gate);
                    })
                    .ok());
    while (!running) std::this_thread::yield();
    EXPECT_TRUE(pool.Submit([] {}).ok());
    EXPECT_TRUE(absl::IsResourceExhausted(pool.Submit([] {})));
    gate.Unlock();
  }
}

}  // namespace
}  // namespace kdn
