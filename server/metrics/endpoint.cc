#include <prometheus/client_metric.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>

#include <exception>
#include <utility>

#include "kernels/base/status.h"
#include "server/metrics/metrics.h"

namespace kdn {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;

constexpr size_t kThreads = 2;

MetricFamily NewGauge(const char* name, const char* help) {
  MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = prometheus::MetricType::Gauge;
  return family;
}

void AddValue(MetricFamily& family, uint64_t value, std::vector<ClientMetric::Label> labels) {
  ClientMetric metric;
  metric.gauge.value = static_cast<double>(value);
  metric.label = std::move(labels);
  family.metric.push_back(std::move(metric));
}

// Asks the sources at each scrape.
class GaugeCollector : public prometheus::Collectable {
 public:
  explicit GaugeCollector(GaugeSources sources) : sources_(std::move(sources)) {}

  std::vector<MetricFamily> Collect() const override {
    MetricFamily chunks = NewGauge("kdn_tier_chunks", "Chunks held, by tier.");
    MetricFamily bytes = NewGauge("kdn_tier_bytes", "Bytes held, by tier.");
    MetricFamily capacity = NewGauge("kdn_tier_capacity_bytes", "Bytes that may be held, by tier; 0 is no limit.");
    for (const TierInfo& tier : sources_.tiers()) {
      const std::vector<ClientMetric::Label> labels = {{"tier", std::string(tier.tier)}};
      AddValue(chunks, tier.chunks, labels);
      AddValue(bytes, tier.bytes, labels);
      AddValue(capacity, tier.capacity_bytes, labels);
    }
    MetricFamily objects = NewGauge("kdn_objects", "Calibration objects stored.");
    MetricFamily object_bytes = NewGauge("kdn_object_bytes", "Bytes of calibration objects stored.");
    if (const std::optional<GaugeSources::Objects> held = sources_.objects(); held.has_value()) {
      AddValue(objects, held->objects, {});
      AddValue(object_bytes, held->bytes, {});
    }
    MetricFamily queue = NewGauge("kdn_queue_depth", "Tasks that wait, by queue.");
    AddValue(queue, sources_.queue_depth(), {{"queue", "workers"}});
    MetricFamily used = NewGauge("kdn_memory_inflight_bytes", "Bytes that calls in progress hold.");
    AddValue(used, sources_.memory_used_bytes(), {});
    MetricFamily limit = NewGauge("kdn_memory_inflight_limit_bytes", "Bytes that calls in progress may hold.");
    AddValue(limit, sources_.memory_limit_bytes, {});
    return {chunks, bytes, capacity, objects, object_bytes, queue, used, limit};
  }

 private:
  const GaugeSources sources_;
};

}  // namespace

// The exposer goes first: its threads call the collectors.
struct MetricsEndpoint::Impl {
  std::shared_ptr<prometheus::Registry> registry;
  std::shared_ptr<GaugeCollector> gauges;
  std::unique_ptr<prometheus::Exposer> exposer;
};

MetricsEndpoint::MetricsEndpoint(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MetricsEndpoint::~MetricsEndpoint() = default;

absl::StatusOr<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::Start(const std::string& listen,
                                                                        std::shared_ptr<prometheus::Registry> registry,
                                                                        GaugeSources sources) {
  auto impl = std::make_unique<Impl>();
  impl->registry = std::move(registry);
  impl->gauges = std::make_shared<GaugeCollector>(std::move(sources));
  try {  // the library reports by exception
    impl->exposer = std::make_unique<prometheus::Exposer>(listen, kThreads);
  } catch (const std::exception& e) {
    // What the library says does not name the reason, which is nearly always this one.
    return Unavailable("metrics.listen: cannot listen on ", listen, ": is the address in use? (", e.what(), ")");
  }
  impl->exposer->RegisterCollectable(impl->registry);
  impl->exposer->RegisterCollectable(impl->gauges);
  return std::unique_ptr<MetricsEndpoint>(new MetricsEndpoint(std::move(impl)));
}

int MetricsEndpoint::port() const {
  const std::vector<int> ports = impl_->exposer->GetListeningPorts();
  return ports.empty() ? 0 : ports.front();
}

}  // namespace kdn
