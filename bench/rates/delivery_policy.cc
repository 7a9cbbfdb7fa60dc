#include "bench/rates/delivery_policy.h"

#include <algorithm>
#include <cmath>

namespace kdn::bench {
namespace {

class Fixed : public DeliveryPolicy {
 public:
  explicit Fixed(uint32_t level) : level_(level) {}
  std::optional<uint32_t> Next(const Progress&) override { return level_; }
  void Transferred(uint64_t, double) override {}

 private:
  uint32_t level_;
};

class CacheGen : public DeliveryPolicy {
 public:
  explicit CacheGen(double prior) : bytes_per_second_(prior) {}

  std::optional<uint32_t> Next(const Progress& progress) override {
    const std::vector<DeliveryChunk>& chunks = *progress.chunks;
    const auto levels = static_cast<uint32_t>(chunks.front().variants.size());
    for (uint32_t level = 0; level < levels; ++level) {
      double bytes = 0.0;
      for (size_t i = progress.next; i < chunks.size(); ++i) {
        bytes += static_cast<double>(chunks[i].variants[level].bytes);
      }
      if (bytes / bytes_per_second_ <= progress.seconds_left) return level;
    }
    double tokens = 0.0;
    for (size_t i = progress.next; i < chunks.size(); ++i) tokens += chunks[i].tokens;
    if (tokens / progress.prefill_tokens_per_second <= progress.seconds_left) return std::nullopt;
    return levels - 1;
  }

  void Transferred(uint64_t bytes, double seconds) override {
    bytes_per_second_ = static_cast<double>(bytes) / seconds;
  }

 private:
  double bytes_per_second_;
};

class Planned : public DeliveryPolicy {
 public:
  explicit Planned(double prior) : link_(prior) {}

  void RequestBegins() override { plan_.reset(); }

  std::optional<uint32_t> Next(const Progress& progress) override {
    const bool moved = std::abs(link_.bytes_per_second() / planned_rate_ - 1) > kReplanAt;
    const size_t replan_every = std::max<size_t>(1, progress.chunks->size() / kPlansPerRequest);
    if (!plan_.has_value() || moved || progress.next - planned_at_ >= replan_every) Plan(progress);
    const size_t index = progress.next - planned_at_;
    if (index >= plan_->variants.size()) return std::nullopt;
    return plan_->variants[index];
  }

  void Transferred(uint64_t bytes, double seconds) override { link_.Observe(bytes, std::llround(seconds * 1e9)); }

 private:
  static constexpr double kReplanAt = 0.1;
  static constexpr size_t kPlansPerRequest = 64;

  void Plan(const Progress& progress) {
    planned_rate_ = link_.bytes_per_second();
    planned_at_ = progress.next;
    DeliveryGoal goal;
    goal.deadline_nanos = std::llround(progress.seconds_left * 1e9);
    goal.prefill_tokens_per_second = progress.prefill_tokens_per_second;
    plan_ = PlanDelivery(std::span(*progress.chunks).subspan(progress.next),
                         {planned_rate_, 0, link_.worst_bytes_per_second()}, goal);
  }

  LinkEstimate link_;
  std::optional<DeliveryPlan> plan_;
  double planned_rate_ = 1.0;
  size_t planned_at_ = 0;
};

}  // namespace

std::unique_ptr<DeliveryPolicy> FixedLevel(uint32_t level) { return std::make_unique<Fixed>(level); }
std::unique_ptr<DeliveryPolicy> CacheGenAdaptation(double prior) { return std::make_unique<CacheGen>(prior); }
std::unique_ptr<DeliveryPolicy> PlannedDelivery(double prior) { return std::make_unique<Planned>(prior); }

}  // namespace kdn::bench
