#include "server/core/delivery_plan.h"

#include <algorithm>
#include <limits>

namespace kdn {
namespace {

constexpr double kNanosPerSecond = 1e9;

// A step up along the convex hull of one chunk's variants: from the hull's point before it.
struct Upgrade {
  uint32_t chunk = 0;
  uint32_t variant = 0;
  uint64_t more_bytes = 0;
  double gain = 0.0;  // loss x tokens saved

  double Rate() const { return gain / static_cast<double>(more_bytes); }
};

// Indices of the acceptable variants on the lower convex hull of (bytes, loss), ascending bytes, descending loss.
std::vector<uint32_t> HullOf(const DeliveryChunk& chunk, double max_loss) {
  std::vector<uint32_t> order;
  for (uint32_t i = 0; i < chunk.variants.size(); ++i) {
    if (chunk.variants[i].loss <= max_loss) order.push_back(i);
  }
  const auto& variants = chunk.variants;
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return variants[a].bytes != variants[b].bytes ? variants[a].bytes < variants[b].bytes
                                                  : variants[a].loss < variants[b].loss;
  });
  // Loss saved for each byte between two variants.
  const auto slope = [&](uint32_t from, uint32_t to) {
    return (variants[from].loss - variants[to].loss) / static_cast<double>(variants[to].bytes - variants[from].bytes);
  };
  std::vector<uint32_t> hull;
  for (const uint32_t next : order) {
    if (!hull.empty() && variants[next].loss >= variants[hull.back()].loss) continue;
    while (hull.size() >= 2 && slope(hull.back(), next) >= slope(hull[hull.size() - 2], hull.back())) hull.pop_back();
    hull.push_back(next);
  }
  return hull;
}

// What all ends of the prefix have in common.
struct Planner {
  std::span<const DeliveryChunk> chunks;
  const LinkState& link;
  const DeliveryGoal& goal;
  std::vector<std::vector<uint32_t>> hulls;  // of the chunks before the first one without an acceptable variant
  std::vector<Upgrade> upgrades;             // most gain a byte first
  double all_tokens = 0.0;

  Planner(std::span<const DeliveryChunk> all, const LinkState& state, const DeliveryGoal& asked)
      : chunks(all), link(state), goal(asked) {
    for (const DeliveryChunk& chunk : chunks) all_tokens += chunk.tokens;
    for (const DeliveryChunk& chunk : chunks) {
      hulls.push_back(HullOf(chunk, goal.max_loss));
      if (hulls.back().empty()) {
        hulls.pop_back();
        break;
      }
    }
    for (uint32_t i = 0; i < hulls.size(); ++i) AddUpgrades(i);
    std::stable_sort(upgrades.begin(), upgrades.end(),
                     [](const Upgrade& a, const Upgrade& b) { return a.Rate() > b.Rate(); });
  }

  void AddUpgrades(uint32_t chunk) {
    const std::vector<DeliveryVariant>& variants = chunks[chunk].variants;
    for (size_t i = 1; i < hulls[chunk].size(); ++i) {
      const DeliveryVariant& from = variants[hulls[chunk][i - 1]];
      const DeliveryVariant& to = variants[hulls[chunk][i]];
      upgrades.push_back({chunk, hulls[chunk][i], to.bytes - from.bytes, (from.loss - to.loss) * chunks[chunk].tokens});
    }
  }

  double RecomputeSeconds(size_t end) const {
    if (!goal.prefill_tokens_per_second.has_value()) return 0.0;
    double tokens = 0.0;
    for (size_t i = end; i < chunks.size(); ++i) tokens += chunks[i].tokens;
    return tokens / *goal.prefill_tokens_per_second;
  }

  double TransferSeconds(size_t end, uint64_t bytes) const {
    if (end == 0) return 0.0;
    return static_cast<double>(link.latency_nanos) / kNanosPerSecond +
           static_cast<double>(bytes) / link.bytes_per_second;
  }

  // Bytes that may be sent when the chunks from `end` on are recomputed; below 0: no time is left.
  double Budget(size_t end) const {
    double budget = std::numeric_limits<double>::infinity();
    if (goal.byte_budget.has_value()) budget = static_cast<double>(*goal.byte_budget);
    if (goal.deadline_nanos.has_value()) {
      const double left =
          static_cast<double>(*goal.deadline_nanos) / kNanosPerSecond - RecomputeSeconds(end) - TransferSeconds(end, 0);
      budget = std::min(budget, left < 0 ? -1.0 : left * link.bytes_per_second);
    }
    return budget;
  }

  DeliveryPlan PlanUpTo(size_t end) const {
    DeliveryPlan plan;
    double loss = 0.0;
    for (size_t i = 0; i < end; ++i) {
      plan.variants.push_back(hulls[i].front());
      plan.bytes += chunks[i].variants[hulls[i].front()].bytes;
      loss += chunks[i].variants[hulls[i].front()].loss * chunks[i].tokens;
    }
    const double budget = Budget(end);
    plan.keeps_goal = static_cast<double>(plan.bytes) <= budget;
    // A chunk's upgrades come in the order of its hull: where one does not fit, its later ones must not be taken.
    std::vector<bool> full(end, false);
    for (const Upgrade& upgrade : upgrades) {
      if (upgrade.chunk >= end || full[upgrade.chunk]) continue;
      if (static_cast<double>(plan.bytes + upgrade.more_bytes) > budget) {
        full[upgrade.chunk] = true;
        continue;
      }
      plan.variants[upgrade.chunk] = upgrade.variant;
      plan.bytes += upgrade.more_bytes;
      loss -= upgrade.gain;
    }
    plan.seconds = TransferSeconds(end, plan.bytes) + RecomputeSeconds(end);
    plan.loss = all_tokens > 0 ? std::max(loss, 0.0) / all_tokens : 0.0;
    return plan;
  }
};

// Makes the first chunk smaller where, at its size, a link at its worst could no longer bring the others in time.
void HedgeFirst(const Planner& planner, DeliveryPlan& plan) {
  const double worst = planner.link.worst_bytes_per_second;
  if (plan.variants.empty() || worst <= 0.0 || !planner.goal.deadline_nanos.has_value()) return;
  const size_t end = plan.variants.size();
  double others = 0.0;
  for (size_t i = 1; i < end; ++i) {
    others += static_cast<double>(planner.chunks[i].variants[planner.hulls[i].front()].bytes);
  }
  const double left = static_cast<double>(*planner.goal.deadline_nanos) / kNanosPerSecond -
                      planner.RecomputeSeconds(end) - planner.TransferSeconds(end, 0);
  const DeliveryChunk& first = planner.chunks.front();
  for (auto at = planner.hulls.front().rbegin(); at != planner.hulls.front().rend(); ++at) {
    const DeliveryVariant& variant = first.variants[*at];
    const DeliveryVariant& planned = first.variants[plan.variants.front()];
    if (variant.bytes > planned.bytes) continue;
    const bool smallest = *at == planner.hulls.front().front();
    if (!smallest && (static_cast<double>(variant.bytes) + others) / worst > left) continue;
    plan.bytes -= planned.bytes - variant.bytes;
    plan.loss += (variant.loss - planned.loss) * first.tokens / planner.all_tokens;
    plan.variants.front() = *at;
    plan.seconds = planner.TransferSeconds(end, plan.bytes) + planner.RecomputeSeconds(end);
    return;
  }
}

// A plan that keeps the goal before one that does not; among those less loss, then less time; else less time.
bool Better(const DeliveryPlan& a, const DeliveryPlan& b) {
  if (a.keeps_goal != b.keeps_goal) return a.keeps_goal;
  if (a.keeps_goal && a.loss != b.loss) return a.loss < b.loss;
  return a.seconds < b.seconds;
}

}  // namespace

DeliveryPlan PlanDelivery(std::span<const DeliveryChunk> chunks, const LinkState& link, const DeliveryGoal& goal) {
  const Planner planner(chunks, link, goal);
  const size_t longest = planner.hulls.size();
  DeliveryPlan best = planner.PlanUpTo(longest);
  size_t before = longest;
  for (uint32_t i = kMaxPrefixEnds - 1; goal.prefill_tokens_per_second.has_value() && i-- > 0;) {
    const size_t end = longest * i / (kMaxPrefixEnds - 1);
    if (end == before) continue;
    before = end;
    DeliveryPlan plan = planner.PlanUpTo(end);
    if (Better(plan, best)) best = std::move(plan);
  }
  HedgeFirst(planner, best);
  return best;
}

void LinkEstimate::Observe(uint64_t bytes, int64_t nanos) {
  if (bytes == 0 || nanos <= 0) return;
  const double sample = static_cast<double>(nanos) / kNanosPerSecond / static_cast<double>(bytes);
  if (!observed_) seconds_per_byte_ = worst_seconds_per_byte_ = sample;
  observed_ = true;
  newest_seconds_per_byte_ = sample;
  seconds_per_byte_ += kWeight * (sample - seconds_per_byte_);
  worst_seconds_per_byte_ += kForgetting * (seconds_per_byte_ - worst_seconds_per_byte_);
  worst_seconds_per_byte_ = std::max({worst_seconds_per_byte_, sample, seconds_per_byte_});
}

}  // namespace kdn
