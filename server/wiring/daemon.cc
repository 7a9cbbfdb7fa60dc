#include "server/wiring/daemon.h"

#include <mutex>
#include <utility>

#include "absl/time/clock.h"
#include "config/key_table.h"
#include "kernels/base/log.h"
#include "kernels/base/status.h"
#include "server/core/open.h"
#include "server/metrics/metrics.h"
#include "server/wiring/build_info.h"
#include "server/wiring/store_options.h"

namespace kdn {
namespace {

// Token ids are at least one byte of text each, so a text has no more tokens than bytes.
uint64_t MaxTokens(uint64_t max_text_bytes) { return std::min(max_text_bytes, kMaxTokensPerCall); }

TransportSecurity SecurityOf(config::TlsMode mode) {
  switch (mode) {
    case config::TlsMode::kOff:
      return TransportSecurity::kPlaintext;
    case config::TlsMode::kTls:
      return TransportSecurity::kTls;
    case config::TlsMode::kMutual:
      return TransportSecurity::kMutualTls;
  }
  return TransportSecurity::kMutualTls;
}

Authenticator::Mode AuthOf(config::AuthMode mode) {
  switch (mode) {
    case config::AuthMode::kNone:
      return Authenticator::Mode::kNone;
    case config::AuthMode::kToken:
      return Authenticator::Mode::kToken;
    case config::AuthMode::kMutualTls:
      return Authenticator::Mode::kCertificate;
  }
  return Authenticator::Mode::kCertificate;
}

SyncMode SyncOf(config::SyncMode mode) {
  switch (mode) {
    case config::SyncMode::kAlways:
      return SyncMode::kAlways;
    case config::SyncMode::kBatch:
      return SyncMode::kBatch;
    case config::SyncMode::kNone:
      return SyncMode::kNone;
  }
  return SyncMode::kAlways;
}

std::string ValueOf(const config::Config& config, std::string_view key) {
  return config::ValueText(*config::FindKey(key), config);
}

DaemonFacts FactsOf(const config::Config& config) {
  const BuildInfo build = ThisBuild();
  DaemonFacts facts;
  facts.version = build.version;
  facts.commit = build.commit;
  facts.build = build.build;
  facts.started_ms = Clock::System().WallMillis();
  facts.data_path = config.storage.path;
  facts.values = ValueOf(config, "storage.values");
  facts.sync = ValueOf(config, "storage.sync");
  for (const config::KeySpec& spec : config::KeyTable()) {
    facts.config.push_back(
        {std::string(spec.name), config::ValueText(spec, config), config::ToString(config.OriginOf(spec.name))});
  }
  return facts;
}

}  // namespace

ChunkStoreOptions MakeStoreOptions(const config::Config& config) {
  const config::Config::Storage& storage = config.storage;
  ChunkStoreOptions options;
  options.path = storage.path;
  options.values = storage.values == config::ValuesKind::kSegments ? ValuesKind::kSegments : ValuesKind::kRocksDb;
  options.capacity_bytes = storage.capacity_bytes;
  options.reserve_bytes = storage.reserve_bytes;
  options.high_watermark = storage.high_watermark;
  options.low_watermark = storage.low_watermark;
  options.sync = SyncOf(storage.sync);
  options.sync_interval_ms = static_cast<uint32_t>(storage.sync_interval.count());
  options.ttl_ms = static_cast<uint64_t>(storage.ttl.count());
  options.segment_bytes = storage.segment_bytes;
  options.verify_on_read = storage.verify_on_read;
  options.direct_io = storage.direct_io;
  options.ram_tier_bytes = config.memory.ram_tier_bytes;
  options.block_cache_bytes = config.memory.block_cache_bytes;
  options.max_container_bytes = config.limits.max_container_bytes;
  return options;
}

RpcServerOptions MakeRpcOptions(const config::Config& config) {
  RpcServerOptions options;
  options.host = config.server.listen.host;
  options.port = config.server.listen.port;
  options.unix_path = config.server.listen.unix_path;
  options.security = SecurityOf(config.tls.mode);
  options.cert_file = config.tls.cert;
  options.key_file = config.tls.key;
  options.client_ca_file = config.tls.client_ca;
  options.auth = {AuthOf(config.auth.mode), config.auth.tokens_file, config.tenants.default_tenant};
  options.limits.max_frame_bytes = config.server.max_frame_bytes;
  options.limits.max_container_bytes = config.limits.max_container_bytes;
  options.limits.per_call_bytes = config.memory.per_call_bytes;
  options.limits.max_chunks_per_call = static_cast<uint32_t>(config.limits.max_chunks_per_call);
  options.limits.max_spec_bytes = config.limits.max_spec_bytes;
  options.limits.max_text_tokens = MaxTokens(config.limits.max_text_bytes);
  options.limits.default_deadline = absl::FromChrono(config.server.default_deadline);
  options.inflight_bytes = config.memory.inflight_bytes;
  options.num_threads = static_cast<int>(config.server.threads);
  options.max_streams_per_connection = static_cast<int>(config.server.max_streams_per_connection);
  options.keepalive = absl::FromChrono(config.server.keepalive);
  options.idle_timeout = absl::FromChrono(config.server.idle_timeout);
  options.reflection = config.server.reflection;
  options.admin = config.admin.enabled;
  options.facts = FactsOf(config);
  return options;
}

absl::Status CheckFiles(const config::Config& config) { return CheckFiles(MakeRpcOptions(config)); }

// Destroyed from the last member to the first: who calls goes before who is called.
struct Daemon::Impl {
  absl::Duration drain_timeout;
  std::shared_ptr<prometheus::Registry> registry;  // with the endpoint
  std::unique_ptr<Metrics> metrics;
  std::unique_ptr<ChunkStore> store;
  std::unique_ptr<RpcServer> rpc;
  std::unique_ptr<MetricsEndpoint> endpoint;
  std::string metrics_address;
  std::once_flag stopped;
  absl::Status stop_status;

  absl::Status StartEndpoint(const config::Config& config);
};

absl::Status Daemon::Impl::StartEndpoint(const config::Config& config) {
  if (!config.metrics.listen.enabled()) return absl::OkStatus();
  GaugeSources sources;
  sources.tiers = [this] { return store->Tiers(); };
  sources.objects = [this]() -> std::optional<GaugeSources::Objects> {
    const absl::StatusOr<ChunkStore::Totals> totals = store->GetTotals();
    if (!totals.ok()) return std::nullopt;
    return GaugeSources::Objects{totals->objects, totals->object_bytes};
  };
  sources.queue_depth = [this] { return rpc->queue_depth(); };
  sources.memory_used_bytes = [this] { return rpc->memory_used_bytes(); };
  sources.memory_limit_bytes = config.memory.inflight_bytes;
  KDN_ASSIGN_OR_RETURN(endpoint, MetricsEndpoint::Start(ToString(config.metrics.listen), registry, std::move(sources)));
  config::HostPort actual = config.metrics.listen;
  actual.port = static_cast<uint16_t>(endpoint->port());
  metrics_address = ToString(actual);
  rpc->SetMetricsAddress(metrics_address);
  return absl::OkStatus();
}

Daemon::Daemon(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Daemon::~Daemon() {
  std::call_once(impl_->stopped, [this] {
    impl_->endpoint.reset();
    if (impl_->rpc != nullptr) impl_->rpc->Stop(absl::ZeroDuration());
  });
}

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const config::Config& config) {
  const BuildInfo build = ThisBuild();
  std::unique_ptr<Daemon> daemon(new Daemon(std::make_unique<Impl>()));
  Impl& impl = *daemon->impl_;
  impl.drain_timeout = absl::FromChrono(config.server.drain_timeout);
  impl.registry = NewMetricsRegistry();
  impl.metrics = std::make_unique<Metrics>(impl.registry, BuildLabels{build.version, build.commit, build.compiler});

  StoreEnvironment environment;
  environment.events = impl.metrics.get();
  environment.recovery_progress = [](uint64_t done, uint64_t total) {
    Log(LogLevel::kInfo, "rebuilding the index", {{"groups_done", done}, {"groups_total", total}});
  };
  absl::StatusOr<OpenedStore> opened = OpenChunkStore(MakeStoreOptions(config), environment);
  if (!opened.ok()) return Annotate(opened.status(), StrCat("storage.path ", config.storage.path));
  impl.store = std::move(opened->store);

  RpcServerOptions options = MakeRpcOptions(config);
  options.facts.recovery = opened->recovery;
  KDN_ASSIGN_OR_RETURN(impl.rpc, RpcServer::Start(options, *impl.store, *impl.metrics));
  KDN_RETURN_IF_ERROR(impl.StartEndpoint(config));
  return daemon;
}

std::string Daemon::listen_address() const { return impl_->rpc->address(); }
std::string Daemon::metrics_address() const { return impl_->metrics_address; }
absl::Status Daemon::Reload() { return impl_->rpc->ReloadTokens(); }

absl::Status Daemon::Stop() {
  std::call_once(impl_->stopped, [this] {
    impl_->rpc->Stop(impl_->drain_timeout);
    impl_->endpoint.reset();
    impl_->stop_status = impl_->store->Close();
  });
  return impl_->stop_status;
}

}  // namespace kdn
