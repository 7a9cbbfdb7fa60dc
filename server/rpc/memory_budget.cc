#include "server/rpc/memory_budget.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/time/clock.h"

namespace kdn {

struct MemoryBudget::State {
  struct Waiter {
    uint64_t bytes = 0;
    Done done;
  };

  explicit State(uint64_t limit) : limit_bytes(limit) {}

  const uint64_t limit_bytes;
  mutable absl::Mutex mu;
  uint64_t used_bytes ABSL_GUARDED_BY(mu) = 0;
  uint64_t next_id ABSL_GUARDED_BY(mu) = 1;
  std::map<uint64_t, Waiter> waiters ABSL_GUARDED_BY(mu);  // by age

  bool Fits(uint64_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    return used_bytes <= limit_bytes && bytes <= limit_bytes - used_bytes;
  }

  // Replaces `from` bytes held by `to` and serves those who wait. `self` owns this.
  static void Change(const std::shared_ptr<State>& self, uint64_t from, uint64_t to) {
    std::vector<Waiter> served;
    {
      absl::MutexLock lock(&self->mu);
      self->used_bytes += to;
      self->used_bytes -= from;
      while (!self->waiters.empty() && self->Fits(self->waiters.begin()->second.bytes)) {
        const auto first = self->waiters.begin();
        self->used_bytes += first->second.bytes;
        served.push_back(std::move(first->second));
        self->waiters.erase(first);
      }
    }
    for (Waiter& waiter : served) std::move(waiter.done)(Reservation(self, waiter.bytes));
  }

  void Refuse(uint64_t id) {
    Done done;
    {
      absl::MutexLock lock(&mu);
      const auto found = waiters.find(id);
      if (found == waiters.end()) return;
      done = std::move(found->second.done);
      waiters.erase(found);
    }
    std::move(done)(std::nullopt);
  }
};

MemoryBudget::Reservation::Reservation(Reservation&& other) noexcept
    : state_(std::move(other.state_)), bytes_(std::exchange(other.bytes_, 0)) {}

MemoryBudget::Reservation& MemoryBudget::Reservation::operator=(Reservation&& other) noexcept {
  std::swap(state_, other.state_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

MemoryBudget::Reservation::~Reservation() {
  if (state_ != nullptr && bytes_ > 0) State::Change(state_, bytes_, 0);
}

void MemoryBudget::Reservation::Resize(uint64_t bytes) {
  State::Change(state_, bytes_, bytes);
  bytes_ = bytes;
}

MemoryBudget::MemoryBudget(uint64_t limit_bytes, TimerQueue& timers)
    : limit_bytes_(limit_bytes), timers_(timers), state_(std::make_shared<State>(limit_bytes)) {}

std::optional<MemoryBudget::Reservation> MemoryBudget::TryReserve(uint64_t bytes) {
  absl::MutexLock lock(&state_->mu);
  if (!state_->waiters.empty() || !state_->Fits(bytes)) return std::nullopt;
  state_->used_bytes += bytes;
  return Reservation(state_, bytes);
}

uint64_t MemoryBudget::Reserve(uint64_t bytes, absl::Time deadline, Done done) {
  if (std::optional<Reservation> reservation = TryReserve(bytes); reservation.has_value() || bytes > limit_bytes_) {
    std::move(done)(std::move(reservation));
    return 0;
  }
  uint64_t id = 0;
  {
    absl::MutexLock lock(&state_->mu);
    id = state_->next_id++;
    state_->waiters.emplace(id, State::Waiter{bytes, std::move(done)});
  }
  State::Change(state_, 0, 0);  // room may have come since
  timers_.Schedule(std::min(deadline, absl::Now() + kLongestWait), [state = std::weak_ptr<State>(state_), id] {
    if (const std::shared_ptr<State> alive = state.lock()) alive->Refuse(id);
  });
  return id;
}

void MemoryBudget::CancelWait(uint64_t id) { state_->Refuse(id); }

uint64_t MemoryBudget::used_bytes() const {
  absl::MutexLock lock(&state_->mu);
  return state_->used_bytes;
}

}  // namespace kdn
