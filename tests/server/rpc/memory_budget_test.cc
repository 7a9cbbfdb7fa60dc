#include "server/rpc/memory_budget.h"

#include <gtest/gtest.h>

#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"

namespace kdn {
namespace {

using Reservation = MemoryBudget::Reservation;

const absl::Time kFarFuture = absl::InfiniteFuture();

TEST(MemoryBudgetTest, GivesBackWhatIsReleased) {
  TimerQueue timers;
  MemoryBudget budget(100, timers);
  {
    const std::optional<Reservation> a = budget.TryReserve(60);
    ASSERT_TRUE(a.has_value());
    EXPECT_FALSE(budget.TryReserve(41).has_value());
    EXPECT_TRUE(budget.TryReserve(40).has_value());
    EXPECT_EQ(budget.used_bytes(), 60u);
  }
  EXPECT_EQ(budget.used_bytes(), 0u);
}

TEST(MemoryBudgetTest, ServesWaitersInOrder) {
  TimerQueue timers;
  MemoryBudget budget(100, timers);
  std::optional<Reservation> all = budget.TryReserve(100);
  std::vector<int> order;
  std::vector<Reservation> held;
  const auto take = [&](int who) {
    return [&, who](std::optional<Reservation> reservation) {
      ASSERT_TRUE(reservation.has_value());
      order.push_back(who);
      held.push_back(*std::move(reservation));
    };
  };
  budget.Reserve(80, kFarFuture, take(1));
  budget.Reserve(10, kFarFuture, take(2));
  EXPECT_FALSE(budget.TryReserve(1).has_value());  // others wait
  all->Resize(50);
  EXPECT_TRUE(order.empty());
  all.reset();
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
  EXPECT_EQ(budget.used_bytes(), 90u);
}

TEST(MemoryBudgetTest, RefusesAtTheDeadline) {
  TimerQueue timers;
  MemoryBudget budget(100, timers);
  const std::optional<Reservation> all = budget.TryReserve(100);
  absl::Notification refused;
  budget.Reserve(1, absl::Now() + absl::Milliseconds(5), [&](std::optional<Reservation> reservation) {
    EXPECT_FALSE(reservation.has_value());
    refused.Notify();
  });
  refused.WaitForNotification();
}

TEST(MemoryBudgetTest, RefusesAtOnceWhatNeverFits) {
  TimerQueue timers;
  MemoryBudget budget(100, timers);
  bool refused = false;
  budget.Reserve(101, kFarFuture, [&](std::optional<Reservation> reservation) { refused = !reservation.has_value(); });
  EXPECT_TRUE(refused);
}

TEST(MemoryBudgetTest, CancelledWaitersAreRefusedOnce) {
  TimerQueue timers;
  MemoryBudget budget(100, timers);
  std::optional<Reservation> all = budget.TryReserve(100);
  int refused = 0;
  const uint64_t id =
      budget.Reserve(1, kFarFuture, [&](std::optional<Reservation> reservation) { refused += reservation ? 100 : 1; });
  budget.CancelWait(id);
  budget.CancelWait(id);
  all.reset();
  EXPECT_EQ(refused, 1);
  EXPECT_EQ(budget.used_bytes(), 0u);
}

TEST(MemoryBudgetTest, ReservationsOutliveTheBudget) {
  std::optional<Reservation> late;
  {
    TimerQueue timers;
    MemoryBudget budget(100, timers);
    late = budget.TryReserve(10);
  }
  EXPECT_EQ(late->bytes(), 10u);
}

TEST(MemoryBudgetTest, WhatIsHeldMayExceedTheLimitAndOthersWait) {
  TimerQueue timers;
  MemoryBudget budget(100, timers);
  std::optional<Reservation> a = budget.TryReserve(10);
  a->Resize(150);
  EXPECT_EQ(budget.used_bytes(), 150u);
  EXPECT_FALSE(budget.TryReserve(1).has_value());
  a->Resize(0);
  EXPECT_TRUE(budget.TryReserve(100).has_value());
}

}  // namespace
}  // namespace kdn
