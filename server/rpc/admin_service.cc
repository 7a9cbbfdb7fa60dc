#include "server/rpc/admin_service.h"

#include <unistd.h>

#include <cstdio>
#include <optional>
#include <string_view>

#include "kernels/base/status.h"
#include "kernels/format/container.h"
#include "server/core/open.h"
#include "server/rpc/convert.h"
#include "server/rpc/unary_call.h"

namespace kdn {
namespace {

constexpr uint32_t kDefaultListLimit = 100;
constexpr uint32_t kMostListed = 1000;
constexpr size_t kMaxPageTokenBytes = 1024;

std::string_view StateName(Lifecycle::State state) {
  switch (state) {
    case Lifecycle::State::kServing:
      return "serving";
    case Lifecycle::State::kDraining:
      return "draining";
    case Lifecycle::State::kStopping:
      return "stopping";
  }
  return "unknown";
}

absl::Status WantOperator(const Identity& identity) {
  if (identity.is_operator) return absl::OkStatus();
  return PermissionDenied("this method concerns every tenant and wants an operator's token or certificate");
}

// Resident set of this process; 0 when the system does not tell.
uint64_t ResidentBytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "re");
  if (file == nullptr) return 0;
  unsigned long long pages = 0;
  const int read = std::fscanf(file, "%*u %llu", &pages);
  std::fclose(file);
  return read == 1 ? pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) : 0;
}

// Of a request for a page.
template <typename Request>
absl::Status CheckPage(const Request& request) {
  if (request.page_token().size() > kMaxPageTokenBytes) {
    return InvalidArgument("page_token has ", request.page_token().size(), " bytes, at most ", kMaxPageTokenBytes);
  }
  if (request.limit() > kMostListed) return InvalidArgument("limit is ", request.limit(), ", at most ", kMostListed);
  return absl::OkStatus();
}

absl::Status DoListChunks(ChunkStore& store, const Caller& caller, const v1::ListChunksRequest& request,
                          v1::ListChunksResponse& response) {
  ChunkFilter filter;
  if (!request.fingerprint().empty()) {
    KDN_ASSIGN_OR_RETURN(filter.fingerprint, ReadDigest("fingerprint", request.fingerprint()));
  }
  if (request.document().size() > kMaxDocumentNameBytes) {
    return InvalidArgument("document has ", request.document().size(), " bytes, at most ", kMaxDocumentNameBytes);
  }
  KDN_RETURN_IF_ERROR(CheckPage(request));
  filter.document = request.document();
  filter.limit = request.limit() == 0 ? kDefaultListLimit : request.limit();
  filter.page_token = request.page_token();
  KDN_ASSIGN_OR_RETURN(const ChunkPage page, store.ListChunks(caller, filter));
  for (const ChunkInfo& info : page.chunks) WriteChunkInfo(info, *response.add_chunks());
  response.set_next_page_token(page.next_page_token);
  return absl::OkStatus();
}

absl::Status DoListModels(ChunkStore& store, const Caller& caller, const v1::ListModelsRequest& request,
                          v1::ListModelsResponse& response) {
  KDN_RETURN_IF_ERROR(CheckPage(request));
  ModelFilter filter;
  filter.limit = request.limit() == 0 ? kDefaultListLimit : request.limit();
  filter.page_token = request.page_token();
  KDN_ASSIGN_OR_RETURN(const ModelPage page, store.ListModels(caller, filter));
  for (const ModelInfo& model : page.models) {
    v1::ModelSummary& summary = *response.add_models();
    WriteDigest(model.fingerprint, *summary.mutable_fingerprint());
    summary.set_display_name(model.display_name);
    summary.set_chunk_tokens(model.chunk_tokens);
    summary.set_canonical_spec(model.canonical_spec.data(), model.canonical_spec.size());
    summary.set_created_ms(model.created_ms);
  }
  response.set_next_page_token(page.next_page_token);
  return absl::OkStatus();
}

absl::Status DoInspectChunk(ChunkStore& store, const Caller& caller, const v1::InspectChunkRequest& request,
                            v1::InspectChunkResponse& response) {
  std::optional<Digest> fingerprint;
  if (!request.fingerprint().empty()) {
    KDN_ASSIGN_OR_RETURN(fingerprint, ReadDigest("fingerprint", request.fingerprint()));
  }
  KDN_ASSIGN_OR_RETURN(const Digest digest, ReadDigest("chunk_digest", request.chunk_digest()));
  const auto verify = request.verify() ? ChunkStore::Verify::kEveryByte : ChunkStore::Verify::kNo;
  KDN_ASSIGN_OR_RETURN(const ChunkDetails details, store.InspectChunk(caller, digest, verify));
  if (fingerprint.has_value() && details.info.fingerprint != *fingerprint) {
    return NotFound("chunk ", digest.ToShortHex(), " belongs to another model than the one named");
  }
  WriteChunkDetails(details, response);
  if (request.verify()) {
    response.set_verify_result(details.verified.ok() ? "ok" : std::string(FromAbsl(details.verified.message())));
  }
  return absl::OkStatus();
}

absl::Status DoDelete(ChunkStore& store, const Caller& caller, const v1::DeleteRequest& request,
                      v1::DeleteResponse& response) {
  DeleteTarget target;
  switch (request.target_case()) {
    case v1::DeleteRequest::kChunkDigest: {
      KDN_ASSIGN_OR_RETURN(target.chunk_digest, ReadDigest("chunk_digest", request.chunk_digest()));
      break;
    }
    case v1::DeleteRequest::kDocument:
      if (request.document().empty() || request.document().size() > kMaxDocumentNameBytes) {
        return InvalidArgument("document has ", request.document().size(), " bytes, wanted are 1 to ",
                               kMaxDocumentNameBytes);
      }
      target.document = request.document();
      break;
    case v1::DeleteRequest::kFingerprint: {
      KDN_ASSIGN_OR_RETURN(target.fingerprint, ReadDigest("fingerprint", request.fingerprint()));
      break;
    }
    case v1::DeleteRequest::TARGET_NOT_SET:
      return InvalidArgument("target: one of chunk_digest, document and fingerprint is wanted");
  }
  const DeleteMode mode = request.dry_run() ? DeleteMode::kDryRun : DeleteMode::kDelete;
  KDN_ASSIGN_OR_RETURN(const DeleteCounts counts, store.Delete(caller, target, mode));
  response.set_chunks(counts.chunks);
  response.set_texts(counts.texts);
  response.set_bytes(counts.bytes);
  response.set_objects(counts.objects);
  return absl::OkStatus();
}

}  // namespace

void AdminService::SetAddresses(std::string listen, std::string metrics_listen) {
  absl::MutexLock lock(&mu_);
  listen_ = std::move(listen);
  metrics_listen_ = std::move(metrics_listen);
}

absl::Status AdminService::FillStatus(v1::StatusResponse& response) {
  response.set_version(facts_.version);
  response.set_commit(facts_.commit);
  response.set_build(facts_.build);
  response.set_started_ms(facts_.started_ms);
  response.set_container_major(kContainerMajor);
  response.set_container_minor(kContainerMinor);
  response.set_store_format(kStoreFormat);
  response.set_data_path(facts_.data_path);
  response.set_values(facts_.values);
  response.set_sync(facts_.sync);
  response.set_recovery(facts_.recovery);
  const Lifecycle::State state = environment_.lifecycle->state();
  KDN_ASSIGN_OR_RETURN(const ChunkStore::Totals totals, environment_.store->GetTotals());
  if (state == Lifecycle::State::kServing && totals.read_only) {
    response.set_state("read_only");
    response.set_state_reason(StrCat("stores are refused until there is space: ", totals.refusal));
  } else {
    response.set_state(std::string(StateName(state)));
    if (state == Lifecycle::State::kDraining) response.set_state_reason("asked to drain");
  }
  absl::MutexLock lock(&mu_);
  response.set_listen(listen_);
  response.set_metrics_listen(metrics_listen_);
  return absl::OkStatus();
}

absl::Status AdminService::FillStats(v1::StatsResponse& response) const {
  for (const TierInfo& tier : environment_.store->Tiers()) {
    v1::TierStats& out = *response.add_tiers();
    out.set_tier(std::string(tier.tier));
    out.set_chunks(tier.chunks);
    out.set_bytes(tier.bytes);
    out.set_stored_bytes(tier.stored_bytes);
    out.set_raw_bytes(tier.raw_bytes);
    out.set_capacity_bytes(tier.capacity_bytes);
    out.set_hits(tier.hits);
    out.set_misses(tier.misses);
  }
  for (const auto& [name, value] : environment_.metrics->Counters()) (*response.mutable_counters())[name] = value;
  KDN_ASSIGN_OR_RETURN(const ChunkStore::Totals totals, environment_.store->GetTotals());
  response.set_models(totals.models);
  response.set_texts(totals.texts);
  response.set_objects(totals.objects);
  response.set_object_bytes(totals.object_bytes);
  response.set_disk_free_bytes(totals.disk_free_bytes);
  response.set_rss_bytes(ResidentBytes());
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* AdminService::Status(grpc::CallbackServerContext* context, const v1::StatusRequest*,
                                               v1::StatusResponse* response) {
  return UnaryCall::Start(environment_, context, "Status", CallKind::kAdmin,
                          [this, response](const Identity&) { return FillStatus(*response); });
}

grpc::ServerUnaryReactor* AdminService::Stats(grpc::CallbackServerContext* context, const v1::StatsRequest*,
                                              v1::StatsResponse* response) {
  return UnaryCall::Start(environment_, context, "Stats", CallKind::kAdmin, [this, response](const Identity& identity) {
    KDN_RETURN_IF_ERROR(WantOperator(identity));
    return FillStats(*response);
  });
}

grpc::ServerUnaryReactor* AdminService::ListChunks(grpc::CallbackServerContext* context,
                                                   const v1::ListChunksRequest* request,
                                                   v1::ListChunksResponse* response) {
  return UnaryCall::Start(environment_, context, "ListChunks", CallKind::kAdmin, [=, this](const Identity& identity) {
    return DoListChunks(*environment_.store, identity.caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* AdminService::ListModels(grpc::CallbackServerContext* context,
                                                   const v1::ListModelsRequest* request,
                                                   v1::ListModelsResponse* response) {
  return UnaryCall::Start(environment_, context, "ListModels", CallKind::kAdmin, [=, this](const Identity& identity) {
    return DoListModels(*environment_.store, identity.caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* AdminService::InspectChunk(grpc::CallbackServerContext* context,
                                                     const v1::InspectChunkRequest* request,
                                                     v1::InspectChunkResponse* response) {
  return UnaryCall::Start(environment_, context, "InspectChunk", CallKind::kAdmin, [=, this](const Identity& identity) {
    return DoInspectChunk(*environment_.store, identity.caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* AdminService::Delete(grpc::CallbackServerContext* context, const v1::DeleteRequest* request,
                                               v1::DeleteResponse* response) {
  return UnaryCall::Start(environment_, context, "Delete", CallKind::kAdmin, [=, this](const Identity& identity) {
    return DoDelete(*environment_.store, identity.caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* AdminService::Pin(grpc::CallbackServerContext* context, const v1::PinRequest* request,
                                            v1::PinResponse*) {
  return UnaryCall::Start(
      environment_, context, "Pin", CallKind::kAdmin, [=, this](const Identity& identity) -> absl::Status {
        KDN_ASSIGN_OR_RETURN(const Digest digest, ReadDigest("chunk_digest", request->chunk_digest()));
        const auto change = request->pinned() ? ChunkStore::PinChange::kPin : ChunkStore::PinChange::kUnpin;
        return environment_.store->Pin(identity.caller, digest, change, request->ttl_ms());
      });
}

grpc::ServerUnaryReactor* AdminService::Flush(grpc::CallbackServerContext* context, const v1::FlushRequest*,
                                              v1::FlushResponse*) {
  return UnaryCall::Start(environment_, context, "Flush", CallKind::kAdmin, [this](const Identity& identity) {
    KDN_RETURN_IF_ERROR(WantOperator(identity));
    return environment_.store->Flush();
  });
}

grpc::ServerUnaryReactor* AdminService::Compact(grpc::CallbackServerContext* context, const v1::CompactRequest*,
                                                v1::CompactResponse* response) {
  return UnaryCall::Start(environment_, context, "Compact", CallKind::kAdmin,
                          [this, response](const Identity& identity) -> absl::Status {
                            KDN_RETURN_IF_ERROR(WantOperator(identity));
                            KDN_ASSIGN_OR_RETURN(const ChunkStore::CompactResult result, environment_.store->Compact());
                            response->set_bytes_before(result.bytes_before);
                            response->set_bytes_after(result.bytes_after);
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* AdminService::Drain(grpc::CallbackServerContext* context, const v1::DrainRequest* request,
                                              v1::DrainResponse* response) {
  return UnaryCall::Start(environment_, context, "Drain", CallKind::kAdmin, [=, this](const Identity& identity) {
    KDN_RETURN_IF_ERROR(WantOperator(identity));
    const Lifecycle::State state =
        environment_.lifecycle->Change(request->undo() ? Lifecycle::State::kServing : Lifecycle::State::kDraining);
    response->set_state(std::string(StateName(state)));
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* AdminService::Probe(grpc::CallbackServerContext* context, const v1::ProbeRequest*,
                                              v1::ProbeResponse* response) {
  return UnaryCall::Start(environment_, context, "Probe", CallKind::kAdmin,
                          [this, response](const Identity&) -> absl::Status {
                            KDN_ASSIGN_OR_RETURN(const ChunkStore::ProbeResult result, environment_.store->Probe());
                            response->set_index_micros(result.index_micros);
                            response->set_values_micros(result.values_micros);
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* AdminService::GetConfig(grpc::CallbackServerContext* context, const v1::GetConfigRequest*,
                                                  v1::GetConfigResponse* response) {
  return UnaryCall::Start(environment_, context, "GetConfig", CallKind::kAdmin,
                          [this, response](const Identity& identity) {
                            KDN_RETURN_IF_ERROR(WantOperator(identity));
                            for (const ConfigRow& row : facts_.config) {
                              v1::ConfigEntry& entry = *response->add_entries();
                              entry.set_key(row.key);
                              entry.set_value(row.value);
                              entry.set_origin(row.origin);
                            }
                            return absl::OkStatus();
                          });
}

}  // namespace kdn
