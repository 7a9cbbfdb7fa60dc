#ifndef KDN_BENCH_RATES_LINK_TRACE_H_
#define KDN_BENCH_RATES_LINK_TRACE_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace kdn::bench {

// A link whose bandwidth changes over time, in pieces; it repeats after the last one. Immutable.
class LinkTrace {
 public:
  // "constant": `bytes_per_second` for good. "step": that for five seconds, a fifth of it for five. "bursty": pieces of
  // exponentially distributed length (mean 250 ms) at the whole, a quarter or a sixteenth of it, drawn with `seed`.
  // Nothing for other names.
  static std::optional<LinkTrace> Named(std::string_view name, double bytes_per_second, uint64_t seed);

  // Seconds that `bytes` take from `start_seconds` on.
  double TransferSeconds(double start_seconds, double bytes) const;

 private:
  struct Piece {
    double seconds;
    double bytes_per_second;
  };
  std::vector<Piece> pieces_;
  double period_seconds_ = 0.0;
};

}  // namespace kdn::bench

#endif  // KDN_BENCH_RATES_LINK_TRACE_H_
