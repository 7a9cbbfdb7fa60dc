#include <algorithm>

#include "client/kdn/kdn.h"
#include "client/kdnctl/commands.h"
#include "kernels/base/clock.h"
#include "kernels/base/status.h"
#include "kernels/format/container.h"

// Commands that look at the server as a whole.

namespace kdn::ctl {
namespace {

Json StatusDocument(const ServerStatus& status) {
  Json doc;
  doc["state"] = status.state;
  doc["state_reason"] = status.state_reason;
  doc["version"] = status.version;
  doc["commit"] = status.commit;
  doc["build"] = status.build;
  doc["started_ms"] = status.started_ms;
  doc["listen"] = status.listen;
  doc["metrics_listen"] = status.metrics_listen;
  doc["data_path"] = status.data_path;
  doc["values"] = status.values;
  doc["sync"] = status.sync;
  doc["store_format"] = status.store_format;
  doc["container_major"] = status.container_major;
  doc["container_minor"] = status.container_minor;
  doc["recovery"] = status.recovery;
  return doc;
}

}  // namespace

std::string ClientVersion() { return KDN_VERSION; }

ExitCode RunVersion(Session& session, VersionScope scope) {
  Report report;
  const std::string container = StrCat(kContainerMajor, ".", kContainerMinor);
  report.document["client"] = {{"version", KDN_VERSION}, {"abi", KDN_ABI_VERSION}, {"container", container}};
  Table table{{"", "VERSION", "CONTAINER", "BUILD"}, {{"client", KDN_VERSION, container, "-"}}};
  if (scope == VersionScope::kClient) {
    report.tables = {table};
    return session.Print(report);
  }
  const auto client = session.client();
  if (!client.ok()) return session.Fail("version", client.status());
  const auto status = (*client)->admin().Status();
  if (!status.ok()) {
    report.tables = {table};
    session.Print(report);
    return session.Fail("version of the server", status.status());
  }
  const std::string server_container = StrCat(status->container_major, ".", status->container_minor);
  report.document["server"] = {{"version", status->version},
                               {"commit", status->commit},
                               {"build", status->build},
                               {"container", server_container},
                               {"store_format", status->store_format}};
  table.rows.push_back({"server", StrCat(status->version, " (", status->commit, ")"), server_container, status->build});
  report.tables = {table};
  return session.Print(report);
}

ExitCode RunHealth(Session& session, HealthProbe probe) {
  const auto client = session.client();
  if (!client.ok()) return session.Fail("health", client.status());
  const auto serving = (*client)->admin().Health();
  if (!serving.ok()) return session.Fail("health", serving.status());
  Report report;
  report.document["health"] = *serving;
  Table table{{}, {{"health", *serving}}};
  if (probe == HealthProbe::kReadiness) {
    const auto round_trip = (*client)->admin().Probe();
    if (!round_trip.ok()) return session.Fail("round trip through index and values", round_trip.status());
    report.document["index_micros"] = round_trip->index_micros;
    report.document["values_micros"] = round_trip->values_micros;
    table.rows.push_back({"index", StrCat(round_trip->index_micros, " us")});
    table.rows.push_back({"values", StrCat(round_trip->values_micros, " us")});
  }
  if (*serving != "SERVING") {
    const auto status = (*client)->admin().Status();
    if (status.ok() && !status->state_reason.empty()) {
      report.document["reason"] = status->state_reason;
      table.rows.push_back({"reason", status->state_reason});
    }
  }
  report.tables = {table};
  const bool live = *serving == "SERVING" || probe == HealthProbe::kLiveness;
  return session.Print(report, live ? kDone : kFailed);
}

ExitCode RunStatus(Session& session) {
  const auto client = session.client();
  if (!client.ok()) return session.Fail("status", client.status());
  const auto status = (*client)->admin().Status();
  if (!status.ok()) return session.Fail("status", status.status());
  Report report;
  report.document = StatusDocument(*status);
  Table table;
  for (const auto& [key, value] : report.document.items()) {
    std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    if (key == "container_minor" || text.empty()) continue;
    if (key == "started_ms") {
      const int64_t up_ms = std::max<int64_t>(0, Clock::System().WallMillis() - status->started_ms);
      table.rows.push_back({"started", StrCat(HumanTime(status->started_ms), ", up ", HumanDuration(up_ms))});
    } else if (key == "container_major") {
      table.rows.push_back({"container", StrCat(status->container_major, ".", status->container_minor)});
    } else {
      table.rows.push_back({key, text});
    }
  }
  report.tables = {table};
  return session.Print(report);
}

ExitCode RunStats(Session& session) {
  const auto client = session.client();
  if (!client.ok()) return session.Fail("stats", client.status());
  const auto stats = (*client)->admin().Stats();
  if (!stats.ok()) return session.Fail("stats", stats.status());
  Report report;
  report.document["tiers"] = Json::array();
  Table tiers{{"TIER", "CHUNKS", "STORED", "RAW", "RATIO", "TAKEN", "CAPACITY", "HITS", "MISSES"}, {}};
  for (const TierStats& tier : stats->tiers) {
    report.document["tiers"].push_back({{"tier", tier.tier},
                                        {"chunks", tier.chunks},
                                        {"bytes", tier.bytes},
                                        {"stored_bytes", tier.stored_bytes},
                                        {"raw_bytes", tier.raw_bytes},
                                        {"capacity_bytes", tier.capacity_bytes},
                                        {"hits", tier.hits},
                                        {"misses", tier.misses}});
    tiers.rows.push_back({tier.tier, HumanCount(tier.chunks), HumanBytes(tier.stored_bytes),
                          tier.raw_bytes == 0 ? "-" : HumanBytes(tier.raw_bytes),
                          HumanRatio(tier.raw_bytes, tier.stored_bytes), HumanBytes(tier.bytes),
                          tier.capacity_bytes == 0 ? "no limit" : HumanBytes(tier.capacity_bytes),
                          HumanCount(tier.hits), HumanCount(tier.misses)});
  }
  report.document["models"] = stats->models;
  report.document["texts"] = stats->texts;
  report.document["objects"] = stats->objects;
  report.document["object_bytes"] = stats->object_bytes;
  report.document["disk_free_bytes"] = stats->disk_free_bytes;
  report.document["rss_bytes"] = stats->rss_bytes;
  report.document["counters"] = stats->counters;
  Table totals{{},
               {{"models", HumanCount(stats->models)},
                {"texts", HumanCount(stats->texts)},
                {"objects", StrCat(HumanCount(stats->objects), " (", HumanBytes(stats->object_bytes), ")")},
                {"disk free", HumanBytes(stats->disk_free_bytes)},
                {"resident", HumanBytes(stats->rss_bytes)}}};
  Table counters{{"COUNTER", "VALUE"}, {}};
  for (const auto& [name, value] : stats->counters) counters.rows.push_back({name, HumanCount(value)});
  report.tables = {tiers, totals, counters};
  return session.Print(report);
}

ExitCode RunConfigGet(Session& session, const std::string& key_prefix) {
  const auto client = session.client();
  if (!client.ok()) return session.Fail("config", client.status());
  const auto entries = (*client)->admin().GetConfig();
  if (!entries.ok()) return session.Fail("config", entries.status());
  Report report;
  report.document["config"] = Json::array();
  Table table{{"KEY", "VALUE", "ORIGIN"}, {}};
  for (const ConfigEntry& entry : *entries) {
    if (entry.key.compare(0, key_prefix.size(), key_prefix) != 0) continue;
    report.document["config"].push_back({{"key", entry.key}, {"value", entry.value}, {"origin", entry.origin}});
    table.rows.push_back({entry.key, entry.value, entry.origin});
  }
  if (table.rows.empty()) return session.Fail("config", NotFound("no key starts with '", key_prefix, "'"));
  report.tables = {table};
  return session.Print(report);
}

ExitCode RunModelLs(Session& session) {
  const auto client = session.client();
  if (!client.ok()) return session.Fail("model ls", client.status());
  const auto models = (*client)->admin().ListModels();
  if (!models.ok()) return session.Fail("model ls", models.status());
  Report report;
  report.document["models"] = Json::array();
  Table table{{"FINGERPRINT", "NAME", "DTYPE", "LAYERS", "CHUNK TOKENS", "TOKEN BYTES", "REGISTERED"}, {}};
  for (const ModelSummary& model : *models) {
    const auto spec = DecodeModelSpec(model.canonical_spec);
    if (!spec.ok()) return session.Fail(StrCat("spec of model ", model.fingerprint.ToShortHex()), spec.status());
    report.document["models"].push_back({{"fingerprint", model.fingerprint.ToHex()},
                                         {"display_name", model.display_name},
                                         {"dtype", DTypeName(spec->dtype)},
                                         {"layers", spec->layers.size()},
                                         {"chunk_tokens", model.chunk_tokens},
                                         {"token_bytes", TokenBytes(*spec)},
                                         {"created_ms", model.created_ms}});
    table.rows.push_back({model.fingerprint.ToShortHex(), model.display_name, std::string(DTypeName(spec->dtype)),
                          std::to_string(spec->layers.size()), std::to_string(model.chunk_tokens),
                          HumanCount(TokenBytes(*spec)), HumanTime(model.created_ms)});
  }
  report.tables = {table};
  return session.Print(report);
}

ExitCode RunMaintenance(Session& session, Maintenance what) {
  const auto client = session.client();
  if (!client.ok()) return session.Fail("connecting", client.status());
  Admin& admin = (*client)->admin();
  Report report;
  switch (what) {
    case Maintenance::kFlush: {
      const absl::Status flushed = admin.Flush(session.options().timeout_ms);
      if (!flushed.ok()) return session.Fail("flush", flushed);
      report.document["flushed"] = true;
      report.tables = {{{}, {{"flushed"}}}};
      break;
    }
    case Maintenance::kCompact: {
      const auto result = admin.Compact(session.options().timeout_ms);
      if (!result.ok()) return session.Fail("compact", result.status());
      report.document["bytes_before"] = result->bytes_before;
      report.document["bytes_after"] = result->bytes_after;
      report.tables = {
          {{}, {{"before", HumanBytes(result->bytes_before)}, {"after", HumanBytes(result->bytes_after)}}}};
      break;
    }
    case Maintenance::kDrain:
    case Maintenance::kUndrain: {
      const auto state = admin.Drain(what == Maintenance::kDrain ? DrainChange::kDrain : DrainChange::kUndo);
      if (!state.ok()) return session.Fail(what == Maintenance::kDrain ? "drain" : "undrain", state.status());
      report.document["state"] = *state;
      report.tables = {{{}, {{"state", *state}}}};
      break;
    }
  }
  return session.Print(report);
}

}  // namespace kdn::ctl
