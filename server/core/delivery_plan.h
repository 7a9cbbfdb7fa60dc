#ifndef KDN_SERVER_CORE_DELIVERY_PLAN_H_
#define KDN_SERVER_CORE_DELIVERY_PLAN_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

// Which variant of each chunk to send, so that a prefix arrives in time and loses as little as possible. Pure
// functions: what is stored, how fast the link is and what the reader asked for come in, a plan comes out.
//
// Loss is the mean KL divergence, in nats a token, that loading a variant is expected to cause; a plan's loss is the
// mean over all tokens of the prefix, recomputed ones counting 0. Variants are weighed by loss x tokens: the KL of a
// mixture is taken to be the mixture of KLs.

namespace kdn {

struct DeliveryVariant {
  uint64_t bytes = 0;
  double loss = 0.0;  // 0 for exact variants
};

// A chunk of the prefix, in order.
struct DeliveryChunk {
  uint32_t tokens = 0;
  std::vector<DeliveryVariant> variants;  // in any order; empty: nothing is stored
};

// What the reader asked for. Without a deadline and a budget every chunk comes at its least loss.
struct DeliveryGoal {
  std::optional<int64_t> deadline_nanos;  // from now until the last byte is there and the rest is recomputed
  std::optional<uint64_t> byte_budget;    // of all variants together
  double max_loss = 1e9;                  // variants that lose more are not sent
  // How fast the engine computes KV itself. With it, chunks at the end of the prefix may be left to the engine: they
  // come after all that is loaded, since their computation needs the KV before them.
  std::optional<double> prefill_tokens_per_second;
};

struct LinkState {
  double bytes_per_second = 0.0;        // expected, > 0
  int64_t latency_nanos = 0;            // before the first byte
  double worst_bytes_per_second = 0.0;  // what it may fall to at any time; 0: taken to be as expected
};

struct DeliveryPlan {
  // For each chunk from the first on, the index of its variant. Shorter than the chunks where the prefix ends: the rest
  // is recomputed, or missing.
  std::vector<uint32_t> variants;
  uint64_t bytes = 0;
  double seconds = 0.0;    // expected, the recomputation included
  double loss = 0.0;       // mean over the tokens of all chunks
  bool keeps_goal = true;  // false: no plan keeps deadline and budget; this is the fastest one within the max_loss
};

// The plan of least loss that keeps the goal. The first chunk, which is what a caller that plans anew before each chunk
// takes, comes no larger than leaves time for the others at their smallest should the link fall to its worst at once;
// what that leaves over, later plans spend. The prefix ends at the first chunk without an acceptable variant. Where
// recomputation is possible, up to kMaxPrefixEnds ends of the prefix are compared. Takes O(n log n) for each of them
// over all variants n.
DeliveryPlan PlanDelivery(std::span<const DeliveryChunk> chunks, const LinkState& link, const DeliveryGoal& goal);

inline constexpr uint32_t kMaxPrefixEnds = 33;

// Throughput of a link from past transfers. Seconds per byte are averaged, not rates: the time of the next transfer
// follows those. Not thread-safe.
class LinkEstimate {
 public:
  // Nothing is known before the first transfer; `prior` stands in.
  explicit LinkEstimate(double prior_bytes_per_second)
      : seconds_per_byte_(1.0 / prior_bytes_per_second),
        newest_seconds_per_byte_(seconds_per_byte_),
        worst_seconds_per_byte_(seconds_per_byte_) {}

  // A transfer of `bytes` took `nanos`. Ignored when either is 0.
  void Observe(uint64_t bytes, int64_t nanos);

  // What to plan with: the mean, or the newest transfer where that was slower, so that a link which falls is noticed at
  // once and one that rises has to prove it.
  double bytes_per_second() const { return 1.0 / std::max(seconds_per_byte_, newest_seconds_per_byte_); }
  // The slowest transfer seen, forgotten by and by.
  double worst_bytes_per_second() const { return 1.0 / worst_seconds_per_byte_; }

 private:
  static constexpr double kWeight = 0.3;        // of the newest transfer in the mean
  static constexpr double kForgetting = 0.001;  // of the way from the worst back to the mean, at each transfer

  double seconds_per_byte_;  // mean
  double newest_seconds_per_byte_;
  double worst_seconds_per_byte_;
  bool observed_ = false;
};

}  // namespace kdn

#endif  // KDN_SERVER_CORE_DELIVERY_PLAN_H_
