#include "server/rpc/kdn_service.h"

#include <string>
#include <utility>

#include "kernels/base/status.h"
#include "server/rpc/convert.h"
#include "server/rpc/object_streams.h"
#include "server/rpc/retrieve_stream.h"
#include "server/rpc/store_stream.h"
#include "server/rpc/unary_call.h"

namespace kdn {
namespace {

constexpr size_t kMaxNameBytes = 256;  // of a model, for display
constexpr int kMaxExtraKeys = 64;
constexpr size_t kMaxExtraKeyBytes = 1024;

absl::Status CheckCount(std::string_view field, int count, uint64_t limit) {
  if (static_cast<uint64_t>(count) <= limit) return absl::OkStatus();
  return InvalidArgument(field, " names ", count, " chunks, at most ", limit, " (limits.max_chunks_per_call)");
}

absl::Status CheckSize(std::string_view field, size_t bytes, uint64_t limit) {
  if (bytes <= limit) return absl::OkStatus();
  return InvalidArgument(field, " has ", bytes, " bytes, at most ", limit);
}

absl::Status DoRegisterModel(const CallEnvironment& env, const Caller& caller, const v1::RegisterModelRequest& request,
                             v1::RegisterModelResponse& response) {
  KDN_RETURN_IF_ERROR(CheckSize("canonical_spec", request.canonical_spec().size(), env.limits.max_spec_bytes));
  KDN_RETURN_IF_ERROR(CheckSize("display_name", request.display_name().size(), kMaxNameBytes));
  KDN_ASSIGN_OR_RETURN(const RegisteredModel model,
                       env.store->RegisterModel(caller, AsBytes(request.canonical_spec()), request.chunk_tokens(),
                                                request.display_name()));
  WriteDigest(model.fingerprint, *response.mutable_fingerprint());
  response.set_chunk_tokens(model.chunk_tokens);
  response.set_created(model.created);
  return absl::OkStatus();
}

absl::Status DoLookup(const CallEnvironment& env, const Caller& caller, const v1::LookupRequest& request,
                      v1::LookupResponse& response) {
  KDN_RETURN_IF_ERROR(CheckCount("chunk_digests", request.chunk_digests_size(), env.limits.max_chunks_per_call));
  if (request.mode() != v1::LookupRequest::PREFIX && request.mode() != v1::LookupRequest::SEGMENTS) {
    return InvalidArgument("mode ", static_cast<int>(request.mode()), " is neither PREFIX nor SEGMENTS");
  }
  LookupQuery query;
  KDN_ASSIGN_OR_RETURN(query.fingerprint, ReadDigest("fingerprint", request.fingerprint()));
  KDN_ASSIGN_OR_RETURN(const std::vector<Digest> digests, ReadDigests("chunk_digests", request.chunk_digests()));
  KDN_ASSIGN_OR_RETURN(query.cells, ReadCells("cells", request.cells()));
  query.chunk_digests = digests;
  query.last_chunk_tokens = request.last_chunk_tokens();
  if (request.has_lossiest()) query.lossiest = ReadProfile(request.lossiest());
  query.mode = request.mode() == v1::LookupRequest::SEGMENTS ? LookupMode::kSegments : LookupMode::kPrefix;
  KDN_ASSIGN_OR_RETURN(const LookupResult result, env.store->Lookup(caller, query));
  response.set_hit_chunks(result.hit_chunks);
  response.set_hit_tokens(result.hit_tokens);
  if (query.mode == LookupMode::kSegments) {
    std::string present(CeilDiv(result.present.size(), 8), '\0');
    for (size_t i = 0; i < result.present.size(); ++i) {
      if (result.present[i]) present[i / 8] = static_cast<char>(present[i / 8] | 1 << (i % 8));
    }
    response.set_present(std::move(present));
  }
  return absl::OkStatus();
}

absl::Status DoFindMissing(const CallEnvironment& env, const Caller& caller, const v1::FindMissingRequest& request,
                           v1::FindMissingResponse& response) {
  KDN_RETURN_IF_ERROR(CheckCount("chunks", request.chunks_size(), env.limits.max_chunks_per_call));
  KDN_ASSIGN_OR_RETURN(const Fingerprint fingerprint, ReadDigest("fingerprint", request.fingerprint()));
  std::vector<ChunkOffer> offers;
  offers.reserve(static_cast<size_t>(request.chunks_size()));
  for (const v1::ChunkOffer& chunk : request.chunks()) {
    absl::StatusOr<ChunkOffer> offer = ReadOffer(chunk);
    if (!offer.ok()) return Annotate(offer.status(), StrCat("chunks[", offers.size(), "]"));
    offers.push_back(*std::move(offer));
  }
  KDN_ASSIGN_OR_RETURN(const std::vector<CellSet> missing,
                       env.store->FindMissing(caller, fingerprint, offers, ReadCoding(request)));
  for (const CellSet& cells : missing) WriteCells(cells, *response.add_missing());
  return absl::OkStatus();
}

absl::Status DoStoreText(const CallEnvironment& env, const Caller& caller, const v1::StoreTextRequest& request,
                         v1::StoreTextResponse& response) {
  if (static_cast<uint64_t>(request.token_ids_size()) > env.limits.max_text_tokens) {
    return InvalidArgument("token_ids has ", request.token_ids_size(), " tokens, at most ", env.limits.max_text_tokens);
  }
  KDN_RETURN_IF_ERROR(CheckSize("document", request.document().size(), kMaxDocumentNameBytes));
  if (request.extra_keys_size() > kMaxExtraKeys) {
    return InvalidArgument("extra_keys has ", request.extra_keys_size(), " entries, at most ", kMaxExtraKeys);
  }
  for (const std::string& key : request.extra_keys()) {
    KDN_RETURN_IF_ERROR(CheckSize("an entry of extra_keys", key.size(), kMaxExtraKeyBytes));
  }
  StoreTextRequest text;
  KDN_ASSIGN_OR_RETURN(text.fingerprint, ReadDigest("fingerprint", request.fingerprint()));
  KDN_ASSIGN_OR_RETURN(text.text_digest, ReadDigest("text_digest", request.text_digest()));
  text.token_ids.assign(request.token_ids().begin(), request.token_ids().end());
  text.document = request.document();
  text.ttl_ms = request.ttl_ms();
  text.extra_keys.assign(request.extra_keys().begin(), request.extra_keys().end());
  KDN_ASSIGN_OR_RETURN(const uint64_t num_chunks, env.store->StoreText(caller, text));
  response.set_num_chunks(num_chunks);
  return absl::OkStatus();
}

absl::Status DoLookupText(const CallEnvironment& env, const Caller& caller, const v1::LookupTextRequest& request,
                          v1::LookupTextResponse& response) {
  KDN_ASSIGN_OR_RETURN(const Fingerprint fingerprint, ReadDigest("fingerprint", request.fingerprint()));
  KDN_ASSIGN_OR_RETURN(const Digest digest, ReadDigest("text_digest", request.text_digest()));
  KDN_ASSIGN_OR_RETURN(const StoredText text, env.store->LookupText(caller, fingerprint, digest));
  response.mutable_token_ids()->Add(text.token_ids.begin(), text.token_ids.end());
  for (const Digest& chunk : text.chunk_digests) WriteDigest(chunk, *response.add_chunk_digests());
  response.set_document(text.document);
  for (const std::string& key : text.extra_keys) response.add_extra_keys(key);
  return absl::OkStatus();
}

absl::Status DoListObjects(const CallEnvironment& env, const Caller& caller, const v1::ListObjectsRequest& request,
                           v1::ListObjectsResponse& response) {
  KDN_ASSIGN_OR_RETURN(const Fingerprint fingerprint, ReadDigest("fingerprint", request.fingerprint()));
  KDN_ASSIGN_OR_RETURN(const std::vector<ObjectInfo> objects, env.store->ListObjects(caller, fingerprint));
  for (const ObjectInfo& object : objects) WriteObjectInfo(object, *response.add_objects());
  return absl::OkStatus();
}

absl::Status DoActivateObject(const CallEnvironment& env, const Caller& caller,
                              const v1::ActivateObjectRequest& request, v1::ActivateObjectResponse& response) {
  KDN_ASSIGN_OR_RETURN(const Fingerprint fingerprint, ReadDigest("fingerprint", request.fingerprint()));
  KDN_ASSIGN_OR_RETURN(const Digest digest, ReadDigest("digest", request.digest()));
  KDN_ASSIGN_OR_RETURN(const ObjectInfo object, env.store->ActivateObject(caller, fingerprint, digest));
  WriteObjectInfo(object, *response.mutable_object());
  return absl::OkStatus();
}

absl::Status DoDeleteObject(const CallEnvironment& env, const Caller& caller, const v1::DeleteObjectRequest& request,
                            v1::DeleteObjectResponse& response) {
  KDN_ASSIGN_OR_RETURN(const Fingerprint fingerprint, ReadDigest("fingerprint", request.fingerprint()));
  KDN_ASSIGN_OR_RETURN(const Digest digest, ReadDigest("digest", request.digest()));
  const auto deletion =
      request.force() ? ChunkStore::ObjectDeletion::kForced : ChunkStore::ObjectDeletion::kUnlessActive;
  KDN_ASSIGN_OR_RETURN(const ObjectInfo object, env.store->DeleteObject(caller, fingerprint, digest, deletion));
  response.set_object_bytes(object.object_bytes);
  return absl::OkStatus();
}

// Request and response live until gRPC is done with the call.
template <typename Request, typename Response>
grpc::ServerUnaryReactor* StartUnary(const CallEnvironment& env, grpc::CallbackServerContext* context,
                                     std::string_view method, std::pair<const Request*, Response*> messages,
                                     absl::Status (*work)(const CallEnvironment&, const Caller&, const Request&,
                                                          Response&)) {
  return UnaryCall::Start(env, context, method, CallKind::kKdn, [&env, messages, work](const Identity& identity) {
    return work(env, identity.caller, *messages.first, *messages.second);
  });
}

}  // namespace

grpc::ServerUnaryReactor* KdnService::RegisterModel(grpc::CallbackServerContext* context,
                                                    const v1::RegisterModelRequest* request,
                                                    v1::RegisterModelResponse* response) {
  return StartUnary(environment_, context, "RegisterModel", std::pair(request, response), &DoRegisterModel);
}

grpc::ServerUnaryReactor* KdnService::Lookup(grpc::CallbackServerContext* context, const v1::LookupRequest* request,
                                             v1::LookupResponse* response) {
  return StartUnary(environment_, context, "Lookup", std::pair(request, response), &DoLookup);
}

grpc::ServerUnaryReactor* KdnService::FindMissing(grpc::CallbackServerContext* context,
                                                  const v1::FindMissingRequest* request,
                                                  v1::FindMissingResponse* response) {
  return StartUnary(environment_, context, "FindMissing", std::pair(request, response), &DoFindMissing);
}

grpc::ServerReadReactor<grpc::ByteBuffer>* KdnService::Store(grpc::CallbackServerContext* context,
                                                             grpc::ByteBuffer* response) {
  return StoreStream::Start(environment_, context, response);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* KdnService::Retrieve(grpc::CallbackServerContext* context,
                                                                 const grpc::ByteBuffer* request) {
  return RetrieveStream::Start(environment_, context, request);
}

grpc::ServerUnaryReactor* KdnService::StoreText(grpc::CallbackServerContext* context,
                                                const v1::StoreTextRequest* request, v1::StoreTextResponse* response) {
  return StartUnary(environment_, context, "StoreText", std::pair(request, response), &DoStoreText);
}

grpc::ServerUnaryReactor* KdnService::LookupText(grpc::CallbackServerContext* context,
                                                 const v1::LookupTextRequest* request,
                                                 v1::LookupTextResponse* response) {
  return StartUnary(environment_, context, "LookupText", std::pair(request, response), &DoLookupText);
}

grpc::ServerReadReactor<v1::PutObjectFrame>* KdnService::PutObject(grpc::CallbackServerContext* context,
                                                                   v1::PutObjectResponse* response) {
  return PutObjectStream::Start(environment_, context, response);
}

grpc::ServerWriteReactor<v1::GetObjectFrame>* KdnService::GetObject(grpc::CallbackServerContext* context,
                                                                    const v1::GetObjectRequest* request) {
  return GetObjectStream::Start(environment_, context, request);
}

grpc::ServerUnaryReactor* KdnService::ListObjects(grpc::CallbackServerContext* context,
                                                  const v1::ListObjectsRequest* request,
                                                  v1::ListObjectsResponse* response) {
  return StartUnary(environment_, context, "ListObjects", std::pair(request, response), &DoListObjects);
}

grpc::ServerUnaryReactor* KdnService::ActivateObject(grpc::CallbackServerContext* context,
                                                     const v1::ActivateObjectRequest* request,
                                                     v1::ActivateObjectResponse* response) {
  return StartUnary(environment_, context, "ActivateObject", std::pair(request, response), &DoActivateObject);
}

grpc::ServerUnaryReactor* KdnService::DeleteObject(grpc::CallbackServerContext* context,
                                                   const v1::DeleteObjectRequest* request,
                                                   v1::DeleteObjectResponse* response) {
  return StartUnary(environment_, context, "DeleteObject", std::pair(request, response), &DoDeleteObject);
}

}  // namespace kdn
