#ifndef KDN_BENCH_COMMON_POOL_H_
#define KDN_BENCH_COMMON_POOL_H_

#include <atomic>
#include <cstdint>

namespace kdn::bench {

// Larger than any cache of the machines this runs on, so that every transfer reads and writes memory, as a server
// with a useful working set does.
inline constexpr uint64_t kPoolBytes = uint64_t{256} << 20;

// Memory of kPoolBytes filled with incompressible bytes, handed out as slots of equal size in rotation.
// Thread-safe.
class Pool {
 public:
  // Pools of the same seed hold the same bytes.
  explicit Pool(uint64_t seed);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Number of whole slots of `slot_bytes`, 0 < slot_bytes <= kPoolBytes.
  static uint32_t SlotCount(uint64_t slot_bytes) { return static_cast<uint32_t>(kPoolBytes / slot_bytes); }

  // Slot `index` modulo the slot count.
  uint8_t* Slot(uint64_t index, uint64_t slot_bytes) const {
    return data_ + index % SlotCount(slot_bytes) * slot_bytes;
  }

  // Index of the next slot in rotation.
  uint64_t Next() { return next_.fetch_add(1, std::memory_order_relaxed); }

 private:
  uint8_t* data_;
  std::atomic<uint64_t> next_{0};
};

}  // namespace kdn::bench

#endif  // KDN_BENCH_COMMON_POOL_H_
