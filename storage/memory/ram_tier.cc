#include "storage/memory/ram_tier.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace kdn {
namespace {

constexpr uint8_t kMaxReads = 3;
// Share of the capacity that the small queue may take before it is the one to evict from.
constexpr uint64_t kSmallShare = 10;
// Keys the ghost list remembers: as many as are cached, within these bounds.
constexpr size_t kMinGhosts = 1024;
constexpr size_t kMaxGhosts = size_t{1} << 20;
// Objects that one insert may look at in vain (readers hold them, or they were read lately) before it is declined.
constexpr int kMaxFutileSteps = 4096;

}  // namespace

struct RamTier::Ledger {
  std::atomic<uint64_t> used_bytes{0};
};

struct RamTier::Entry {
  Entry(SharedBytes value, std::shared_ptr<Ledger> account)
      : bytes(std::move(value)), checksums(bytes.size()), ledger(std::move(account)) {
    ledger->used_bytes.fetch_add(bytes.size(), std::memory_order_relaxed);
  }
  ~Entry() { ledger->used_bytes.fetch_sub(bytes.size(), std::memory_order_relaxed); }
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;

  const SharedBytes bytes;
  BlockChecksums checksums;
  const std::shared_ptr<Ledger> ledger;
};

RamTier::RamTier(uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes), ledger_(std::make_shared<Ledger>()) {}

bool RamTier::Insert(const ValueLocation& location, SharedBytes bytes) {
  const Key key = KeyOf(location);
  absl::MutexLock lock(&mutex_);
  if (slots_.contains(key)) return false;
  if (bytes.size() > capacity_bytes_ || !MakeRoom(bytes.size())) {
    ++declined_;
    return false;
  }
  const Queue queue = ghosts_.erase(key) > 0 ? Queue::kMain : Queue::kSmall;
  Slot& slot = slots_[key];
  slot.entry = std::make_shared<Entry>(std::move(bytes), ledger_);
  Enqueue(key, slot, queue);
  return true;
}

std::optional<RamTier::Found> RamTier::FindWithChecksums(const ValueLocation& location) {
  absl::MutexLock lock(&mutex_);
  const auto it = slots_.find(KeyOf(location));
  if (it == slots_.end()) {
    ++misses_;
    return std::nullopt;
  }
  ++hits_;
  Slot& slot = it->second;
  slot.reads = std::min<uint8_t>(slot.reads + 1, kMaxReads);
  return Found{SharedBytes(slot.entry, slot.entry->bytes.span()), {slot.entry, &slot.entry->checksums}};
}

std::optional<SharedBytes> RamTier::Find(const ValueLocation& location) {
  std::optional<Found> found = FindWithChecksums(location);
  if (!found.has_value()) return std::nullopt;
  return std::move(found->bytes);
}

bool RamTier::Contains(const ValueLocation& location) const {
  absl::MutexLock lock(&mutex_);
  return slots_.contains(KeyOf(location));
}

void RamTier::Rekey(const ValueLocation& from, const ValueLocation& to) {
  absl::MutexLock lock(&mutex_);
  const auto it = slots_.find(KeyOf(from));
  const Key new_key = KeyOf(to);
  if (it == slots_.end() || slots_.contains(new_key)) return;
  Slot slot = std::move(it->second);
  slots_.erase(it);
  *slot.position = new_key;
  slots_.emplace(new_key, std::move(slot));
}

void RamTier::Remove(const ValueLocation& location) {
  absl::MutexLock lock(&mutex_);
  if (slots_.contains(KeyOf(location))) Erase(KeyOf(location));
}

void RamTier::RemoveGroup(uint64_t group) {
  absl::MutexLock lock(&mutex_);
  for (std::list<Key>* queue : {&small_, &main_}) {
    for (auto it = queue->begin(); it != queue->end();) {
      const Key key = *it++;
      if (key.group == group) Erase(key);
    }
  }
}

RamTierStats RamTier::Stats() const {
  absl::MutexLock lock(&mutex_);
  return {.capacity_bytes = capacity_bytes_,
          .used_bytes = ledger_->used_bytes.load(std::memory_order_relaxed),
          .cached_bytes = small_bytes_ + main_bytes_,
          .objects = slots_.size(),
          .hits = hits_,
          .misses = misses_,
          .evictions = evictions_,
          .declined = declined_};
}

bool RamTier::MakeRoom(uint64_t bytes) {
  // Only this class adds to the ledger, and under mutex_: readers letting go can only make more room.
  int futile_steps = 0;
  while (true) {
    const uint64_t used = ledger_->used_bytes.load(std::memory_order_relaxed);
    if (used <= capacity_bytes_ - bytes) return true;
    if (futile_steps++ >= kMaxFutileSteps || !EvictionStep()) return false;
    if (ledger_->used_bytes.load(std::memory_order_relaxed) < used) futile_steps = 0;
  }
}

bool RamTier::EvictionStep() {
  const bool from_small = !small_.empty() && (main_.empty() || small_bytes_ >= capacity_bytes_ / kSmallShare);
  std::list<Key>& queue = from_small ? small_ : main_;
  if (queue.empty()) return false;
  const Key key = queue.back();
  Slot& slot = slots_.find(key)->second;
  // Throwing out what a reader holds would free nothing now.
  const bool held = slot.entry.use_count() > 1;
  if (held || slot.reads > 0) {
    const uint8_t reads = from_small ? 0 : static_cast<uint8_t>(slot.reads - (slot.reads > 0));
    Dequeue(slot);
    Enqueue(key, slot, Queue::kMain);
    slot.reads = reads;
    return true;
  }
  if (from_small) Haunt(key);
  Erase(key);
  ++evictions_;
  return true;
}

void RamTier::Enqueue(const Key& key, Slot& slot, Queue queue) {
  std::list<Key>& list = queue == Queue::kSmall ? small_ : main_;
  list.push_front(key);
  slot.position = list.begin();
  slot.queue = queue;
  (queue == Queue::kSmall ? small_bytes_ : main_bytes_) += slot.entry->bytes.size();
}

void RamTier::Dequeue(Slot& slot) {
  const bool small = slot.queue == Queue::kSmall;
  (small ? small_ : main_).erase(slot.position);
  (small ? small_bytes_ : main_bytes_) -= slot.entry->bytes.size();
}

void RamTier::Erase(const Key& key) {
  const auto it = slots_.find(key);
  Dequeue(it->second);
  slots_.erase(it);
}

void RamTier::Haunt(const Key& key) {
  if (ghosts_.insert(key).second) ghost_order_.push_back(key);
  const size_t limit = std::clamp(slots_.size(), kMinGhosts, kMaxGhosts);
  while (ghost_order_.size() > limit) {
    ghosts_.erase(ghost_order_.front());
    ghost_order_.pop_front();
  }
}

}  // namespace kdn
