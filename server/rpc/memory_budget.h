#ifndef KDN_SERVER_RPC_MEMORY_BUDGET_H_
#define KDN_SERVER_RPC_MEMORY_BUDGET_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/rpc/timer_queue.h"

namespace kdn {

// Bytes that all calls together may hold: containers being received or committed, chunks being sent. Waiters are
// served first come, first served. Thread-safe. Reservations may outlive the budget.
class MemoryBudget {
  struct State;

 public:
  // Gives its bytes back when destroyed.
  class Reservation {
   public:
    Reservation(Reservation&& other) noexcept;
    Reservation& operator=(Reservation&& other) noexcept;
    ~Reservation();
    uint64_t bytes() const { return bytes_; }
    // Changes it to `bytes` at once, beyond the limit if need be: for memory that is held already. Others then wait
    // until the sum is below the limit again.
    void Resize(uint64_t bytes);

   private:
    friend class MemoryBudget;
    Reservation(std::shared_ptr<State> state, uint64_t bytes) : state_(std::move(state)), bytes_(bytes) {}
    std::shared_ptr<State> state_;
    uint64_t bytes_ = 0;
  };

  // Gets the reservation, or nullopt when there was no room in time. Called on whichever thread gives bytes back, or
  // the timer's: must not block.
  using Done = absl::AnyInvocable<void(std::optional<Reservation>)>;
  static constexpr absl::Duration kLongestWait = absl::Minutes(1);

  // `timers` outlives the budget.
  MemoryBudget(uint64_t limit_bytes, TimerQueue& timers);

  // nullopt when there is no room now or others wait.
  std::optional<Reservation> TryReserve(uint64_t bytes);

  // Calls `done` exactly once: now, when there is room, or at `deadline` (after kLongestWait at the latest). Returns an
  // id for CancelWait.
  uint64_t Reserve(uint64_t bytes, absl::Time deadline, Done done);
  // Ends the wait: `done` gets nullopt unless it was called before.
  void CancelWait(uint64_t id);

  uint64_t used_bytes() const;
  uint64_t limit_bytes() const { return limit_bytes_; }

 private:
  const uint64_t limit_bytes_;
  TimerQueue& timers_;
  const std::shared_ptr<State> state_;  // with every reservation
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_MEMORY_BUDGET_H_
