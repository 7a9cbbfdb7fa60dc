#include "server/core/maintenance.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"

namespace kdn {
namespace {

constexpr int64_t kHousekeepingIntervalMs = 1000;
// Between whole rounds over the rows for expired ones.
constexpr int64_t kSweepIntervalMs = 60'000;
// Free space, beyond the reserve, from which on stores are worth trying again.
constexpr uint64_t kMinFreeBytes = uint64_t{1} << 20;
// Sweeper steps in one housekeeping round.
constexpr int kSweepStepsPerRound = 16;

}  // namespace

void Maintenance::Start() {
  housekeeping_thread_ = std::thread([this] { Loop(kHousekeepingIntervalMs, [this] { HousekeepingStep(); }); });
  if (c_.options().sync != SyncMode::kBatch) return;
  sync_thread_ = std::thread([this] {
    Loop(std::max<int64_t>(1, c_.options().sync_interval_ms), [this, failing = false]() mutable {
      const absl::Status synced = SyncStep();
      // Once: a full disk fails every step until there is space.
      if (!synced.ok() && !failing) Log(LogLevel::kError, "sync failed", {{"error", synced.ToString()}});
      failing = !synced.ok();
    });
  });
}

void Maintenance::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (housekeeping_thread_.joinable()) housekeeping_thread_.join();
  if (sync_thread_.joinable()) sync_thread_.join();
}

template <typename Step>
void Maintenance::Loop(int64_t interval_ms, Step step) {
  while (true) {
    step();
    absl::MutexLock lock(&mutex_);
    if (mutex_.AwaitWithTimeout(absl::Condition(&stopping_), absl::Milliseconds(interval_ms))) return;
  }
}

absl::Status Maintenance::SyncStep() {
  if (!c_.TakeUnsynced()) return absl::OkStatus();
  const uint64_t told = std::exchange(flush_failures_, c_.values().flush_failures());
  absl::Status synced = c_.values().Sync(told);
  if (synced.ok()) synced = c_.index().Sync();
  if (!synced.ok()) c_.NoteUnsynced();
  return synced;
}

void Maintenance::HousekeepingStep() {
  const absl::StatusOr<uint32_t> evicted = c_.evictor().Run();
  if (!evicted.ok()) {
    Log(LogLevel::kError, "eviction failed", {{"error", evicted.status().ToString()}});
  } else if (*evicted > 0) {
    Log(LogLevel::kInfo, "evicted", {{"groups", uint64_t{*evicted}}, {"used_bytes", c_.evictor().UsedBytes()}});
  }
  if (c_.read_only() && HasSpaceAgain()) c_.ClearReadOnly();
  Sweep();
}

bool Maintenance::HasSpaceAgain() {
  const absl::StatusOr<uint64_t> free_bytes = c_.disk_space().FreeBytes();
  // Whether there is room for a certain store, that store finds out.
  return free_bytes.ok() && *free_bytes >= c_.options().reserve_bytes + kMinFreeBytes &&
         c_.evictor().TryAdmit(0).has_value();
}

void Maintenance::Sweep() {
  if (c_.NowMs() < next_sweep_ms_) return;
  for (int step = 0; step < kSweepStepsPerRound; ++step) {
    const absl::StatusOr<ExpirySweeper::StepResult> swept = sweeper_.Step();
    if (!swept.ok()) {
      Log(LogLevel::kError, "expiry sweep failed", {{"error", swept.status().ToString()}});
      return;
    }
    c_.live().Count(swept->live);
    if (!swept->round_done) continue;
    c_.live().EndRound();
    next_sweep_ms_ = c_.NowMs() + kSweepIntervalMs;
    return;
  }
}

}  // namespace kdn
