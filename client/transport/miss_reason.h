#ifndef KDN_CLIENT_TRANSPORT_MISS_REASON_H_
#define KDN_CLIENT_TRANSPORT_MISS_REASON_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace kdn {

// Why a chunk was not loaded. The first eight come from the server or are found by the client's own checks; their
// values are those of proto/kdn/v1.
enum class MissReason : uint8_t {
  kAbsent = 1,
  kExpired = 2,
  kEvicted = 3,
  kCorrupt = 4,       // a checksum or structure is wrong
  kIncompatible = 5,  // whole, but not what was asked for, or in a profile this build cannot decode
  kTimeout = 6,
  kOverBudget = 7,
  kIncomplete = 8,   // cells or rows are missing
  kUnavailable = 9,  // the server went away before the chunk was complete
};
inline constexpr size_t kNumMissReasons = 10;  // index 0 unused

// "absent", "expired", ...; "unknown" for other values.
std::string_view ClientMissReasonName(MissReason reason);

}  // namespace kdn

#endif  // KDN_CLIENT_TRANSPORT_MISS_REASON_H_
