#ifndef KDN_CLIENT_TRANSPORT_TRANSPORT_STATS_H_
#define KDN_CLIENT_TRANSPORT_TRANSPORT_STATS_H_

#include <cstdint>

namespace kdn {

// The circuit breaker. Open: the server was found dead and has not answered since; calls fail at once.
enum class BreakerState : uint8_t { kClosed = 0, kOpen = 1 };

struct TransportStats {
  BreakerState breaker = BreakerState::kClosed;
  uint64_t breaker_opened = 0;
  uint64_t refused_by_breaker = 0;
};

}  // namespace kdn

#endif  // KDN_CLIENT_TRANSPORT_TRANSPORT_STATS_H_
