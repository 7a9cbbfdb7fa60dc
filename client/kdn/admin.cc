#include "client/kdn/admin.h"

#include <google/protobuf/empty.pb.h>
#include <google/protobuf/wrappers.pb.h>

#include <utility>

#include "client/kdn/client_impl.h"
#include "kdn/v1/admin.pb.h"
#include "kernels/base/status.h"

namespace kdn {
namespace {

constexpr uint32_t kModelsPerPage = 1000;
// Far more than a server lets a tenant have, one on each page.
constexpr int kMaxModelPages = 1 << 16;
constexpr char kHealthMethod[] = "/grpc.health.v1.Health/Check";

absl::StatusOr<Digest> ReadDigest(const std::string& bytes, std::string_view field) {
  const std::optional<Digest> digest = Digest::FromBytes(AsBytes(bytes));
  if (!digest.has_value()) return DataLoss("the server's ", field, " has ", bytes.size(), " bytes, not 32");
  return *digest;
}

std::string DigestBytes(const Digest& digest) { return std::string(digest.view()); }

absl::StatusOr<ChunkSummary> FromWire(const v1::ChunkSummary& wire) {
  ChunkSummary summary;
  KDN_ASSIGN_OR_RETURN(summary.chunk_digest, ReadDigest(wire.chunk_digest(), "chunk_digest"));
  KDN_ASSIGN_OR_RETURN(summary.fingerprint, ReadDigest(wire.fingerprint(), "fingerprint"));
  summary.token_begin = wire.token_begin();
  summary.num_tokens = wire.num_tokens();
  summary.stored_bytes = wire.stored_bytes();
  summary.raw_bytes = wire.raw_bytes();
  summary.profile = wire.profile();
  summary.cells_present = wire.cells_present();
  summary.cells_total = wire.cells_total();
  summary.created_ms = wire.created_ms();
  summary.expires_ms = wire.expires_ms();
  summary.pinned = wire.pinned();
  summary.pinned_until_ms = wire.pinned_until_ms();
  summary.in_ram = wire.in_ram();
  summary.documents.assign(wire.documents().begin(), wire.documents().end());
  summary.kind = wire.kind();
  summary.k_state = wire.k_state();
  return summary;
}

}  // namespace

absl::StatusOr<ServerStatus> Admin::Status() {
  v1::StatusResponse wire;
  KDN_RETURN_IF_ERROR(client_.CallAdmin("Status", v1::StatusRequest(), 0, wire));
  ServerStatus status;
  status.version = wire.version();
  status.commit = wire.commit();
  status.build = wire.build();
  status.started_ms = wire.started_ms();
  status.container_major = wire.container_major();
  status.container_minor = wire.container_minor();
  status.store_format = wire.store_format();
  status.state = wire.state();
  status.state_reason = wire.state_reason();
  status.data_path = wire.data_path();
  status.values = wire.values();
  status.sync = wire.sync();
  status.recovery = wire.recovery();
  status.listen = wire.listen();
  status.metrics_listen = wire.metrics_listen();
  return status;
}

absl::StatusOr<ServerStats> Admin::Stats() {
  v1::StatsResponse wire;
  KDN_RETURN_IF_ERROR(client_.CallAdmin("Stats", v1::StatsRequest(), 0, wire));
  ServerStats stats;
  for (const v1::TierStats& tier : wire.tiers()) {
    stats.tiers.push_back({tier.tier(), tier.chunks(), tier.bytes(), tier.raw_bytes(), tier.capacity_bytes(),
                           tier.hits(), tier.misses(), tier.stored_bytes()});
  }
  stats.counters.insert(wire.counters().begin(), wire.counters().end());
  stats.models = wire.models();
  stats.texts = wire.texts();
  stats.disk_free_bytes = wire.disk_free_bytes();
  stats.rss_bytes = wire.rss_bytes();
  stats.objects = wire.objects();
  stats.object_bytes = wire.object_bytes();
  return stats;
}

absl::StatusOr<ChunkList> Admin::ListChunks(const ListChunksOptions& options) {
  v1::ListChunksRequest request;
  if (options.fingerprint.has_value()) request.set_fingerprint(DigestBytes(*options.fingerprint));
  request.set_document(options.document);
  request.set_limit(options.limit);
  request.set_page_token(options.page_token);
  v1::ListChunksResponse wire;
  KDN_RETURN_IF_ERROR(client_.CallAdmin("ListChunks", request, 0, wire));
  ChunkList list;
  for (const v1::ChunkSummary& chunk : wire.chunks()) {
    KDN_ASSIGN_OR_RETURN(ChunkSummary summary, FromWire(chunk));
    list.chunks.push_back(std::move(summary));
  }
  list.next_page_token = wire.next_page_token();
  return list;
}

absl::StatusOr<std::vector<ModelSummary>> Admin::ListModels() {
  v1::ListModelsRequest request;
  request.set_limit(kModelsPerPage);
  std::vector<ModelSummary> models;
  for (int pages = 0; pages < kMaxModelPages; ++pages) {
    v1::ListModelsResponse wire;
    KDN_RETURN_IF_ERROR(client_.CallAdmin("ListModels", request, 0, wire));
    for (const v1::ModelSummary& model : wire.models()) {
      ModelSummary& summary = models.emplace_back();
      KDN_ASSIGN_OR_RETURN(summary.fingerprint, ReadDigest(model.fingerprint(), "fingerprint"));
      summary.display_name = model.display_name();
      summary.chunk_tokens = model.chunk_tokens();
      summary.canonical_spec.assign(model.canonical_spec().begin(), model.canonical_spec().end());
      summary.created_ms = model.created_ms();
    }
    if (wire.next_page_token().empty()) return models;
    if (wire.next_page_token() == request.page_token()) return DataLoss("ListModels: a page leads to itself");
    request.set_page_token(wire.next_page_token());
  }
  return DataLoss("ListModels: more than ", kMaxModelPages, " pages");
}

absl::StatusOr<ChunkInspection> Admin::InspectChunk(const Digest& chunk_digest, VerifyMode verify, int64_t timeout_ms) {
  v1::InspectChunkRequest request;
  request.set_chunk_digest(DigestBytes(chunk_digest));
  request.set_verify(verify == VerifyMode::kEveryByte);
  v1::InspectChunkResponse wire;
  KDN_RETURN_IF_ERROR(client_.CallAdmin("InspectChunk", request, timeout_ms, wire));
  ChunkInspection inspection;
  KDN_ASSIGN_OR_RETURN(inspection.summary, FromWire(wire.summary()));
  for (const v1::PartSummary& part : wire.parts()) {
    PartSummary& summary = inspection.parts.emplace_back();
    summary.container_bytes = part.container_bytes();
    summary.header_bytes = part.header_bytes();
    summary.sections = part.sections();
    summary.wide_sections = part.wide_sections();
    summary.tiles = part.tiles();
    summary.tiles_by_profile.insert(part.tiles_by_profile().begin(), part.tiles_by_profile().end());
    summary.cells.assign(part.cells().begin(), part.cells().end());
    summary.value_group = part.value_group();
    summary.value_offset = part.value_offset();
    summary.bytes_by_profile.insert(part.bytes_by_profile().begin(), part.bytes_by_profile().end());
    summary.k_state = part.k_state();
    for (const std::string& digest : part.calibration()) {
      KDN_ASSIGN_OR_RETURN(summary.calibration.emplace_back(), ReadDigest(digest, "calibration"));
    }
  }
  inspection.verify_result = wire.verify_result();
  return inspection;
}

absl::StatusOr<DeleteCounts> Admin::Delete(const DeleteTarget& target, DeleteMode mode, int64_t timeout_ms) {
  const int targets = target.chunk_digest.has_value() + target.document.has_value() + target.fingerprint.has_value();
  if (targets != 1) return InvalidArgument("Delete names ", targets, " targets, not one");
  v1::DeleteRequest request;
  if (target.chunk_digest.has_value()) request.set_chunk_digest(DigestBytes(*target.chunk_digest));
  if (target.document.has_value()) request.set_document(*target.document);
  if (target.fingerprint.has_value()) request.set_fingerprint(DigestBytes(*target.fingerprint));
  request.set_dry_run(mode == DeleteMode::kDryRun);
  v1::DeleteResponse wire;
  KDN_RETURN_IF_ERROR(client_.CallAdmin("Delete", request, timeout_ms, wire));
  return DeleteCounts{wire.chunks(), wire.texts(), wire.bytes(), wire.objects()};
}

absl::Status Admin::Pin(const Digest& chunk_digest, PinChange change, uint64_t ttl_ms) {
  v1::PinRequest request;
  request.set_chunk_digest(DigestBytes(chunk_digest));
  request.set_pinned(change == PinChange::kPin);
  request.set_ttl_ms(ttl_ms);
  v1::PinResponse wire;
  return client_.CallAdmin("Pin", request, 0, wire);
}

absl::Status Admin::Flush(int64_t timeout_ms) {
  v1::FlushResponse wire;
  return client_.CallAdmin("Flush", v1::FlushRequest(), timeout_ms, wire);
}

absl::StatusOr<CompactResult> Admin::Compact(int64_t timeout_ms) {
  v1::CompactResponse wire;
  KDN_RETURN_IF_ERROR(client_.CallAdmin("Compact", v1::CompactRequest(), timeout_ms, wire));
  return CompactResult{wire.bytes_before(), wire.bytes_after()};
}

absl::StatusOr<std::string> Admin::Drain(DrainChange change) {
  v1::DrainRequest request;
  request.set_undo(change == DrainChange::kUndo);
  v1::DrainResponse wire;
  KDN_RETURN_IF_ERROR(client_.CallAdmin("Drain", request, 0, wire));
  return wire.state();
}

absl::StatusOr<ProbeResult> Admin::Probe() {
  v1::ProbeResponse wire;
  KDN_RETURN_IF_ERROR(client_.CallAdmin("Probe", v1::ProbeRequest(), 0, wire));
  return ProbeResult{wire.index_micros(), wire.values_micros()};
}

absl::StatusOr<std::vector<ConfigEntry>> Admin::GetConfig() {
  v1::GetConfigResponse wire;
  KDN_RETURN_IF_ERROR(client_.CallAdmin("GetConfig", v1::GetConfigRequest(), 0, wire));
  std::vector<ConfigEntry> entries;
  for (const v1::ConfigEntry& entry : wire.entries()) entries.push_back({entry.key(), entry.value(), entry.origin()});
  return entries;
}

absl::StatusOr<std::string> Admin::Health() {
  KDN_RETURN_IF_ERROR(client_.CheckProcess());
  CallLimits limits;
  KDN_ASSIGN_OR_RETURN(limits.deadline_nanos, client_.DeadlineNanos(0, client_.options().call_timeout_ms));
  // HealthCheckRequest without a service name is an empty message; HealthCheckResponse is an enumeration in field 1.
  google::protobuf::UInt64Value response;
  KDN_RETURN_IF_ERROR(client_.transport().Call(kHealthMethod, google::protobuf::Empty(), limits, response));
  switch (response.value()) {
    case 1:
      return std::string("SERVING");
    case 2:
      return std::string("NOT_SERVING");
    case 3:
      return std::string("SERVICE_UNKNOWN");
    default:
      return std::string("UNKNOWN");
  }
}

}  // namespace kdn
