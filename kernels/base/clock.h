#ifndef KDN_KERNELS_BASE_CLOCK_H_
#define KDN_KERNELS_BASE_CLOCK_H_

#include <cstdint>

namespace kdn {

// Time as a dependency. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Milliseconds since the Unix epoch: for what is persisted (creation, expiry). May jump.
  virtual int64_t WallMillis() const = 0;
  // Nanoseconds from an arbitrary start that never goes backwards: for durations.
  virtual int64_t MonotonicNanos() const = 0;

  // The machine's clock; lives for the whole process.
  static const Clock& System();
};

}  // namespace kdn

#endif  // KDN_KERNELS_BASE_CLOCK_H_
