#ifndef KDN_SERVER_METRICS_METRICS_H_
#define KDN_SERVER_METRICS_METRICS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/core/store_events.h"

namespace prometheus {
class Registry;
}  // namespace prometheus

namespace kdn {

struct BuildLabels {
  std::string version;
  std::string commit;
  std::string compiler;
};

// The daemon's metrics. Names, units and labels are listed in README.md; every label has a small fixed set of values.
// Thread-safe; nothing here blocks.
class Metrics : public StoreEvents {
 public:
  // Registers everything in `registry`, which no other Metrics may use.
  Metrics(std::shared_ptr<prometheus::Registry> registry, const BuildLabels& build);
  ~Metrics() override;

  void OnLookup(uint64_t chunks, uint64_t hit_chunks, uint64_t tokens, uint64_t hit_tokens) override;
  void OnHit(std::string_view tier, uint64_t tokens, uint64_t bytes) override;
  void OnMiss(MissReason reason) override;
  void OnStored(StoreOutcome outcome, uint64_t tokens, uint64_t stored_bytes, uint64_t raw_bytes) override;
  void OnDivergence(uint64_t cells) override;
  void OnStoreRejected(std::string_view reason) override;
  void OnEvicted(std::string_view reason, uint64_t chunks, uint64_t bytes) override;
  void OnReinserted(uint64_t chunks, uint64_t bytes) override;
  void OnProfileStored(ProfileId profile, uint64_t stored_bytes, uint64_t raw_bytes) override;
  void OnProfileDelivered(ProfileId profile, uint64_t bytes) override;
  void OnObjectStored(uint64_t bytes) override;
  void OnObjectRead(std::string_view outcome, uint64_t bytes) override;
  void OnCorruption(std::string_view where) override;

  // `method` is a name of the service definition; `code` a canonical code's name, upper case.
  void OnCallStarted();
  void OnCallFinished(std::string_view method, std::string_view code, double seconds);

  // Every counter with its value, named as in the exposition format: kdn_miss_total{reason="absent"}.
  std::map<std::string, uint64_t> Counters() const;

 private:
  struct Families;
  const std::unique_ptr<Families> families_;
};

// What is read when somebody looks, not counted: sizes and depths.
struct GaugeSources {
  std::function<std::vector<TierInfo>()> tiers;
  // Calibration objects; nothing when the store cannot tell.
  struct Objects {
    uint64_t objects = 0;
    uint64_t bytes = 0;
  };
  std::function<std::optional<Objects>()> objects;
  std::function<uint64_t()> queue_depth;
  std::function<uint64_t()> memory_used_bytes;
  uint64_t memory_limit_bytes = 0;
};

// Serves GET /metrics in Prometheus's text format. Thread-safe.
class MetricsEndpoint {
 public:
  // Listens on "host:port" (port 0: a free one) until destroyed. The sources are called from its threads until then.
  // Unavailable when the address cannot be bound.
  static absl::StatusOr<std::unique_ptr<MetricsEndpoint>> Start(const std::string& listen,
                                                                std::shared_ptr<prometheus::Registry> registry,
                                                                GaugeSources sources);
  ~MetricsEndpoint();

  int port() const;

 private:
  struct Impl;
  explicit MetricsEndpoint(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

// For wiring, which need not know the library.
std::shared_ptr<prometheus::Registry> NewMetricsRegistry();

}  // namespace kdn

#endif  // KDN_SERVER_METRICS_METRICS_H_
