#include "client/kdn/retrieve_operation.h"

#include <algorithm>
#include <utility>

#include "kernels/base/status.h"
#include "kernels/codec/lossless_tables.h"

namespace kdn {
namespace {

// A container may be larger than the KV in it by its header and by what coding adds to incompressible tiles.
constexpr uint64_t kMaxExpansion = 2;
constexpr uint64_t kContainerSlackBytes = uint64_t{1} << 20;

MissReason ReasonOfBrokenTransfer(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kDeadlineExceeded:
      return MissReason::kTimeout;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kDataLoss:
      return MissReason::kCorrupt;
    default:
      return MissReason::kUnavailable;
  }
}

}  // namespace

RetrieveOperation::RetrieveOperation(ClientImpl& client, RetrieveJob& job, internal::OperationState& state,
                                     int64_t deadline_nanos)
    : client_(client),
      job_(job),
      state_(state),
      limits_{deadline_nanos, &state.cancel_token()},
      decodes_(client.codec_pool()) {}

ChunkPlace RetrieveOperation::PlaceOf(size_t chunk) const {
  return ChunkPlace{job_.model.spec(), job_.model.cells(),  job_.model.fingerprint(),
                    job_.view.view,    plan_.chunks[chunk], plan_.ViewOffset(chunk)};
}

ProfileId RetrieveOperation::Lossiest() const { return job_.options.lossiest.value_or(client_.options().profile); }

absl::StatusOr<RetrieveResult> RetrieveOperation::Run() {
  KDN_RETURN_IF_ERROR(CheckView(job_.model, job_.view.view));
  KDN_RETURN_IF_ERROR(ValidateDestination(job_.model.spec(), job_.view.view));
  uint64_t view_tokens = job_.view.view.num_tokens;
  if (job_.text.has_value()) {
    KDN_RETURN_IF_ERROR(FindText());
    const uint64_t first = std::min<uint64_t>(job_.options.span.first_token, job_.token_ids.size());
    view_tokens = std::min<uint64_t>(view_tokens, job_.token_ids.size() - first);
  }
  KDN_ASSIGN_OR_RETURN(plan_, PlanSpan(job_.model, job_.token_ids, job_.options.span, view_tokens));
  // Of a text the caller may not know how long it is: there the view takes the whole chunks for which it has room.
  if (!job_.text.has_value()) KDN_RETURN_IF_ERROR(CheckWholeChunks(plan_, job_.view.view.num_tokens));
  for (const ChunkId& chunk : plan_.chunks) asked_digests_.push_back(chunk.digest);
  wanted_ = TouchedCells(job_.model, job_.view.view);
  max_part_bytes_ = TokenBytes(job_.model.spec()) * job_.model.chunk_tokens() * kMaxExpansion + kContainerSlackBytes;
  {
    absl::MutexLock lock(&mutex_);
    chunks_.resize(plan_.chunks.size());
    for (size_t i = 0; i < chunks_.size(); ++i) {
      chunks_[i].claimed = CellSet(job_.model.cells().num_cells());
      chunks_[i].first_rows.assign(job_.model.cells().num_cells(), plan_.chunks[i].num_tokens);
    }
  }
  if (Prefix() && HasWindows(job_.model.spec()) && !plan_.chunks.empty()) KDN_RETURN_IF_ERROR(LimitToHit());
  absl::Status transfer;
  if (!plan_.chunks.empty()) transfer = client_.transport().Retrieve(MakeRequest(), limits_, *this);
  part_.reset();
  decodes_.Wait();
  return Collect(transfer);
}

absl::Status RetrieveOperation::FindText() {
  LookupOptions options;
  options.span = job_.options.span;
  options.lossiest = Lossiest();
  const int64_t left_ms = (limits_.deadline_nanos - client_.clock().MonotonicNanos()) / 1'000'000;
  options.timeout_ms = std::max<int64_t>(left_ms, 1);
  const TextRef text{job_.text->utf8, job_.text->special_token_policy};
  KDN_ASSIGN_OR_RETURN(TextLookup found, client_.LookupText(job_.model, text, options));
  job_.token_ids = std::move(found.token_ids);
  job_.options.span.extra_keys = std::move(found.extra_keys);
  return absl::OkStatus();
}

absl::Status RetrieveOperation::LimitToHit() {
  v1::LookupRequest request;
  request.set_fingerprint(job_.model.fingerprint().bytes.data(), Digest::kBytes);
  for (const ChunkId& chunk : plan_.chunks) request.add_chunk_digests(chunk.digest.bytes.data(), Digest::kBytes);
  request.set_last_chunk_tokens(plan_.chunks.back().num_tokens);
  const std::vector<uint8_t> bitmap = wanted_.ToBytes();
  request.mutable_cells()->set_bitmap(bitmap.data(), bitmap.size());
  request.set_lossiest(static_cast<uint32_t>(Lossiest()));
  v1::LookupResponse response;
  KDN_RETURN_IF_ERROR(client_.CallKdn("Lookup", request, limits_, response));
  if (response.hit_chunks() < plan_.chunks.size()) plan_.chunks.resize(response.hit_chunks());
  return absl::OkStatus();
}

v1::RetrieveRequest RetrieveOperation::MakeRequest() const {
  v1::RetrieveRequest request;
  request.set_fingerprint(job_.model.fingerprint().bytes.data(), Digest::kBytes);
  const std::vector<uint8_t> bitmap = wanted_.ToBytes();
  request.mutable_cells()->set_bitmap(bitmap.data(), bitmap.size());
  request.set_max_frame_bytes(kRetrieveFrameDataBytes);
  request.set_lossiest(static_cast<uint32_t>(Lossiest()));
  const uint64_t prefix_end = Prefix() ? plan_.first_token + plan_.NumTokens() : 0;
  for (const ChunkId& chunk : plan_.chunks) {
    v1::ChunkRequest& wire = *request.add_chunks();
    wire.set_chunk_digest(chunk.digest.bytes.data(), Digest::kBytes);
    wire.set_prefix_end(prefix_end);
  }
  return request;
}

absl::StatusOr<MutableByteSpan> RetrieveOperation::OnPartBegin(uint32_t chunk, uint32_t part,
                                                               const v1::PartBegin& begin) {
  KDN_ASSIGN_OR_RETURN(CellSet take, CellsOfPart(begin, wanted_.num_cells()));
  if (begin.container_bytes() > max_part_bytes_) {
    return InvalidArgument("part ", part, " announces ", begin.container_bytes(),
                           " bytes, a chunk of this model has at ", "most ", max_part_bytes_);
  }
  {
    absl::MutexLock lock(&mutex_);
    for (const uint32_t cell : take.ToVector()) {
      if (chunks_[chunk].claimed.Contains(cell)) return InvalidArgument("cell ", cell, " comes in two parts");
      chunks_[chunk].claimed.Insert(cell);
    }
    chunks_[chunk].from_ram = begin.tier() == "ram";
  }
  KDN_ASSIGN_OR_RETURN(Buffer memory,
                       client_.receive_pool().Acquire(begin.container_bytes(), limits_.deadline_nanos, limits_.cancel));
  received_bytes_ += begin.sent_bytes();
  const bool whole = begin.sent_bytes() == begin.container_bytes();
  part_ = std::make_shared<Part>(
      std::move(memory), job_.model,
      IncomingContainer::Announced{begin.container_bytes(), begin.header_bytes(), std::move(take), whole});
  return part_->memory.span();
}

absl::Status RetrieveOperation::OnPartProgress(uint32_t chunk, uint32_t part, uint64_t end) {
  const IncomingContainer::Ready ready = part_->container.Advance(job_.model.fingerprint(), plan_.chunks[chunk], end);
  if (ready.fault.has_value()) {
    return ready.fault->reason == MissReason::kCorrupt ? DataLoss(ready.fault->message)
                                                       : FailedPrecondition(ready.fault->message);
  }
  if (ready.first == ready.last) return absl::OkStatus();
  if (!std::exchange(part_->objects_sought, true)) FindObjects(chunk, part_->container.header());
  return decodes_.Submit([this, chunk, part = part_, ready] { Decode(chunk, *part, ready.first, ready.last); });
}

void RetrieveOperation::FindObjects(uint32_t chunk, const ContainerHeader& header) {
  const bool accepted = LosesNoMoreThan(ProfileId::kTransform, Lossiest());
  const bool needed = std::any_of(header.tiles.begin(), header.tiles.end(),
                                  [](const TileEntry& tile) { return tile.profile == ProfileId::kTransform; });
  if (!needed || !accepted) return;
  for (const Digest& digest : header.calibration) {
    if (digest == LosslessTables::BuiltIn().digest() || transforms_.Find(digest) != nullptr) continue;
    const auto known = missing_objects_.find(digest);
    if (known != missing_objects_.end()) return SetFault(chunk, known->second);
    if (objects_found_ == kMaxObjects) {
      return SetFault(chunk, {MissReason::kIncompatible,
                              StrCat("its calibration object would be the ", kMaxObjects + 1, "th of one call")});
    }
    const absl::StatusOr<std::shared_ptr<const TransformObject>> object =
        client_.FindTransform(job_.model, digest, limits_);
    if (object.ok()) {
      transforms_.Add(*object);
      ++objects_found_;
      continue;
    }
    const absl::Status& status = object.status();
    ContainerFault fault{MissReason::kIncompatible,
                         StrCat("calibration object ", digest.ToHex(), ": ", FromAbsl(status.message()))};
    if (absl::IsDeadlineExceeded(status)) fault.reason = MissReason::kTimeout;
    const bool passing = absl::IsUnavailable(status) || absl::IsCancelled(status) || absl::IsResourceExhausted(status);
    if (passing) fault.reason = MissReason::kUnavailable;
    missing_objects_.emplace(digest, fault);
    return SetFault(chunk, std::move(fault));
  }
}

absl::Status RetrieveOperation::OnPartEnd(uint32_t chunk, uint32_t part) {
  const IncomingContainer& container = part_->container;
  if (!container.Complete()) return DataLoss("part ", part, " lacks sections of its cells");
  absl::MutexLock lock(&mutex_);
  ChunkState& state = chunks_[chunk];
  for (const uint32_t cell : container.take().ToVector()) {
    state.first_rows[cell] = FirstRowOfCell(container.header(), job_.model.cells(), cell);
  }
  state.written_bytes += RawBytes(PlaceOf(chunk), container.take());
  part_.reset();
  return absl::OkStatus();
}

void RetrieveOperation::OnChunkEnd(uint32_t chunk) {
  absl::MutexLock lock(&mutex_);
  chunks_[chunk].ended = true;
}

void RetrieveOperation::OnChunkMiss(uint32_t chunk, MissReason reason, std::string_view message) {
  part_.reset();
  SetFault(chunk, {reason, std::string(message)});
}

void RetrieveOperation::SetFault(uint32_t chunk, ContainerFault fault) {
  absl::MutexLock lock(&mutex_);
  if (!chunks_[chunk].fault.has_value()) chunks_[chunk].fault = std::move(fault);
}

void RetrieveOperation::Decode(uint32_t chunk, const Part& part, size_t first_section, size_t last_section) {
  if (limits_.cancel->cancelled()) return SetFault(chunk, {MissReason::kUnavailable, "cancelled"});
  if (client_.clock().MonotonicNanos() >= limits_.deadline_nanos) {
    return SetFault(chunk, {MissReason::kTimeout, "deadline passed before it was decoded"});
  }
  {
    absl::MutexLock lock(&mutex_);
    if (chunks_[chunk].fault.has_value()) return;
  }
  const DecodeAccept accept{Lossiest(), &transforms_};
  std::optional<ContainerFault> fault =
      DecodeSections(PlaceOf(chunk), part.container, first_section, last_section, accept);
  if (fault.has_value()) SetFault(chunk, *std::move(fault));
}

bool RetrieveOperation::Covers(size_t i, uint64_t prefix_end) const {
  const ChunkId& chunk = plan_.chunks[i];
  for (const LayerBand& band : job_.model.cells().bands()) {
    const uint32_t needed = FirstNeededRow(band.attention, band.window, prefix_end, chunk.begin, chunk.num_tokens);
    if (needed >= chunk.num_tokens) continue;
    for (uint32_t head = 0; head < band.num_kv_heads; ++head) {
      if (!wanted_.Contains(band.first_cell + head)) continue;
      if (chunks_[i].first_rows[band.first_cell + head] > needed) return false;
      if (FirstHeldRow(band, job_.view.view, plan_.ViewOffset(i), chunk.num_tokens) > needed) return false;
    }
  }
  return true;
}

void RetrieveOperation::FindFaults(const absl::Status& transfer) {
  const uint64_t asked_end = plan_.first_token + plan_.NumTokens();
  for (size_t i = 0; i < chunks_.size(); ++i) {
    ChunkState& chunk = chunks_[i];
    if (chunk.fault.has_value()) continue;
    if (i >= plan_.chunks.size()) {
      chunk.fault = ContainerFault{MissReason::kAbsent, "no prefix that long can be loaded"};
    } else if (!chunk.ended) {
      chunk.fault = ContainerFault{ReasonOfBrokenTransfer(transfer), std::string(FromAbsl(transfer.message()))};
    } else if (!Covers(i, Prefix() ? asked_end : plan_.chunks[i].begin)) {
      chunk.fault = ContainerFault{MissReason::kIncomplete, "cells or rows are missing"};
    }
  }
}

size_t RetrieveOperation::UsableChunks() const {
  size_t usable = 0;
  while (usable < chunks_.size() && !chunks_[usable].fault.has_value()) ++usable;
  if (!Prefix() || usable == chunks_.size()) return usable;
  // The prefix ends before the one that was asked for: readers of windowed layers need other rows then.
  const auto covered = [this](size_t count) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const ChunkId& last = plan_.chunks[count - 1];
    for (size_t i = 0; i < count; ++i) {
      if (!Covers(i, last.begin + last.num_tokens)) return false;
    }
    return true;
  };
  const bool windows = HasWindows(job_.model.spec());
  while (windows && usable > 0 && !covered(usable)) --usable;
  return usable;
}

absl::StatusOr<RetrieveResult> RetrieveOperation::Collect(const absl::Status& transfer) {
  if (limits_.cancel->cancelled()) return Cancelled("cancelled by the caller");
  absl::MutexLock lock(&mutex_);
  const bool some_answer = std::any_of(chunks_.begin(), chunks_.end(),
                                       [](const ChunkState& chunk) { return chunk.ended || chunk.fault.has_value(); });
  if (!transfer.ok() && !some_answer) return transfer;
  FindFaults(transfer);
  RetrieveResult result;
  result.transfer_status = transfer;
  result.received_bytes = received_bytes_;
  if (job_.text.has_value()) result.token_ids = job_.token_ids;
  result.chunks_loaded = static_cast<uint32_t>(UsableChunks());
  for (size_t i = 0; i < chunks_.size(); ++i) {
    ChunkState& chunk = chunks_[i];
    if (i < result.chunks_loaded) result.tokens_loaded += plan_.chunks[i].num_tokens;
    result.written_bytes += chunk.written_bytes;
    if (chunk.from_ram) ++result.chunks_from_ram;
    result.chunk_loaded.push_back(!chunk.fault.has_value());
    if (!chunk.fault.has_value()) continue;
    result.misses.push_back(
        {static_cast<uint32_t>(i), asked_digests_[i], chunk.fault->reason, std::move(chunk.fault->message)});
  }
  return result;
}

std::shared_ptr<internal::TypedOperationState<RetrieveResult>> StartRetrieve(ClientImpl& client,
                                                                             const std::shared_ptr<RetrieveJob>& job,
                                                                             OnRetrieved on_done) {
  const int64_t timeout_ms = job->options.timeout_ms;
  return client.Start<RetrieveResult>(
      timeout_ms, std::move(on_done),
      [&client, job](internal::TypedOperationState<RetrieveResult>& state, int64_t deadline_nanos) {
        absl::StatusOr<RetrieveResult> result = RetrieveOperation(client, *job, state, deadline_nanos).Run();
        if (result.ok()) client.Count(*result);
        state.Complete(std::move(result));
      });
}

}  // namespace kdn
