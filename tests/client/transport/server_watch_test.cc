#include "client/transport/server_watch.h"

#include <gtest/gtest.h>

#include <atomic>

#include "absl/synchronization/notification.h"
#include "client/transport/cancel_token.h"

namespace kdn {
namespace {

TEST(ServerWatchTest, GivesUpSilentCallsWhenTheProbeFailsAndRefusesUntilItSucceeds) {
  std::atomic<bool> alive{false};
  ServerWatch watch(20, Clock::System(), [&alive](int64_t) { return alive.load(); });
  EXPECT_TRUE(watch.Admit().ok());
  absl::Notification given_up;
  {
    ServerWatch::Call call(watch, [&given_up] { given_up.Notify(); });
    given_up.WaitForNotification();
    EXPECT_TRUE(call.given_up());
  }
  while (watch.stats().breaker == BreakerState::kClosed) std::this_thread::yield();
  EXPECT_TRUE(absl::IsUnavailable(watch.Admit()));
  EXPECT_EQ(watch.stats().refused_by_breaker, 1u);
  EXPECT_EQ(watch.stats().breaker_opened, 1u);
  alive = true;
  while (watch.stats().breaker == BreakerState::kOpen) std::this_thread::yield();
  EXPECT_TRUE(watch.Admit().ok());
}

TEST(ServerWatchTest, LeavesSilentCallsAloneWhileProbesSucceed) {
  std::atomic<int> probes{0};
  absl::Notification probed_twice;
  ServerWatch watch(2, Clock::System(), [&](int64_t) {
    if (++probes == 2) probed_twice.Notify();
    return true;
  });
  ServerWatch::Call call(watch, [] { FAIL(); });
  probed_twice.WaitForNotification();
  EXPECT_FALSE(call.given_up());
  EXPECT_EQ(watch.stats().breaker, BreakerState::kClosed);
}

TEST(ServerWatchTest, ReportedDeathOpensAtOnce) {
  ServerWatch watch(1000, Clock::System(), [](int64_t) { return false; });
  watch.ReportDead("no route");
  const absl::Status refused = watch.Admit();
  EXPECT_TRUE(absl::IsUnavailable(refused));
  EXPECT_NE(std::string(refused.message()).find("no route"), std::string::npos);
}

TEST(CancelTokenTest, RunsEveryCallbackOfTheMoment) {
  CancelToken token;
  int first = 0, second = 0;
  {
    const ScopedCancelCallback gone(&token, [&first] { ++first; });
  }
  const ScopedCancelCallback there(&token, [&second] { ++second; });
  token.Cancel();
  token.Cancel();
  EXPECT_EQ(first, 0);
  EXPECT_EQ(second, 1);
  const ScopedCancelCallback late(&token, [&first] { ++first; });
  EXPECT_EQ(first, 1);
  const ScopedCancelCallback none(nullptr, [&first] { ++first; });
  EXPECT_EQ(first, 1);
}

}  // namespace
}  // namespace kdn
