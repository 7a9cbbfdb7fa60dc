#ifndef KDN_TESTS_SERVER_RPC_MEMORY_CHUNK_STORE_H_
#define KDN_TESTS_SERVER_RPC_MEMORY_CHUNK_STORE_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "kernels/base/status.h"
#include "server/core/chunk_store.h"

namespace kdn::testing {

// A chunk store in a map, without models or containers: what the wire does is tested against it. Hooks run on the
// server's workers, outside the lock.
class MemoryChunkStore : public ChunkStore {
 public:
  std::function<void(const StoreRequest&)> on_store = [](const StoreRequest&) {};
  std::function<void(const RetrieveQuery&)> on_retrieve = [](const RetrieveQuery&) {};
  std::atomic<uint64_t> retrieves{0};
  std::atomic<uint64_t> slice_bytes{0};  // of retrieved parts; 0 = one slice
  std::atomic<bool> closed{false};

  void Put(const std::string& tenant, const Digest& digest, std::vector<uint8_t> bytes) {
    absl::MutexLock lock(&mu_);
    chunks_[{tenant, digest}] = std::make_shared<const std::vector<uint8_t>>(std::move(bytes));
  }
  std::vector<uint8_t> Bytes(const std::string& tenant, const Digest& digest) {
    const Chunk chunk = Find(tenant, digest);
    return chunk == nullptr ? std::vector<uint8_t>() : *chunk;
  }
  size_t size() {
    absl::MutexLock lock(&mu_);
    return chunks_.size();
  }

  absl::StatusOr<RegisteredModel> RegisterModel(const Caller&, ByteSpan spec, uint32_t chunk_tokens,
                                                std::string_view) override {
    if (spec.empty()) return InvalidArgument("empty spec");
    return RegisteredModel{Sha256::Of(spec), chunk_tokens == 0 ? 256 : chunk_tokens, true};
  }
  absl::StatusOr<LookupResult> Lookup(const Caller& caller, const LookupQuery& query) override {
    LookupResult result;
    for (const Digest& digest : query.chunk_digests) result.present.push_back(Find(caller.tenant, digest) != nullptr);
    for (const bool present : result.present) {
      if (!present && query.mode == LookupMode::kPrefix) break;
      result.hit_chunks += present ? 1 : 0;
    }
    result.hit_tokens = result.hit_chunks * uint64_t{256};
    return result;
  }
  absl::StatusOr<std::vector<CellSet>> FindMissing(const Caller& caller, const Fingerprint&,
                                                   std::span<const ChunkOffer> offers,
                                                   std::optional<OfferedCoding>) override {
    std::vector<CellSet> missing;
    for (const ChunkOffer& offer : offers) {
      const CellSet all = offer.cells.value_or(CellSet::All(3));
      missing.push_back(Find(caller.tenant, offer.chunk_digest) == nullptr ? all : CellSet(all.num_cells()));
    }
    return missing;
  }
  absl::StatusOr<StoreOutcome> Store(const Caller& caller, const StoreRequest& request, SharedBytes bytes) override {
    on_store(request);
    if (const Chunk chunk = Find(caller.tenant, request.chunk_digest); chunk != nullptr) {
      const bool same = std::equal(chunk->begin(), chunk->end(), bytes.span().begin(), bytes.span().end());
      return same ? StoreOutcome::kDeduplicated : StoreOutcome::kKeptExisting;
    }
    Put(caller.tenant, request.chunk_digest, {bytes.span().begin(), bytes.span().end()});
    return StoreOutcome::kStored;
  }
  absl::StatusOr<RetrievedChunk> Retrieve(const Caller& caller, const RetrieveQuery& query) override {
    ++retrieves;
    on_retrieve(query);
    if (query.fingerprint.IsZero()) return NotFound("no such model");
    RetrievedChunk result;
    const Chunk chunk = Find(caller.tenant, query.chunk_digest);
    if (chunk == nullptr) {
      result.miss = MissReason::kAbsent;
      result.miss_message = "not stored";
      return result;
    }
    RetrievedPart& part = result.parts.emplace_back();
    part.container_bytes = chunk->size();
    part.header_bytes = 1;
    part.cells = CellSet::All(3);
    part.from_ram = true;
    const uint64_t step = slice_bytes == 0 ? chunk->size() : slice_bytes.load();
    for (uint64_t at = 0; at < chunk->size(); at += step) {
      const uint64_t count = std::min<uint64_t>(step, chunk->size() - at);
      part.slices.push_back({at, SharedBytes(chunk, ByteSpan(*chunk).subspan(at, count))});
    }
    return result;
  }
  absl::StatusOr<uint64_t> StoreText(const Caller& caller, const StoreTextRequest& request) override {
    if (request.token_ids.empty()) return InvalidArgument("no tokens");
    absl::MutexLock lock(&mu_);
    StoredText text;
    text.token_ids = request.token_ids;
    text.document = request.document;
    texts_[{caller.tenant, request.text_digest}] = text;
    return 1;
  }
  absl::StatusOr<StoredText> LookupText(const Caller& caller, const Fingerprint&, const Digest& digest) override {
    absl::MutexLock lock(&mu_);
    const auto found = texts_.find({caller.tenant, digest});
    if (found == texts_.end()) return NotFound("no such text");
    return found->second;
  }
  absl::StatusOr<PutObjectResult> PutObject(const Caller& caller, const PutObjectRequest& request,
                                            SharedBytes bytes) override {
    if (Sha256::Of(bytes.span()) != request.digest) return InvalidArgument("another digest");
    absl::MutexLock lock(&mu_);
    PutObjectResult result;
    StoredObject& object = objects_[{caller.tenant, request.digest}];
    result.created = object.bytes.size() == 0;
    object.bytes = std::move(bytes);
    object.object.digest = request.digest;
    object.object.fingerprint = request.fingerprint;
    object.object.object_bytes = object.bytes.size();
    object.object.display_name = request.display_name;
    object.object.active |= request.activation == ObjectActivation::kActivate;
    result.object = object.object;
    return result;
  }
  absl::StatusOr<StoredObject> GetObject(const Caller& caller, const std::optional<Fingerprint>&,
                                         const Digest& digest) override {
    absl::MutexLock lock(&mu_);
    const auto found = objects_.find({caller.tenant, digest});
    if (found == objects_.end()) return NotFound("no such object");
    return found->second;
  }
  absl::StatusOr<std::vector<ObjectInfo>> ListObjects(const Caller& caller, const Fingerprint&) override {
    absl::MutexLock lock(&mu_);
    std::vector<ObjectInfo> objects;
    for (const auto& [key, object] : objects_) {
      if (key.first == caller.tenant) objects.push_back(object.object);
    }
    return objects;
  }
  absl::StatusOr<ObjectInfo> ActivateObject(const Caller& caller, const Fingerprint&, const Digest& digest) override {
    absl::MutexLock lock(&mu_);
    const auto found = objects_.find({caller.tenant, digest});
    if (found == objects_.end()) return NotFound("no such object");
    found->second.object.active = true;
    return found->second.object;
  }
  absl::StatusOr<ObjectInfo> DeleteObject(const Caller& caller, const Fingerprint&, const Digest& digest,
                                          ObjectDeletion deletion) override {
    absl::MutexLock lock(&mu_);
    const auto found = objects_.find({caller.tenant, digest});
    if (found == objects_.end()) return NotFound("no such object");
    ObjectInfo info = found->second.object;
    if (info.active && deletion == ObjectDeletion::kUnlessActive) return FailedPrecondition("active");
    objects_.erase(found);
    return info;
  }
  absl::StatusOr<ChunkPage> ListChunks(const Caller& caller, const ChunkFilter& filter) override {
    absl::MutexLock lock(&mu_);
    ChunkPage page;
    for (const auto& [key, bytes] : chunks_) {
      if (key.first != caller.tenant || page.chunks.size() == filter.limit) continue;
      ChunkInfo& info = page.chunks.emplace_back();
      info.chunk_digest = key.second;
      info.stored_bytes = bytes->size();
    }
    return page;
  }
  absl::StatusOr<ChunkDetails> InspectChunk(const Caller& caller, const Digest& digest, Verify) override {
    if (Find(caller.tenant, digest) == nullptr) return NotFound("no such chunk");
    ChunkDetails details;
    details.info.chunk_digest = digest;
    return details;
  }
  absl::StatusOr<DeleteCounts> Delete(const Caller& caller, const DeleteTarget& target, DeleteMode mode) override {
    absl::MutexLock lock(&mu_);
    DeleteCounts counts;
    if (!target.chunk_digest.has_value()) return counts;
    const auto found = chunks_.find({caller.tenant, *target.chunk_digest});
    if (found == chunks_.end()) return counts;
    counts.chunks = 1;
    if (mode == DeleteMode::kDelete) chunks_.erase(found);
    return counts;
  }
  absl::Status Pin(const Caller& caller, const Digest& digest, PinChange, uint64_t) override {
    return Find(caller.tenant, digest) == nullptr ? NotFound("no such chunk") : absl::OkStatus();
  }
  // One model on each of two pages.
  absl::StatusOr<ModelPage> ListModels(const Caller&, const ModelFilter& filter) override {
    ModelPage page;
    page.models.emplace_back().chunk_tokens = filter.limit;
    if (filter.page_token.empty()) page.next_page_token = "second";
    return page;
  }
  absl::Status Flush() override { return absl::OkStatus(); }
  absl::StatusOr<CompactResult> Compact() override { return CompactResult{2, 1}; }
  absl::StatusOr<ProbeResult> Probe() override { return ProbeResult{10, 20}; }
  std::vector<TierInfo> Tiers() override {
    TierInfo ram;
    ram.tier = "ram";
    ram.chunks = size();
    return {ram};
  }
  absl::StatusOr<Totals> GetTotals() override { return Totals{}; }
  absl::Status Close() override {
    closed = true;
    return absl::OkStatus();
  }

 private:
  using Chunk = std::shared_ptr<const std::vector<uint8_t>>;
  using Key = std::pair<std::string, Digest>;

  Chunk Find(const std::string& tenant, const Digest& digest) {
    absl::MutexLock lock(&mu_);
    const auto found = chunks_.find({tenant, digest});
    return found == chunks_.end() ? nullptr : found->second;
  }

  absl::Mutex mu_;
  std::map<Key, Chunk> chunks_ ABSL_GUARDED_BY(mu_);
  std::map<Key, StoredText> texts_ ABSL_GUARDED_BY(mu_);
  std::map<Key, StoredObject> objects_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kdn::testing

#endif  // KDN_TESTS_SERVER_RPC_MEMORY_CHUNK_STORE_H_
