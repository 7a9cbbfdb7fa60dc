#include "bench/rates/link_trace.h"

#include <cmath>
#include <random>

namespace kdn::bench {

std::optional<LinkTrace> LinkTrace::Named(std::string_view name, double bytes_per_second, uint64_t seed) {
  LinkTrace trace;
  if (name == "constant") {
    trace.pieces_ = {{1.0, bytes_per_second}};
  } else if (name == "step") {
    trace.pieces_ = {{5.0, bytes_per_second}, {5.0, bytes_per_second / 5}};
  } else if (name == "bursty") {
    constexpr int kPieces = 4096;
    constexpr double kShares[] = {1.0, 1.0 / 4, 1.0 / 16};
    std::mt19937_64 random(seed);
    std::exponential_distribution<double> length(1.0 / 0.25);
    for (int i = 0; i < kPieces; ++i)
      trace.pieces_.push_back({length(random), bytes_per_second * kShares[random() % 3]});
  } else {
    return std::nullopt;
  }
  for (const Piece& piece : trace.pieces_) trace.period_seconds_ += piece.seconds;
  return trace;
}

double LinkTrace::TransferSeconds(double start_seconds, double bytes) const {
  double offset = std::fmod(start_seconds, period_seconds_);
  size_t at = 0;
  while (at + 1 < pieces_.size() && offset >= pieces_[at].seconds) offset -= pieces_[at++].seconds;
  double seconds = 0.0;
  double left = pieces_[at].seconds - offset;
  while (bytes > left * pieces_[at].bytes_per_second) {
    bytes -= left * pieces_[at].bytes_per_second;
    seconds += left;
    at = (at + 1) % pieces_.size();
    left = pieces_[at].seconds;
  }
  return seconds + bytes / pieces_[at].bytes_per_second;
}

}  // namespace kdn::bench
