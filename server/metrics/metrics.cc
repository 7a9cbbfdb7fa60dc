#include "server/metrics/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <array>
#include <utility>

#include "kernels/base/status.h"

namespace kdn {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::Labels;
using prometheus::Registry;

constexpr int kLatencyBuckets = 18;  // 100 us x 2^k, to 13 s

Histogram::BucketBoundaries LatencyBuckets() {
  Histogram::BucketBoundaries bounds;
  double seconds = 100e-6;
  for (int i = 0; i < kLatencyBuckets; ++i, seconds *= 2) bounds.push_back(seconds);
  return bounds;
}

Family<Counter>& CounterFamily(Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

Family<Gauge>& GaugeFamily(Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}

}  // namespace

struct Metrics::Families {
  explicit Families(std::shared_ptr<Registry> r)
      : registry(std::move(r)),
        calls(CounterFamily(*registry, "kdn_rpc_requests_total", "Calls finished, by method and canonical code.")),
        seconds(prometheus::BuildHistogram()
                    .Name("kdn_rpc_duration_seconds")
                    .Help("Time from a call's arrival to its end, by method.")
                    .Register(*registry)),
        inflight(GaugeFamily(*registry, "kdn_rpc_inflight", "Calls in progress.").Add({})),
        lookup_chunks(CounterFamily(*registry, "kdn_lookup_chunks_total", "Chunks asked for by Lookup.").Add({})),
        lookup_tokens(CounterFamily(*registry, "kdn_lookup_tokens_total", "Tokens asked for by Lookup.").Add({})),
        lookup_hit_chunks(
            CounterFamily(*registry, "kdn_lookup_hit_chunks_total", "Chunks that Lookup found loadable.").Add({})),
        lookup_hit_tokens(
            CounterFamily(*registry, "kdn_lookup_hit_tokens_total", "Tokens that Lookup found loadable.").Add({})),
        hit_chunks(CounterFamily(*registry, "kdn_hit_chunks_total", "Chunks delivered, by tier.")),
        hit_tokens(CounterFamily(*registry, "kdn_hit_tokens_total", "Tokens delivered, by tier.")),
        hit_bytes(CounterFamily(*registry, "kdn_hit_bytes_total", "Bytes delivered, still coded, by tier.")),
        misses(CounterFamily(*registry, "kdn_miss_total", "Chunks not delivered, by reason.")),
        stored_chunks(CounterFamily(*registry, "kdn_stored_chunks_total", "Containers stored.").Add({})),
        stored_tokens(CounterFamily(*registry, "kdn_stored_tokens_total", "Tokens of containers stored.").Add({})),
        stored_bytes(CounterFamily(*registry, "kdn_stored_bytes_total", "Bytes stored, coded.").Add({})),
        stored_raw_bytes(
            CounterFamily(*registry, "kdn_stored_raw_bytes_total", "KV bytes before coding of what was stored.")
                .Add({})),
        rejected(CounterFamily(*registry, "kdn_store_rejected_total", "Containers refused, by canonical code.")),
        dedup_chunks(CounterFamily(*registry, "kdn_dedup_chunks_total", "Stores of what was there already.").Add({})),
        dedup_bytes(CounterFamily(*registry, "kdn_dedup_bytes_total", "Bytes not stored a second time.").Add({})),
        divergences(
            CounterFamily(*registry, "kdn_divergence_total", "Stores with other bytes than the first, which were kept.")
                .Add({})),
        divergent_cells(CounterFamily(*registry, "kdn_divergent_cells_total",
                                      "Cells stored again with other bytes than the first, which were kept.")
                            .Add({})),
        evictions(CounterFamily(*registry, "kdn_evictions_total", "Chunks evicted, by reason.")),
        evicted_bytes(CounterFamily(*registry, "kdn_evicted_bytes_total", "Bytes evicted.").Add({})),
        reinserted_chunks(CounterFamily(*registry, "kdn_reinserted_chunks_total",
                                        "Chunks written anew because their segment was reclaimed.")
                              .Add({})),
        reinserted_bytes(CounterFamily(*registry, "kdn_reinserted_bytes_total",
                                       "Bytes written anew because their segment was reclaimed.")
                             .Add({})),
        profile_stored_chunks(CounterFamily(*registry, "kdn_profile_stored_chunks_total",
                                            "Containers stored, by the highest-numbered profile among their tiles.")),
        profile_stored_bytes(
            CounterFamily(*registry, "kdn_profile_stored_bytes_total", "Bytes of these containers, coded.")),
        profile_stored_raw_bytes(CounterFamily(*registry, "kdn_profile_stored_raw_bytes_total",
                                               "KV bytes before coding of these containers.")),
        profile_delivered_chunks(CounterFamily(*registry, "kdn_profile_delivered_chunks_total",
                                               "Containers delivered, whole or in part, by profile.")),
        profile_delivered_bytes(CounterFamily(*registry, "kdn_profile_delivered_bytes_total",
                                              "Bytes delivered of these containers, coded.")),
        object_puts(CounterFamily(*registry, "kdn_object_puts_total", "Calibration objects stored.").Add({})),
        object_put_bytes(
            CounterFamily(*registry, "kdn_object_put_bytes_total", "Bytes of calibration objects stored.").Add({})),
        object_reads(CounterFamily(*registry, "kdn_object_reads_total", "Reads of calibration objects, by outcome.")),
        object_read_bytes(
            CounterFamily(*registry, "kdn_object_read_bytes_total", "Bytes of calibration objects delivered.").Add({})),
        corruptions(CounterFamily(*registry, "kdn_corruption_total", "Damage found, by where it was.")) {}

  const std::shared_ptr<Registry> registry;
  Family<Counter>& calls;
  Family<Histogram>& seconds;
  Gauge& inflight;
  Counter& lookup_chunks;
  Counter& lookup_tokens;
  Counter& lookup_hit_chunks;
  Counter& lookup_hit_tokens;
  Family<Counter>& hit_chunks;
  Family<Counter>& hit_tokens;
  Family<Counter>& hit_bytes;
  Family<Counter>& misses;
  Counter& stored_chunks;
  Counter& stored_tokens;
  Counter& stored_bytes;
  Counter& stored_raw_bytes;
  Family<Counter>& rejected;
  Counter& dedup_chunks;
  Counter& dedup_bytes;
  Counter& divergences;
  Counter& divergent_cells;
  Family<Counter>& evictions;
  Counter& evicted_bytes;
  Counter& reinserted_chunks;
  Counter& reinserted_bytes;
  Family<Counter>& profile_stored_chunks;
  Family<Counter>& profile_stored_bytes;
  Family<Counter>& profile_stored_raw_bytes;
  Family<Counter>& profile_delivered_chunks;
  Family<Counter>& profile_delivered_bytes;
  Counter& object_puts;
  Counter& object_put_bytes;
  Family<Counter>& object_reads;
  Counter& object_read_bytes;
  Family<Counter>& corruptions;
  const Histogram::BucketBoundaries latency_buckets = LatencyBuckets();
};

Metrics::Metrics(std::shared_ptr<Registry> registry, const BuildLabels& build)
    : families_(std::make_unique<Families>(std::move(registry))) {
  GaugeFamily(*families_->registry, "kdn_build_info", "Always 1; the labels say what runs.")
      .Add({{"version", build.version}, {"commit", build.commit}, {"compiler", build.compiler}})
      .Set(1);
  // Series that alerts and rates are built on exist from the start, at zero.
  for (const char* tier : {"ram", "disk"}) {
    families_->hit_chunks.Add({{"tier", tier}});
    families_->hit_tokens.Add({{"tier", tier}});
    families_->hit_bytes.Add({{"tier", tier}});
  }
  for (int reason = 1; reason <= static_cast<int>(MissReason::kIncomplete); ++reason) {
    families_->misses.Add({{"reason", std::string(MissReasonName(static_cast<MissReason>(reason)))}});
  }
  for (uint8_t profile = 0; profile <= kMaxProfileId; ++profile) {
    const Labels labels = {{"profile", std::string(ProfileName(static_cast<ProfileId>(profile)))}};
    families_->profile_stored_chunks.Add(labels);
    families_->profile_stored_bytes.Add(labels);
    families_->profile_stored_raw_bytes.Add(labels);
    families_->profile_delivered_chunks.Add(labels);
    families_->profile_delivered_bytes.Add(labels);
  }
  for (const char* outcome : {"delivered", "absent", "damaged"}) families_->object_reads.Add({{"outcome", outcome}});
  for (const char* where : {"values", "index", "upload"}) families_->corruptions.Add({{"where", where}});
}

Metrics::~Metrics() = default;

void Metrics::OnLookup(uint64_t chunks, uint64_t hit_chunks, uint64_t tokens, uint64_t hit_tokens) {
  families_->lookup_chunks.Increment(static_cast<double>(chunks));
  families_->lookup_hit_chunks.Increment(static_cast<double>(hit_chunks));
  families_->lookup_tokens.Increment(static_cast<double>(tokens));
  families_->lookup_hit_tokens.Increment(static_cast<double>(hit_tokens));
}

void Metrics::OnHit(std::string_view tier, uint64_t tokens, uint64_t bytes) {
  const Labels labels = {{"tier", std::string(tier)}};
  families_->hit_chunks.Add(labels).Increment();
  families_->hit_tokens.Add(labels).Increment(static_cast<double>(tokens));
  families_->hit_bytes.Add(labels).Increment(static_cast<double>(bytes));
}

void Metrics::OnMiss(MissReason reason) {
  families_->misses.Add({{"reason", std::string(MissReasonName(reason))}}).Increment();
}

void Metrics::OnStored(StoreOutcome outcome, uint64_t tokens, uint64_t stored_bytes, uint64_t raw_bytes) {
  switch (outcome) {
    case StoreOutcome::kStored:
      families_->stored_chunks.Increment();
      families_->stored_tokens.Increment(static_cast<double>(tokens));
      families_->stored_bytes.Increment(static_cast<double>(stored_bytes));
      families_->stored_raw_bytes.Increment(static_cast<double>(raw_bytes));
      return;
    case StoreOutcome::kDeduplicated:
      families_->dedup_chunks.Increment();
      families_->dedup_bytes.Increment(static_cast<double>(stored_bytes));
      return;
    case StoreOutcome::kKeptExisting:
      families_->divergences.Increment();
      return;
  }
}

void Metrics::OnDivergence(uint64_t cells) { families_->divergent_cells.Increment(static_cast<double>(cells)); }

void Metrics::OnStoreRejected(std::string_view reason) {
  families_->rejected.Add({{"reason", std::string(reason)}}).Increment();
}

void Metrics::OnEvicted(std::string_view reason, uint64_t chunks, uint64_t bytes) {
  families_->evictions.Add({{"reason", std::string(reason)}}).Increment(static_cast<double>(chunks));
  families_->evicted_bytes.Increment(static_cast<double>(bytes));
}

void Metrics::OnReinserted(uint64_t chunks, uint64_t bytes) {
  families_->reinserted_chunks.Increment(static_cast<double>(chunks));
  families_->reinserted_bytes.Increment(static_cast<double>(bytes));
}

void Metrics::OnProfileStored(ProfileId profile, uint64_t stored_bytes, uint64_t raw_bytes) {
  const Labels labels = {{"profile", std::string(ProfileName(profile))}};
  families_->profile_stored_chunks.Add(labels).Increment();
  families_->profile_stored_bytes.Add(labels).Increment(static_cast<double>(stored_bytes));
  families_->profile_stored_raw_bytes.Add(labels).Increment(static_cast<double>(raw_bytes));
}

void Metrics::OnProfileDelivered(ProfileId profile, uint64_t bytes) {
  const Labels labels = {{"profile", std::string(ProfileName(profile))}};
  families_->profile_delivered_chunks.Add(labels).Increment();
  families_->profile_delivered_bytes.Add(labels).Increment(static_cast<double>(bytes));
}

void Metrics::OnObjectStored(uint64_t bytes) {
  families_->object_puts.Increment();
  families_->object_put_bytes.Increment(static_cast<double>(bytes));
}

void Metrics::OnObjectRead(std::string_view outcome, uint64_t bytes) {
  families_->object_reads.Add({{"outcome", std::string(outcome)}}).Increment();
  families_->object_read_bytes.Increment(static_cast<double>(bytes));
}

void Metrics::OnCorruption(std::string_view where) {
  families_->corruptions.Add({{"where", std::string(where)}}).Increment();
}

void Metrics::OnCallStarted() { families_->inflight.Increment(); }

void Metrics::OnCallFinished(std::string_view method, std::string_view code, double seconds) {
  families_->inflight.Decrement();
  families_->calls.Add({{"method", std::string(method)}, {"code", std::string(code)}}).Increment();
  families_->seconds.Add({{"method", std::string(method)}}, families_->latency_buckets).Observe(seconds);
}

std::map<std::string, uint64_t> Metrics::Counters() const {
  std::map<std::string, uint64_t> counters;
  for (const prometheus::MetricFamily& family : families_->registry->Collect()) {
    if (family.type != prometheus::MetricType::Counter) continue;
    for (const prometheus::ClientMetric& metric : family.metric) {
      std::string name = family.name;
      for (const auto& label : metric.label) {
        name += StrCat(name.back() == '"' ? "," : "{", label.name, "=\"", label.value, "\"");
      }
      if (!metric.label.empty()) name += '}';
      counters[name] = static_cast<uint64_t>(metric.counter.value);
    }
  }
  return counters;
}

std::shared_ptr<Registry> NewMetricsRegistry() { return std::make_shared<Registry>(); }

}  // namespace kdn
