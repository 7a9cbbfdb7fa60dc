#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "client/device/chunk_coder.h"
#include "client/kdn/client_impl.h"
#include "client/kdn/span_plan.h"
#include "client/kdn/store_operation.h"
#include "client/kdn/transcode.h"
#include "kernels/base/status.h"

namespace kdn {
namespace {

// How long PutContainers waits for gRPC to let go of caller memory before it gives up the connections.
constexpr absl::Duration kReleasePatience = absl::Milliseconds(200);
constexpr uint64_t kFetchSlackBytes = uint64_t{1} << 20;
constexpr int kMaxFetchAttempts = 6;

// Receives containers straight into the caller's destinations.
class FetchSink : public RetrieveSink {
 public:
  FetchSink(const ModelHandle& model, std::span<const ContainerFetch> fetches, ContainerVerify verify)
      : model_(model), fetches_(fetches), verify_(verify), results_(fetches.size()), ended_(fetches.size()) {}

  absl::StatusOr<MutableByteSpan> OnPartBegin(uint32_t chunk, uint32_t part, const v1::PartBegin& begin) override {
    FetchedContainer& result = results_[chunk];
    const uint64_t offset = result.bytes;
    if (begin.container_bytes() > kMaxHeaderBytes + kMaxBodyBytes) {
      return InvalidArgument("part ", part, " announces ", begin.container_bytes(), " bytes");
    }
    result.bytes += begin.container_bytes();
    if (result.bytes > fetches_[chunk].destination.size()) {
      return ResourceExhausted("part ", part, " ends at byte ", result.bytes, ", the destination has ",
                               fetches_[chunk].destination.size());
    }
    FetchedPart fetched;
    fetched.offset = offset;
    fetched.bytes = begin.container_bytes();
    fetched.whole = begin.sent_bytes() == begin.container_bytes();
    KDN_ASSIGN_OR_RETURN(fetched.cells, CellsOfPart(begin, model_.cells().num_cells()));
    const MutableByteSpan memory = fetches_[chunk].destination.subspan(offset, begin.container_bytes());
    incoming_.emplace(
        model_.spec(), model_.cells(), memory,
        IncomingContainer::Announced{begin.container_bytes(), begin.header_bytes(), fetched.cells, fetched.whole});
    result.parts.push_back(std::move(fetched));
    return memory;
  }

  // Verifies sections as they arrive, while their bytes are still in the cache.
  absl::Status OnPartProgress(uint32_t chunk, uint32_t part, uint64_t end) override {
    ChunkId id;
    id.digest = fetches_[chunk].chunk_digest;
    const IncomingContainer::Ready ready = incoming_->Advance(model_.fingerprint(), id, end);
    if (ready.fault.has_value()) {
      return ready.fault->reason == MissReason::kCorrupt ? DataLoss(ready.fault->message)
                                                         : FailedPrecondition(ready.fault->message);
    }
    if (verify_ != ContainerVerify::kEveryByte) return absl::OkStatus();
    for (size_t i = ready.first; i < ready.last; ++i) {
      const SectionEntry& section = incoming_->header().sections[i];
      if (!incoming_->IsSent(section)) continue;
      KDN_RETURN_IF_ERROR(VerifySection(section, incoming_->SectionBytes(section)));
    }
    return absl::OkStatus();
  }

  absl::Status OnPartEnd(uint32_t chunk, uint32_t part) override {
    return incoming_->Complete() ? absl::OkStatus() : DataLoss("part ", part, " lacks sections of its cells");
  }

  void OnChunkEnd(uint32_t chunk) override { ended_[chunk] = true; }

  void OnChunkMiss(uint32_t chunk, MissReason reason, std::string_view message) override {
    results_[chunk].miss = reason;
    results_[chunk].miss_message = std::string(message);
  }

  std::vector<FetchedContainer> Finish(const absl::Status& transfer) {
    for (size_t i = 0; i < results_.size(); ++i) {
      if (results_[i].miss.has_value() || ended_[i]) continue;
      results_[i].miss = absl::IsDeadlineExceeded(transfer) ? MissReason::kTimeout : MissReason::kUnavailable;
      results_[i].miss_message = std::string(FromAbsl(transfer.message()));
    }
    return std::move(results_);
  }
  bool AnyEnded() const {
    return std::find(ended_.begin(), ended_.end(), true) != ended_.end() ||
           std::any_of(results_.begin(), results_.end(), [](const FetchedContainer& r) { return r.miss.has_value(); });
  }

 private:
  const ModelHandle& model_;
  const std::span<const ContainerFetch> fetches_;
  const ContainerVerify verify_;
  std::vector<FetchedContainer> results_;
  std::vector<bool> ended_;
  std::optional<IncomingContainer> incoming_;  // the part being received
};

// Gives Store containers in caller memory and knows when the last reference to it is gone.
class BorrowedContainers : public StoreSource {
 public:
  BorrowedContainers(std::vector<v1::StoreBegin> begins, std::span<const ByteSpan> containers)
      : begins_(std::move(begins)),
        containers_(containers),
        released_(std::make_shared<absl::Notification>()),
        owner_(static_cast<const void*>(this), [released = released_](const void*) { released->Notify(); }) {}

  absl::StatusOr<std::optional<OutgoingContainer>> Next() override {
    if (next_ == containers_.size()) return std::optional<OutgoingContainer>();
    OutgoingContainer out;
    out.begin = begins_[next_];
    out.bytes = containers_[next_];
    out.owner = owner_;
    ++next_;
    return out;
  }

  // Until nothing refers to the containers.
  void WaitReleased(Transport& transport) {
    owner_.reset();
    if (released_->WaitForNotificationWithTimeout(kReleasePatience)) return;
    transport.DropConnections();
    released_->WaitForNotification();
  }

 private:
  const std::vector<v1::StoreBegin> begins_;
  const std::span<const ByteSpan> containers_;
  size_t next_ = 0;
  std::shared_ptr<absl::Notification> released_;
  std::shared_ptr<const void> owner_;
};

// What one header says for all of its sections: parts stored by clients of different profiles or builds may differ in
// it.
absl::Status CheckMergeable(const ContainerHeader& first, const ContainerHeader& other) {
  if (first.token_begin != other.token_begin || first.num_tokens != other.num_tokens) {
    return DataLoss("parts of chunk ", first.chunk_digest.ToShortHex(), " hold tokens [", first.token_begin, ", +",
                    first.num_tokens, ") and [", other.token_begin, ", +", other.num_tokens, ")");
  }
  if (first.tile_tokens == other.tile_tokens && first.rope_state == other.rope_state &&
      first.calibration == other.calibration) {
    return absl::OkStatus();
  }
  return FailedPrecondition("chunk ", first.chunk_digest.ToShortHex(),
                            " is stored in parts that no one container can hold",
                            ": their profiles differ in tile tokens (", first.tile_tokens, " and ", other.tile_tokens,
                            "), rotation of K or calibration objects");
}

// A section that is taken, and of which part.
struct MergeSource {
  SectionEntry section;
  size_t part;
};

// The sections of the cells that are taken from each part, in the order of one container.
absl::StatusOr<std::vector<MergeSource>> SectionsTaken(const FetchedContainer& fetched,
                                                       std::span<const ContainerHeader> headers, const CellMap& map) {
  std::vector<MergeSource> sources;
  for (size_t p = 0; p < headers.size(); ++p) {
    KDN_RETURN_IF_ERROR(CheckMergeable(headers.front(), headers[p]));
    const CellSet& taken = fetched.parts[p].cells;
    for (const SectionEntry& section : headers[p].sections) {
      const CellRange cells = CellsOfSection(section, map);
      if (!cells.Intersects(taken)) continue;
      for (uint32_t cell = cells.begin; cell < cells.end; ++cell) {
        if (taken.Contains(cell)) continue;
        return FailedPrecondition("chunk ", headers[p].chunk_digest.ToShortHex(),
                                  " is stored in parts that no one container can hold: part ", p, " codes cell ", cell,
                                  ", taken from another, together with others");
      }
      sources.push_back({section, p});
    }
  }
  std::stable_sort(sources.begin(), sources.end(), [](const MergeSource& a, const MergeSource& b) {
    return std::tie(a.section.layer, a.section.kind, a.section.head_begin) <
           std::tie(b.section.layer, b.section.kind, b.section.head_begin);
  });
  return sources;
}

ProfileId LossiestOf(const ContainerHeader& header) {
  ProfileId lossiest = ProfileId::kRaw;
  for (const TileEntry& tile : header.tiles) {
    if (!LosesNoMoreThan(tile.profile, lossiest)) lossiest = tile.profile;
  }
  return lossiest;
}

// The part that alone is the chunk: it is here whole, and holds every cell that is taken from any part, with no fewer
// rows and no more loss than there. nullptr when there is none.
const FetchedPart* PartThatHoldsAll(const FetchedContainer& fetched, std::span<const ContainerHeader> headers,
                                    const CellMap& map) {
  const auto holds = [&](size_t p, size_t other) {
    if (!LosesNoMoreThan(LossiestOf(headers[p]), LossiestOf(headers[other]))) return false;
    const std::vector<uint32_t> taken = fetched.parts[other].cells.ToVector();
    return std::all_of(taken.begin(), taken.end(), [&](uint32_t cell) {
      return headers[p].cells.Contains(cell) &&
             FirstRowOfCell(headers[p], map, cell) <= FirstRowOfCell(headers[other], map, cell);
    });
  };
  for (size_t p = 0; p < headers.size(); ++p) {
    bool all = fetched.parts[p].whole;
    for (size_t other = 0; all && other < headers.size(); ++other) all = holds(p, other);
    if (all) return &fetched.parts[p];
  }
  return nullptr;
}

absl::StatusOr<std::vector<uint8_t>> MergeParts(const FetchedContainer& fetched, ByteSpan bytes, const CellMap& map) {
  std::vector<ContainerHeader> headers;
  CellSet cells(map.num_cells());
  for (const FetchedPart& part : fetched.parts) {
    KDN_ASSIGN_OR_RETURN(ContainerHeader header, ParseContainerHeader(bytes.subspan(part.offset, part.bytes)));
    headers.push_back(std::move(header));
    for (const uint32_t cell : part.cells.ToVector()) cells.Insert(cell);
  }
  const absl::StatusOr<std::vector<MergeSource>> sources = SectionsTaken(fetched, headers, map);
  if (absl::IsFailedPrecondition(sources.status())) {
    const FetchedPart* whole = PartThatHoldsAll(fetched, headers, map);
    if (whole == nullptr) return sources.status();
    const ByteSpan container = bytes.subspan(whole->offset, whole->bytes);
    return std::vector<uint8_t>(container.begin(), container.end());
  }
  KDN_RETURN_IF_ERROR(sources);
  ContainerHeader merged = headers[0];
  merged.cells = cells;
  ContainerBuilder builder(std::move(merged));
  for (const MergeSource& source : *sources) {
    const ContainerHeader& header = headers[source.part];
    const FetchedPart& part = fetched.parts[source.part];
    builder.BeginSection(source.section);
    for (const TileEntry& tile : header.TilesOf(source.section)) {
      builder.AddTile(
          tile.profile,
          bytes.subspan(part.offset + header.header_bytes + source.section.offset + tile.offset, tile.length));
    }
  }
  return std::move(builder).Finish();
}

}  // namespace

absl::StatusOr<std::vector<FetchedContainer>> ClientImpl::FetchContainers(const ModelHandle& model,
                                                                          std::span<const ContainerFetch> fetches,
                                                                          const FetchOptions& options) {
  KDN_RETURN_IF_ERROR(CheckProcess());
  if (!model.valid()) return InvalidArgument("the model handle is empty");
  if (fetches.size() > kMaxChunksPerCall) {
    return InvalidArgument(fetches.size(), " chunks in one call, at most ", kMaxChunksPerCall);
  }
  if (fetches.empty()) return std::vector<FetchedContainer>();
  CallLimits limits;
  KDN_ASSIGN_OR_RETURN(limits.deadline_nanos, DeadlineNanos(options.timeout_ms, options_.transfer_timeout_ms));
  v1::RetrieveRequest request;
  request.set_fingerprint(model.fingerprint().bytes.data(), Digest::kBytes);
  request.set_max_frame_bytes(kRetrieveFrameDataBytes);
  for (const ContainerFetch& fetch : fetches) {
    request.add_chunks()->set_chunk_digest(fetch.chunk_digest.bytes.data(), Digest::kBytes);
  }
  FetchSink sink(model, fetches, options.verify);
  const absl::Status transfer = transport_->Retrieve(request, limits, sink);
  if (!transfer.ok() && !sink.AnyEnded()) return transfer;
  return sink.Finish(transfer);
}

absl::StatusOr<std::vector<uint8_t>> FetchOneContainer(ClientImpl& client, const ModelHandle& model,
                                                       const Digest& chunk_digest, const FetchOptions& options) {
  if (!model.valid()) return InvalidArgument("the model handle is empty");
  // Usually enough for all of it.
  std::vector<uint8_t> bytes(TokenBytes(model.spec()) * model.chunk_tokens() + kFetchSlackBytes);
  for (int attempt = 0; attempt < kMaxFetchAttempts; ++attempt) {
    const ContainerFetch fetch{chunk_digest, bytes};
    KDN_ASSIGN_OR_RETURN(const std::vector<FetchedContainer> results,
                         client.FetchContainers(model, std::span(&fetch, 1), options));
    const FetchedContainer& result = results[0];
    if (!result.miss.has_value()) {
      if (result.parts.size() != 1 || !result.parts[0].whole) return MergeParts(result, bytes, model.cells());
      bytes.resize(result.bytes);
      return bytes;
    }
    if (*result.miss != MissReason::kOverBudget || result.bytes <= bytes.size()) {
      return NotFound("chunk ", chunk_digest.ToShortHex(), ": ", ClientMissReasonName(*result.miss), ": ",
                      result.miss_message);
    }
    bytes.resize(std::max<uint64_t>(result.bytes, bytes.size() * 2));
  }
  return Aborted("chunk ", chunk_digest.ToShortHex(), ": ", bytes.size(), " bytes do not hold its parts");
}

absl::StatusOr<std::vector<ChunkStoreResult>> ClientImpl::PutContainers(const ModelHandle& model,
                                                                        std::span<const ByteSpan> containers,
                                                                        const PutOptions& options) {
  KDN_RETURN_IF_ERROR(CheckProcess());
  if (!model.valid()) return InvalidArgument("the model handle is empty");
  CallLimits limits;
  KDN_ASSIGN_OR_RETURN(limits.deadline_nanos, DeadlineNanos(options.timeout_ms, options_.transfer_timeout_ms));
  std::vector<std::vector<uint8_t>> transcoded;
  std::vector<ByteSpan> spans;
  if (options.profile.has_value()) {
    for (const ByteSpan bytes : containers) {
      KDN_ASSIGN_OR_RETURN(std::vector<uint8_t> container, TranscodeContainer(model, bytes, *options.profile));
      transcoded.push_back(std::move(container));
    }
    spans.assign(transcoded.begin(), transcoded.end());
    containers = spans;
  }
  std::vector<v1::StoreBegin> begins;
  std::vector<Digest> digests;
  for (const ByteSpan bytes : containers) {
    KDN_ASSIGN_OR_RETURN(const ContainerHeader header, ParseContainerHeader(bytes));
    if (header.fingerprint != model.fingerprint()) {
      return InvalidArgument("container of chunk ", header.chunk_digest.ToShortHex(), " belongs to another model");
    }
    if (bytes.size() != header.header_bytes + header.body_bytes) {
      return InvalidArgument("container of chunk ", header.chunk_digest.ToShortHex(), " has ", bytes.size(),
                             " bytes, its header says ", header.header_bytes + header.body_bytes);
    }
    v1::StoreBegin& begin = begins.emplace_back();
    begin.set_fingerprint(model.fingerprint().bytes.data(), Digest::kBytes);
    begin.set_chunk_digest(header.chunk_digest.bytes.data(), Digest::kBytes);
    begin.set_container_bytes(bytes.size());
    begin.set_kind(static_cast<uint32_t>(options.kind));
    begin.set_document(options.document);
    begin.set_ttl_ms(options.ttl_ms);
    digests.push_back(header.chunk_digest);
  }
  if (containers.empty()) return std::vector<ChunkStoreResult>();
  BorrowedContainers source(std::move(begins), containers);
  v1::StoreResponse response;
  const absl::Status status = transport_->Store(source, limits, response);
  source.WaitReleased(*transport_);
  KDN_RETURN_IF_ERROR(status);
  std::vector<ChunkStoreResult> results = StoreResultsFromWire(response, containers.size());
  for (size_t i = 0; i < results.size(); ++i) {
    results[i].chunk_digest = digests[i];
    results[i].stored_bytes = containers[i].size();
  }
  return results;
}

}  // namespace kdn
