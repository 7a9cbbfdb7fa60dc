#include <unistd.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "client/kdn/c_internal.h"
#include "client/kdn/retrieve_operation.h"
#include "client/kdn/store_operation.h"
#include "kernels/codec/tile_codec.h"

namespace kdn::c_api {
namespace {

using Json = nlohmann::ordered_json;

kdn_bytes DumpDetails(const Json& details) {
  return CopyBytes(details.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace));
}

void Fill(const absl::StatusOr<StoreResult>& result, kdn_completion& out) {
  out.kind = KDN_OP_STORE;
  out.status = static_cast<kdn_status>(static_cast<int>(result.status().code()));
  Json details;
  details["message"] = std::string(FromAbsl(result.status().message()));
  Json rows = Json::array();
  if (result.ok()) {
    out.tokens = result->tokens_present;
    out.chunks = static_cast<uint32_t>(result->chunks.size());
    out.coded_bytes = result->sent_bytes;
    out.raw_bytes = result->raw_bytes;
    if (result->raw_bytes > 0) {
      details["profile"] = ProfileName(result->profile);
      if (result->profile == ProfileId::kTransform) {
        details["level"] = result->level;
        details["calibration"] = result->calibration.ToHex();
      }
      if (!result->fallback.empty()) details["fallback"] = result->fallback;
    }
    for (const ChunkStoreResult& chunk : result->chunks) {
      if (chunk.outcome == ChunkStoreOutcome::kStored) ++out.chunks_done;
      if (chunk.outcome == ChunkStoreOutcome::kSkipped) ++out.chunks_skipped;
      if (chunk.outcome == ChunkStoreOutcome::kRejected) ++out.chunks_rejected;
      rows.push_back({{"digest", chunk.chunk_digest.ToHex()},
                      {"outcome", ChunkStoreOutcomeName(chunk.outcome)},
                      {"stored_bytes", chunk.stored_bytes},
                      {"message", std::string(FromAbsl(chunk.status.message()))}});
    }
  }
  details["chunks"] = std::move(rows);
  out.details = DumpDetails(details);
}

void Fill(const absl::StatusOr<RetrieveResult>& result, kdn_completion& out) {
  out.kind = KDN_OP_RETRIEVE;
  out.status = static_cast<kdn_status>(static_cast<int>(result.status().code()));
  Json details;
  const absl::Status& said = result.ok() ? result->transfer_status : result.status();
  details["message"] = std::string(FromAbsl(said.message()));
  Json& rows = details["chunks"] = Json::array();
  if (result.ok()) {
    out.tokens = result->tokens_loaded;
    out.chunks = static_cast<uint32_t>(result->chunk_loaded.size());
    out.chunks_done = result->chunks_loaded;
    out.coded_bytes = result->received_bytes;
    out.raw_bytes = result->written_bytes;
    for (const ChunkMiss& miss : result->misses) {
      ++out.misses[static_cast<size_t>(miss.reason)];
      rows.push_back({{"index", miss.chunk_index},
                      {"digest", miss.chunk_digest.ToHex()},
                      {"miss", ClientMissReasonName(miss.reason)},
                      {"message", miss.message}});
    }
  }
  out.details = DumpDetails(details);
}

void SetReadable(int event_fd) {
  const uint64_t one = 1;
  static_cast<void>(!write(event_fd, &one, sizeof(one)));
}

void ClearReadable(int event_fd) {
  uint64_t count = 0;
  static_cast<void>(!read(event_fd, &count, sizeof(count)));
}

// Takes note of an end; runs on the operation's thread.
template <typename Result>
void Finish(kdn_client* client, kdn_op op, const absl::StatusOr<Result>& result) {
  kdn_completion completion{};
  completion.op = op;
  Fill(result, completion);
  absl::MutexLock lock(&client->mutex);
  kdn_client::Operation& operation = client->operations[op];
  operation.completion = completion;
  operation.complete = true;
  client->ready.push_back(op);
  SetReadable(client->event_fd);
}

absl::StatusOr<kdn_op> Enlist(kdn_client* client) {
  absl::MutexLock lock(&client->mutex);
  if (client->operations.size() >= kMaxQueuedOperations) {
    return ResourceExhausted(client->operations.size(), " operations are unfinished or not polled, at most ",
                             kMaxQueuedOperations);
  }
  const kdn_op op = client->next_op++;
  client->operations[op];
  return op;
}

void SetState(kdn_client* client, kdn_op op, std::shared_ptr<internal::OperationState> state) {
  absl::MutexLock lock(&client->mutex);
  // Complete, and even handed out, already?
  const auto found = client->operations.find(op);
  if (found != client->operations.end()) found->second.state = std::move(state);
}

// Null when it was handed out.
std::shared_ptr<internal::OperationState> FindState(kdn_client* client, kdn_op op) {
  absl::MutexLock lock(&client->mutex);
  const auto found = client->operations.find(op);
  return found == client->operations.end() ? nullptr : found->second.state;
}

kdn_completion HandOut(kdn_client* client, std::map<kdn_op, kdn_client::Operation>::iterator found)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(client->mutex) {
  const kdn_completion completion = found->second.completion;
  client->ready.erase(std::find(client->ready.begin(), client->ready.end(), found->first));
  client->operations.erase(found);
  if (client->ready.empty()) ClearReadable(client->event_fd);
  return completion;
}

}  // namespace
}  // namespace kdn::c_api

using kdn::InvalidArgument;
using kdn::c_api::Guarded;
using kdn::c_api::OrEmpty;

// C has neither default arguments nor overloads.
// NOLINTBEGIN(readability-function-size)
extern "C" {

void kdn_store_options_init(kdn_store_options* options) {
  *options = kdn_store_options{};
  options->struct_size = sizeof(kdn_store_options);
}

void kdn_retrieve_options_init(kdn_retrieve_options* options) {
  *options = kdn_retrieve_options{};
  options->struct_size = sizeof(kdn_retrieve_options);
}

kdn_status kdn_submit_store(kdn_client* client, const kdn_model* model, const kdn_span* span, const kdn_view* source,
                            const kdn_store_options* options, kdn_op* op) {
  return Guarded([&]() -> absl::Status {
    KDN_RETURN_IF_ERROR(client->impl().CheckProcess());
    kdn_store_options read;
    kdn_store_options_init(&read);
    if (options != nullptr) {
      KDN_ASSIGN_OR_RETURN(read, kdn::c_api::ReadStruct(options, read, "options"));
    }
    KDN_ASSIGN_OR_RETURN(const kdn::c_api::SpanArguments tokens, kdn::c_api::ReadSpan(span));
    KDN_ASSIGN_OR_RETURN(const kdn::KvView view, kdn::c_api::ReadView(source));
    kdn::StoreOptions store;
    store.span = tokens.options;
    store.timeout_ms = read.timeout_ms;
    store.document = OrEmpty(read.document);
    store.ttl_ms = read.ttl_ms;
    if (read.level != 0) store.level = read.level;
    if (read.fail_when_staging_full != 0) store.when_staging_full = kdn::WhenStagingFull::kFail;
    KDN_ASSIGN_OR_RETURN(store.profile, kdn::c_api::ReadProfile(read.profile));
    const bool with_text = read.text_utf8 != nullptr;
    kdn::TextRef text;
    if (with_text) text.utf8 = std::string_view(read.text_utf8, read.text_utf8_size);
    if (read.text_policy != nullptr) text.special_token_policy = read.text_policy;
    KDN_ASSIGN_OR_RETURN(const kdn_op enlisted, kdn::c_api::Enlist(client));
    *op = enlisted;
    kdn::c_api::SetState(
        client, enlisted,
        kdn::StartStore(client->impl(), {model->handle, tokens.token_ids, view, store}, with_text ? &text : nullptr,
                        [client, enlisted](const auto& result) { kdn::c_api::Finish(client, enlisted, result); }));
    return absl::OkStatus();
  });
}

kdn_status kdn_submit_retrieve(kdn_client* client, const kdn_model* model, const kdn_span* span,
                               const kdn_view* destination, const kdn_retrieve_options* options, kdn_op* op) {
  return Guarded([&]() -> absl::Status {
    KDN_RETURN_IF_ERROR(client->impl().CheckProcess());
    kdn_retrieve_options read;
    kdn_retrieve_options_init(&read);
    if (options != nullptr) {
      KDN_ASSIGN_OR_RETURN(read, kdn::c_api::ReadStruct(options, read, "options"));
    }
    KDN_ASSIGN_OR_RETURN(const kdn::c_api::SpanArguments tokens, kdn::c_api::ReadSpan(span));
    KDN_ASSIGN_OR_RETURN(const kdn::KvView view, kdn::c_api::ReadView(destination));
    kdn::RetrieveOptions retrieve;
    retrieve.span = tokens.options;
    retrieve.timeout_ms = read.timeout_ms;
    KDN_ASSIGN_OR_RETURN(retrieve.lossiest, kdn::c_api::ReadProfile(read.lossiest));
    auto job = std::make_shared<kdn::RetrieveJob>(model->handle, view, retrieve);
    job->token_ids.assign(tokens.token_ids.begin(), tokens.token_ids.end());
    KDN_ASSIGN_OR_RETURN(const kdn_op enlisted, kdn::c_api::Enlist(client));
    *op = enlisted;
    kdn::c_api::SetState(client, enlisted,
                         kdn::StartRetrieve(client->impl(), job, [client, enlisted](const auto& result) {
                           kdn::c_api::Finish(client, enlisted, result);
                         }));
    return absl::OkStatus();
  });
}

void kdn_completion_clear(kdn_completion* completion) {
  if (completion != nullptr) kdn_bytes_free(&completion->details);
}

int kdn_completion_fd(kdn_client* client) { return client->impl().InOtherProcess() ? -1 : client->event_fd; }

size_t kdn_poll(kdn_client* client, kdn_completion* completions, size_t max) {
  if (client->impl().InOtherProcess()) return 0;
  absl::MutexLock lock(&client->mutex);
  size_t count = 0;
  while (count < max && !client->ready.empty()) {
    completions[count++] = kdn::c_api::HandOut(client, client->operations.find(client->ready.front()));
  }
  return count;
}

kdn_status kdn_wait(kdn_client* client, kdn_op op, int64_t timeout_ms, kdn_completion* completion) {
  return Guarded([&]() -> absl::Status {
    KDN_RETURN_IF_ERROR(client->impl().CheckProcess());
    const auto state = kdn::c_api::FindState(client, op);
    if (state != nullptr && !state->WaitDone(timeout_ms)) {
      return kdn::DeadlineExceeded("operation ", op, " is not complete after ", timeout_ms, " ms");
    }
    absl::MutexLock lock(&client->mutex);
    const auto found = client->operations.find(op);
    if (found == client->operations.end() || !found->second.complete) {
      return kdn::NotFound("operation ", op, " is unknown or was handed out");
    }
    *completion = kdn::c_api::HandOut(client, found);
    return absl::OkStatus();
  });
}

kdn_status kdn_wait_staged(kdn_client* client, kdn_op op, int64_t timeout_ms) {
  return Guarded([&]() -> absl::Status {
    KDN_RETURN_IF_ERROR(client->impl().CheckProcess());
    const auto state = kdn::c_api::FindState(client, op);
    if (state == nullptr || state->WaitStaged(timeout_ms)) return absl::OkStatus();
    return kdn::DeadlineExceeded("operation ", op, " is not staged after ", timeout_ms, " ms");
  });
}

kdn_status kdn_cancel(kdn_client* client, kdn_op op) {
  return Guarded([&]() -> absl::Status {
    KDN_RETURN_IF_ERROR(client->impl().CheckProcess());
    const auto state = kdn::c_api::FindState(client, op);
    if (state == nullptr) return absl::OkStatus();
    state->RequestCancel();
    state->WaitDone(-1);
    return absl::OkStatus();
  });
}

}  // extern "C"
// NOLINTEND(readability-function-size)
