#ifndef KDN_BENCH_RATES_DELIVERY_POLICY_H_
#define KDN_BENCH_RATES_DELIVERY_POLICY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/core/delivery_plan.h"

namespace kdn::bench {

// A level at which every chunk is stored.
struct Level {
  std::string name;
  double ratio = 1.0;  // raw bytes against stored ones, all counted
  double loss = 0.0;   // KL in nats a token
};

// A request on its way, as a policy sees it.
struct Progress {
  const std::vector<DeliveryChunk>* chunks = nullptr;  // all of them; a chunk's variants are the levels, in order
  size_t next = 0;                                     // first chunk that is not there yet
  double seconds_left = 0.0;                           // until the deadline
  double prefill_tokens_per_second = 0.0;
};

// Decides how the next chunk comes. Told of each transfer, also across requests.
class DeliveryPolicy {
 public:
  virtual ~DeliveryPolicy() = default;
  // The next chunk's variant; nothing: the engine computes it.
  virtual std::optional<uint32_t> Next(const Progress& progress) = 0;
  virtual void Transferred(uint64_t bytes, double seconds) = 0;
  virtual void RequestBegins() {}
};

// Every chunk at one level.
std::unique_ptr<DeliveryPolicy> FixedLevel(uint32_t level);

// CacheGen's streaming adaptation (arXiv 2310.07240, section 5.3): the best level at which all remaining chunks come in
// time if the link stays as the last chunk found it; the engine computes the chunk if that alone is in time and no
// level is; else the smallest level.
std::unique_ptr<DeliveryPolicy> CacheGenAdaptation(double prior_bytes_per_second);

// PlanDelivery over the remaining chunks, planned anew as the estimate of the link moves.
std::unique_ptr<DeliveryPolicy> PlannedDelivery(double prior_bytes_per_second);

}  // namespace kdn::bench

#endif  // KDN_BENCH_RATES_DELIVERY_POLICY_H_
