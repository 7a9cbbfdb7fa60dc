#include "client/kdn/store_operation.h"

#include <algorithm>
#include <utility>

#include "absl/time/time.h"
#include "kernels/base/status.h"
#include "kernels/codec/chunk_codec.h"
#include "kernels/codec/row_importance.h"
#include "kernels/codec/tile_codec.h"

namespace kdn {
namespace {

constexpr double kLevelTenths = 10.0;
// Levels are given in tenths: what a ratio's own rounding may lack.
constexpr double kLevelSlack = 1e-6;

// A container in staging memory; gives its share of the budget back when gRPC is done with it.
struct StagedContainer {
  StagedContainer(std::vector<uint8_t> b, std::shared_ptr<ByteBudget> s, uint64_t r)
      : bytes(std::move(b)), staging(std::move(s)), reserved_bytes(r) {}
  ~StagedContainer() { staging->Release(reserved_bytes); }
  StagedContainer(const StagedContainer&) = delete;
  StagedContainer& operator=(const StagedContainer&) = delete;

  const std::vector<uint8_t> bytes;
  const std::shared_ptr<ByteBudget> staging;
  const uint64_t reserved_bytes;
};

ChunkStoreOutcome FromWire(v1::StoreOutcome outcome) {
  switch (outcome) {
    case v1::STORED:
      return ChunkStoreOutcome::kStored;
    case v1::DEDUPLICATED:
      return ChunkStoreOutcome::kDeduplicated;
    case v1::KEPT_EXISTING:
      return ChunkStoreOutcome::kKeptExisting;
    default:
      return ChunkStoreOutcome::kRejected;
  }
}

void SetBytes(const CellSet& cells, v1::Cells& out) {
  const std::vector<uint8_t> bitmap = cells.ToBytes();
  out.set_bitmap(bitmap.data(), bitmap.size());
}

}  // namespace

std::vector<ChunkStoreResult> StoreResultsFromWire(const v1::StoreResponse& response, size_t sent) {
  std::vector<ChunkStoreResult> results(sent);
  for (size_t i = 0; i < sent; ++i) {
    results[i].outcome = ChunkStoreOutcome::kRejected;
    if (i >= static_cast<size_t>(response.results_size())) {
      results[i].status = Internal("the server gave no result for the chunk");
      continue;
    }
    const v1::StoreResult& wire = response.results(static_cast<int>(i));
    results[i].outcome = FromWire(wire.outcome());
    if (results[i].outcome != ChunkStoreOutcome::kRejected) continue;
    const bool valid_code = wire.code() >= 1 && wire.code() <= 16;
    results[i].status = absl::Status(
        valid_code ? static_cast<absl::StatusCode>(wire.code()) : absl::StatusCode::kUnknown, wire.message());
  }
  return results;
}

StoreOperation::StoreOperation(ClientImpl& client, const StoreJob& job, internal::OperationState& state,
                               int64_t deadline_nanos)
    : client_(client),
      job_(job),
      state_(state),
      limits_{deadline_nanos, &state.cancel_token()},
      profile_(job.options.profile.value_or(client.options().profile)),
      encodes_(client.codec_pool()) {}

ChunkPlace StoreOperation::PlaceOf(size_t chunk) const {
  return ChunkPlace{job_.model.spec(), job_.model.cells(),      job_.model.fingerprint(),
                    job_.view.view,    job_.plan.chunks[chunk], job_.plan.ViewOffset(chunk)};
}

absl::StatusOr<StoreResult> StoreOperation::Run() {
  result_.chunks.resize(job_.plan.chunks.size());
  for (size_t i = 0; i < result_.chunks.size(); ++i) result_.chunks[i].chunk_digest = job_.plan.chunks[i].digest;
  absl::Status status = FindMissing();
  if (status.ok() && items_.empty()) state_.MarkStaged();
  if (status.ok() && !items_.empty()) status = ChooseProfile();
  if (status.ok() && !items_.empty()) {
    {
      absl::MutexLock lock(&mutex_);
      unencoded_ = items_.size();
    }
    v1::StoreResponse response;
    status = client_.transport().Store(*this, limits_, response);
    Abandon();
    if (status.ok()) status = Collect(response);
  }
  state_.MarkStaged();
  if (status.ok() && job_.text.has_value()) status = StoreText();
  if (!status.ok()) return status;
  for (size_t i = 0; i < result_.chunks.size(); ++i) {
    if (result_.chunks[i].outcome == ChunkStoreOutcome::kRejected) break;
    result_.tokens_present += job_.plan.chunks[i].num_tokens;
  }
  return std::move(result_);
}

absl::Status StoreOperation::FindMissing() {
  if (job_.plan.chunks.empty()) return absl::OkStatus();
  const CellMap& map = job_.model.cells();
  const CellSet whole = WholeCells(job_.model, job_.view.view);
  if (whole.Empty()) return InvalidArgument("the view holds no cell whole: every layer of a band is needed to store");
  v1::FindMissingRequest request;
  request.set_fingerprint(job_.model.fingerprint().bytes.data(), Digest::kBytes);
  request.set_profile(static_cast<uint32_t>(profile_));
  request.set_rope_state(static_cast<uint32_t>(StoredRopeState(profile_)));
  std::vector<CellSet> offered;
  for (size_t i = 0; i < job_.plan.chunks.size(); ++i) {
    const ChunkId& chunk = job_.plan.chunks[i];
    v1::ChunkOffer& offer = *request.add_chunks();
    offer.set_chunk_digest(chunk.digest.bytes.data(), Digest::kBytes);
    CellSet cells = whole;
    for (const uint32_t cell : whole.ToVector()) {
      const uint32_t first_row =
          FirstHeldRow(map.BandOfCell(cell), job_.view.view, job_.plan.ViewOffset(i), chunk.num_tokens);
      if (first_row >= chunk.num_tokens) cells.Erase(cell);
      if (first_row == 0 || first_row >= chunk.num_tokens) continue;
      v1::CellRows& rows = *offer.add_partial();
      rows.set_cell(cell);
      rows.set_first_row(first_row);
    }
    SetBytes(cells, *offer.mutable_cells());
    offered.push_back(std::move(cells));
  }
  v1::FindMissingResponse response;
  KDN_RETURN_IF_ERROR(client_.CallKdn("FindMissing", request, limits_, response));
  if (response.missing_size() != request.chunks_size()) {
    return Internal("FindMissing answered for ", response.missing_size(), " of ", request.chunks_size(), " chunks");
  }
  for (size_t i = 0; i < offered.size(); ++i) {
    const std::string& bitmap = response.missing(static_cast<int>(i)).bitmap();
    if (bitmap.empty()) continue;
    KDN_ASSIGN_OR_RETURN(const CellSet missing, CellSet::FromBytes(AsBytes(bitmap), map.num_cells()));
    Item item;
    item.chunk = i;
    item.cells = CellSet(map.num_cells());
    for (const uint32_t cell : missing.ToVector()) {
      if (offered[i].Contains(cell)) item.cells.Insert(cell);
    }
    if (!item.cells.Empty()) items_.push_back(std::move(item));
  }
  return absl::OkStatus();
}

absl::Status StoreOperation::ChooseProfile() {
  result_.profile = profile_;
  if (profile_ != ProfileId::kTransform) return absl::OkStatus();
  absl::StatusOr<std::optional<CalibrationInfo>> active =
      client_.ActiveCalibration(job_.model.fingerprint(), CalibrationKind::kTransform, limits_);
  // A server of an earlier version has none.
  if (absl::IsUnimplemented(active.status())) active = std::optional<CalibrationInfo>();
  KDN_RETURN_IF_ERROR(active);
  std::string why = "the model has no active calibration object";
  if (active->has_value()) {
    const absl::Status chosen = ChooseTransform(**active);
    if (!absl::IsNotFound(chosen)) return chosen;
    why = std::string(FromAbsl(chosen.message()));
  }
  profile_ = result_.profile = ProfileId::kQ4;
  result_.fallback = StrCat("stored as q4 instead of transform: ", why);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const TransformObject>> StoreOperation::UsableTransform(const Digest& digest) {
  absl::StatusOr<std::shared_ptr<const TransformObject>> object = client_.FindTransform(job_.model, digest, limits_);
  const absl::Status& status = object.status();
  if (absl::IsInvalidArgument(status) || absl::IsUnimplemented(status) || absl::IsFailedPrecondition(status)) {
    return NotFound("calibration object ", digest.ToShortHex(), " cannot be used: ", FromAbsl(status.message()));
  }
  KDN_RETURN_IF_ERROR(object);
  const CellMap& cells = job_.model.cells();
  for (const TransformGroup& group : (*object)->groups()) {
    const uint32_t last = group.layer + group.layer_count - 1;
    if (&cells.BandOfLayer(group.layer) == &cells.BandOfLayer(last)) continue;
    return NotFound("calibration object ", digest.ToShortHex(), " codes layers ", group.layer, " to ", last,
                    " together, which chunks of ", cells.chunk_tokens(), " tokens cut apart");
  }
  return object;
}

absl::Status StoreOperation::ChooseTransform(const CalibrationInfo& active) {
  KDN_ASSIGN_OR_RETURN(std::shared_ptr<const TransformObject> object, UsableTransform(active.digest));
  const TransformLevel* chosen = nullptr;
  std::string there;
  for (const TransformLevel& level : object->levels()) {
    there += (there.empty() ? "" : ", ") + StrCat(level.ratio_tenths / 10, ".", level.ratio_tenths % 10);
    if (chosen == nullptr && level.ratio_tenths >= job_.options.level * kLevelTenths - kLevelSlack) chosen = &level;
  }
  if (chosen == nullptr) {
    return InvalidArgument("calibration object ", active.digest.ToShortHex(), " has no level of ", job_.options.level,
                           " or more, only ", there);
  }
  // Over the whole view at once: what later tokens attend to does not end at a chunk's border.
  KDN_ASSIGN_OR_RETURN(row_classes_,
                       ClassesFromQueries(job_.model.spec(), *object, job_.view.view, job_.plan.chunks.front().begin));
  object_ = std::move(object);
  transform_ = {object_.get(), chosen->step, row_classes_};
  result_.level = chosen->ratio_tenths / kLevelTenths;
  result_.calibration = active.digest;
  return absl::OkStatus();
}

void StoreOperation::Submit(size_t index) {
  {
    absl::MutexLock lock(&mutex_);
    items_[index].submitted = true;
  }
  absl::Status status = encodes_.Submit([this, index] { Encode(index); });
  if (status.ok()) return;
  absl::MutexLock lock(&mutex_);
  items_[index].container = status;
  items_[index].encoded = true;
}

void StoreOperation::EncodeAhead() {
  for (; next_to_submit_ < items_.size(); ++next_to_submit_) {
    Item& item = items_[next_to_submit_];
    const uint64_t bytes = EncodedBytesEstimate(PlaceOf(item.chunk), item.cells);
    if (!client_.staging()->TryAcquire(bytes)) return;
    item.reserved_bytes = bytes;
    Submit(next_to_submit_);
  }
}

absl::Status StoreOperation::EnsureSubmitted(size_t index) {
  if (index < next_to_submit_) return absl::OkStatus();
  Item& item = items_[index];
  const uint64_t bytes = EncodedBytesEstimate(PlaceOf(item.chunk), item.cells);
  KDN_RETURN_IF_ERROR(client_.staging()->Acquire(bytes, limits_.deadline_nanos, limits_.cancel));
  item.reserved_bytes = bytes;
  ++next_to_submit_;
  Submit(index);
  return absl::OkStatus();
}

void StoreOperation::Encode(size_t index) {
  Item& item = items_[index];
  bool abandoned = false;
  {
    absl::MutexLock lock(&mutex_);
    abandoned = abandoned_;
  }
  absl::StatusOr<std::vector<uint8_t>> container = absl::CancelledError("the store ended before");
  if (!abandoned && !state_.cancel_token().cancelled()) {
    const TransformChoice* transform = object_ == nullptr ? nullptr : &transform_;
    container = EncodeCells(PlaceOf(item.chunk), item.cells, profile_, transform);
  }
  absl::MutexLock lock(&mutex_);
  item.container = std::move(container);
  item.encoded = true;
  if (--unencoded_ == 0) state_.MarkStaged();
  changed_.SignalAll();
}

absl::Status StoreOperation::WaitEncoded(size_t index) {
  const ScopedCancelCallback on_cancel(limits_.cancel, [this] {
    absl::MutexLock lock(&mutex_);
    changed_.SignalAll();
  });
  absl::MutexLock lock(&mutex_);
  while (!items_[index].encoded) {
    const int64_t left_nanos = limits_.deadline_nanos - client_.clock().MonotonicNanos();
    if (limits_.cancel->cancelled()) return Cancelled("cancelled by the caller");
    if (left_nanos <= 0) return DeadlineExceeded("deadline passed while encoding");
    changed_.WaitWithTimeout(&mutex_, absl::Nanoseconds(left_nanos));
  }
  return items_[index].container.status();
}

absl::StatusOr<std::optional<OutgoingContainer>> StoreOperation::Next() {
  EncodeAhead();
  if (next_to_submit_ < items_.size() && job_.options.when_staging_full == WhenStagingFull::kFail) {
    return ResourceExhausted("staging is full: ", client_.staging()->used_bytes(), " of ",
                             client_.staging()->limit_bytes(), " bytes are in use, ", items_.size() - next_to_submit_,
                             " chunks found no room");
  }
  if (next_to_send_ == items_.size()) return std::optional<OutgoingContainer>();
  const size_t index = next_to_send_++;
  KDN_RETURN_IF_ERROR(EnsureSubmitted(index));
  EncodeAhead();
  KDN_RETURN_IF_ERROR(WaitEncoded(index));
  return MakeOutgoing(items_[index]);
}

OutgoingContainer StoreOperation::MakeOutgoing(Item& item) {
  const ChunkId& chunk = job_.plan.chunks[item.chunk];
  // What was reserved beyond the container's size goes back at once.
  const uint64_t held = std::min<uint64_t>(item.reserved_bytes, item.container->size());
  client_.staging()->Release(item.reserved_bytes - held);
  item.reserved_bytes = 0;
  auto staged = std::make_shared<StagedContainer>(*std::move(item.container), client_.staging(), held);
  OutgoingContainer out;
  out.begin.set_fingerprint(job_.model.fingerprint().bytes.data(), Digest::kBytes);
  out.begin.set_chunk_digest(chunk.digest.bytes.data(), Digest::kBytes);
  out.begin.set_container_bytes(staged->bytes.size());
  out.begin.set_kind(static_cast<uint32_t>(chunk.kind));
  if (chunk.kind == ChunkKind::kPrefix) {
    const Digest* parent = item.chunk > 0 ? &job_.plan.chunks[item.chunk - 1].digest
                                          : (job_.plan.parent.has_value() ? &*job_.plan.parent : nullptr);
    if (parent != nullptr) out.begin.set_parent_digest(parent->bytes.data(), Digest::kBytes);
  }
  out.begin.set_ttl_ms(job_.options.ttl_ms);
  out.begin.set_document(job_.options.document);
  out.bytes = staged->bytes;
  result_.chunks[item.chunk].stored_bytes = staged->bytes.size();
  out.owner = std::move(staged);
  return out;
}

void StoreOperation::Abandon() {
  {
    absl::MutexLock lock(&mutex_);
    abandoned_ = true;
  }
  encodes_.Wait();
  for (Item& item : items_) client_.staging()->Release(std::exchange(item.reserved_bytes, 0));
}

absl::Status StoreOperation::Collect(const v1::StoreResponse& response) {
  const std::vector<ChunkStoreResult> results = StoreResultsFromWire(response, items_.size());
  for (size_t i = 0; i < items_.size(); ++i) {
    ChunkStoreResult& chunk = result_.chunks[items_[i].chunk];
    chunk.outcome = results[i].outcome;
    chunk.status = results[i].status;
    result_.sent_bytes += chunk.stored_bytes;
    result_.raw_bytes += RawBytes(PlaceOf(items_[i].chunk), items_[i].cells);
  }
  return absl::OkStatus();
}

absl::Status StoreOperation::StoreText() {
  v1::StoreTextResponse response;
  return client_.CallKdn("StoreText", *job_.text, limits_, response);
}

std::shared_ptr<internal::TypedOperationState<StoreResult>> StartStore(
    ClientImpl& client, const StoreArguments& arguments, const TextRef* text,
    std::function<void(const absl::StatusOr<StoreResult>&)> on_done) {
  const ModelHandle& model = arguments.model;
  auto job = std::make_shared<StoreJob>(model, arguments.view, arguments.options);
  absl::Status refused = CheckView(model, arguments.view);
  if (refused.ok()) {
    refused = CheckEncodable(arguments.options.profile.value_or(client.options().profile), model.spec().dtype);
  }
  if (refused.ok()) {
    absl::StatusOr<SpanPlan> plan =
        PlanSpan(model, arguments.token_ids, arguments.options.span, arguments.view.num_tokens);
    refused = plan.status();
    if (plan.ok()) {
      refused = CheckWholeChunks(*plan, arguments.view.num_tokens);
      job->plan = *std::move(plan);
    }
  }
  if (refused.ok() && text != nullptr) {
    v1::StoreTextRequest& request = job->text.emplace();
    const Digest digest = TextDigest(model.fingerprint(), text->special_token_policy, text->utf8);
    request.set_fingerprint(model.fingerprint().bytes.data(), Digest::kBytes);
    request.set_text_digest(digest.bytes.data(), Digest::kBytes);
    request.mutable_token_ids()->Assign(arguments.token_ids.begin(), arguments.token_ids.end());
    request.set_document(job->options.document);
    request.set_ttl_ms(job->options.ttl_ms);
    for (const std::string& key : job->options.span.extra_keys) request.add_extra_keys(key);
  }
  return client.Start<StoreResult>(
      job->options.timeout_ms, std::move(on_done),
      [&client, job, refused](internal::TypedOperationState<StoreResult>& state, int64_t deadline_nanos) {
        absl::StatusOr<StoreResult> result =
            refused.ok() ? StoreOperation(client, *job, state, deadline_nanos).Run() : refused;
        if (result.ok()) client.Count(*result);
        state.Complete(std::move(result));
      });
}

}  // namespace kdn
