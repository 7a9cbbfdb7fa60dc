#include "server/rpc/retrieve_stream.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "kernels/base/status.h"
#include "server/rpc/byte_buffer.h"
#include "server/rpc/convert.h"

namespace kdn {
namespace {

// What is reserved for a chunk before its size is known: that of the one before, or this for the first.
constexpr uint64_t kFirstEstimateBytes = uint64_t{4} << 20;

// What a payload slice keeps alive until gRPC releases it.
struct SliceOwner {
  SharedBytes bytes;
  std::shared_ptr<const void> hold;
  std::shared_ptr<StreamCredit> credit;
};

void ReleaseSlice(void* raw) {
  const std::unique_ptr<SliceOwner> owner(static_cast<SliceOwner*>(raw));
  owner->credit->Release(owner->bytes.size());
}

}  // namespace

struct RetrieveStream::Hold {
  std::optional<MemoryBudget::Reservation> reservation;
};

grpc::ServerWriteReactor<grpc::ByteBuffer>* RetrieveStream::Start(const CallEnvironment& environment,
                                                                  grpc::CallbackServerContext* context,
                                                                  const grpc::ByteBuffer* request) {
  std::shared_ptr<RetrieveStream> stream(new RetrieveStream(environment, context));
  stream->self_ = stream;
  absl::StatusOr<Identity> identity = Admit(environment, *context, CallKind::kKdn);
  if (!identity.ok()) {
    stream->Fail(identity.status());
    return stream.get();
  }
  stream->caller_ = std::move(identity->caller);
  const std::weak_ptr<RetrieveStream> weak = stream;
  const std::weak_ptr<WorkerPool> pool = environment.pool;
  stream->frame_bytes_ = std::min(environment.limits.max_frame_bytes, kMaxSentFrameBytes);
  stream->credit_ = std::make_shared<StreamCredit>(kWindowFrames * stream->frame_bytes_, [weak, pool] {
    const std::shared_ptr<WorkerPool> workers = pool.lock();
    if (workers == nullptr) return;
    workers->Continue([weak] {
      if (const std::shared_ptr<RetrieveStream> alive = weak.lock()) alive->Pump();
    });
  });
  if (!HasDeadline(*context)) {
    stream->deadline_timer_ = environment.timers->Schedule(stream->deadline_, [weak] {
      const std::shared_ptr<RetrieveStream> alive = weak.lock();
      if (alive != nullptr) alive->Fail(DeadlineExceeded("the server's default deadline passed"));
    });
  }
  stream->CheckStall();
  if (!environment.pool->TryStart([stream, request] { stream->ReadRequest(*request); })) {
    stream->Fail(TooManyCalls());
  }
  return stream.get();
}

RetrieveStream::RetrieveStream(const CallEnvironment& environment, grpc::CallbackServerContext* context)
    : environment_(environment), context_(context), deadline_(DeadlineOf(environment, *context)) {
  scope_.emplace(environment, "Retrieve");
}

void RetrieveStream::ReadRequest(const grpc::ByteBuffer& request) {
  {
    absl::MutexLock lock(&mu_);
    if (finished_) return;  // and with the call, perhaps, its request
    parsing_ = true;
  }
  absl::Status status = ParseRequest(request);
  {
    absl::MutexLock lock(&mu_);
    parsing_ = false;
    parsed_ = true;
    if (status_.ok()) status_ = std::move(status);
  }
  FetchAll(Advance());
}

absl::Status RetrieveStream::ParseRequest(const grpc::ByteBuffer& bytes) {
  v1::RetrieveRequest request;
  if (!ParseMessage(bytes, request)) return InvalidArgument("retrieve request does not parse");
  const uint64_t limit = environment_.limits.max_chunks_per_call;
  if (static_cast<uint64_t>(request.chunks_size()) > limit) {
    return InvalidArgument("chunks names ", request.chunks_size(), " chunks, at most ", limit,
                           " (limits.max_chunks_per_call)");
  }
  KDN_ASSIGN_OR_RETURN(fingerprint_, ReadDigest("fingerprint", request.fingerprint()));
  KDN_ASSIGN_OR_RETURN(cells_, ReadCells("cells", request.cells()));
  if (request.has_lossiest()) lossiest_ = ReadProfile(request.lossiest());
  asks_.reserve(static_cast<size_t>(request.chunks_size()));
  for (const v1::ChunkRequest& chunk : request.chunks()) {
    absl::StatusOr<Digest> digest = ReadDigest("chunk_digest", chunk.chunk_digest());
    if (!digest.ok()) return Annotate(digest.status(), StrCat("chunks[", asks_.size(), "]"));
    asks_.push_back({*digest, chunk.prefix_end()});
  }
  if (request.max_frame_bytes() != 0) {
    frame_bytes_ = std::clamp<uint64_t>(request.max_frame_bytes(), kMinSentFrameBytes, frame_bytes_);
  }
  return absl::OkStatus();
}

std::optional<RetrieveStream::FetchJob> RetrieveStream::Advance() {
  Decision decision;
  absl::Status status;
  {
    absl::MutexLock lock(&mu_);
    decision = Decide();
    status = status_;
  }
  if (decision.step == Decision::Step::kWrite) WriteNext();
  if (decision.step == Decision::Step::kFinish) Finish(scope_->End(status));
  return decision.fetch;
}

void RetrieveStream::Pump() {
  std::shared_ptr<RetrieveStream> self = shared_from_this();  // what Advance starts may end the call
  const std::optional<FetchJob> job = Advance();
  if (job.has_value()) environment_.pool->Continue([self = std::move(self), job] { self->FetchAll(job); });
}

RetrieveStream::Decision RetrieveStream::Decide() {
  if (finished_ || writing_ || parsing_) return {};
  if (!status_.ok()) {
    sending_since_ = absl::Now();
    finished_ = true;
    return {Decision::Step::kFinish, std::nullopt};
  }
  if (!parsed_) return {};
  if (!current_.has_value() && !ready_.empty()) {
    current_ = std::move(ready_.front());
    ready_.pop_front();
  }
  const std::optional<FetchJob> fetch = NextFetch();
  if (!current_.has_value()) {
    finished_ = NothingToFetch();
    if (finished_) sending_since_ = absl::Now();
    return {finished_ ? Decision::Step::kFinish : Decision::Step::kNothing, fetch};
  }
  sending_since_ = std::min(sending_since_, absl::Now());
  if (!credit_->HasRoom()) return {Decision::Step::kNothing, fetch};
  writing_ = true;
  return {Decision::Step::kWrite, fetch};
}

std::optional<RetrieveStream::FetchJob> RetrieveStream::NextFetch() {
  const size_t ahead = ready_.size() + (current_.has_value() ? 1 : 0);
  if (fetching_ || ahead >= kDepth || next_fetch_ == asks_.size()) return std::nullopt;
  const uint64_t estimate_bytes = last_chunk_bytes_ == 0 ? kFirstEstimateBytes : last_chunk_bytes_;
  // With one chunk at hand, another that may break the call's own limit waits for it.
  if (ahead > 0 && estimate_bytes > environment_.limits.per_call_bytes / kDepth) return std::nullopt;
  fetching_ = true;
  return FetchJob{next_fetch_++, estimate_bytes};
}

void RetrieveStream::FetchAll(std::optional<FetchJob> job) {
  while (job.has_value()) job = ReserveAndFetch(*job);
}

std::optional<RetrieveStream::FetchJob> RetrieveStream::ReserveAndFetch(const FetchJob& job) {
  if (auto reservation = environment_.budget->TryReserve(job.estimate_bytes); reservation.has_value()) {
    return Fetch(job.index, std::move(reservation));
  }
  const absl::Time now = absl::Now();
  const uint64_t id = environment_.budget->Reserve(
      job.estimate_bytes, now + (deadline_ - now) / 2,
      [self = shared_from_this(), index = job.index](std::optional<MemoryBudget::Reservation> reservation) {
        self->environment_.pool->Continue([self, index, reservation = std::move(reservation)]() mutable {
          self->FetchAll(self->Fetch(index, std::move(reservation)));
        });
      });
  bool cancelled = false;
  {
    absl::MutexLock lock(&mu_);
    wait_id_ = id;
    cancelled = finished_ || !status_.ok();
  }
  if (cancelled) environment_.budget->CancelWait(id);
  return std::nullopt;
}

std::optional<RetrieveStream::FetchJob> RetrieveStream::Fetch(uint32_t index,
                                                              std::optional<MemoryBudget::Reservation> reservation) {
  {
    absl::MutexLock lock(&mu_);
    wait_id_ = 0;
    fetching_ = false;
    if (finished_ || !status_.ok()) return std::nullopt;
    fetching_ = true;
  }
  RetrievedChunk chunk = FetchChunk(index, reservation);
  const uint64_t bytes = PayloadBytes(chunk);
  auto hold = std::make_shared<Hold>(Hold{std::move(reservation)});
  auto framer = std::make_unique<ChunkFramer>(index, std::move(chunk), frame_bytes_);
  {
    absl::MutexLock lock(&mu_);
    fetching_ = false;
    if (bytes > 0) last_chunk_bytes_ = bytes;
    ready_.push_back({std::move(framer), std::move(hold)});
  }
  return Advance();
}

RetrievedChunk RetrieveStream::FetchChunk(uint32_t index, std::optional<MemoryBudget::Reservation>& reservation) {
  if (!reservation.has_value()) {
    return OverBudget(StrCat("no room within ", environment_.budget->limit_bytes(),
                             " bytes that all calls may hold (memory.inflight) in half the time to the deadline"));
  }
  RetrieveQuery query;
  query.fingerprint = fingerprint_;
  query.chunk_digest = asks_[index].digest;
  query.cells = cells_;
  query.prefix_end = asks_[index].prefix_end;
  query.lossiest = lossiest_;
  absl::StatusOr<RetrievedChunk> chunk = environment_.store->Retrieve(caller_, query);
  if (!chunk.ok()) {
    Fail(chunk.status());
    return {};
  }
  const uint64_t bytes = PayloadBytes(*chunk);
  if (bytes > environment_.limits.per_call_bytes) {
    return OverBudget(StrCat("the chunk has ", bytes, " bytes, more than the ", environment_.limits.per_call_bytes,
                             " that one call may hold (memory.per_call)"));
  }
  reservation->Resize(bytes);
  return *std::move(chunk);
}

RetrievedChunk RetrieveStream::OverBudget(std::string message) const {
  environment_.metrics->OnMiss(MissReason::kOverBudget);
  RetrievedChunk miss;
  miss.miss = MissReason::kOverBudget;
  miss.miss_message = std::move(message);
  return miss;
}

void RetrieveStream::WriteNext() {
  RetrieveFrame frame = current_->framer->Next();
  std::vector<grpc::Slice> slices;
  slices.reserve(1 + frame.payload.size());
  slices.emplace_back(frame.header.data(), frame.header.size());
  for (SharedBytes& piece : frame.payload) {
    credit_->Take(piece.size());
    const uint8_t* data = piece.data();
    const size_t size = piece.size();
    auto* owner = new SliceOwner{std::move(piece), current_->hold, credit_};
    // gRPC does not write to what it sends.
    slices.emplace_back(const_cast<uint8_t*>(data), size, &ReleaseSlice, owner);
  }
  frame_ = grpc::ByteBuffer(slices.data(), slices.size());
  if (current_->framer->done()) current_.reset();
  bool last = false;
  grpc::WriteOptions options;
  {
    absl::MutexLock lock(&mu_);
    const bool more = current_.has_value() || !ready_.empty();
    last = !more && NothingToFetch() && status_.ok();
    finished_ = last;
    // What follows at once is sent together with this, without a turn through the threads in between. The first frame
    // goes alone: with it go the headers, without which gRPC does not report it as written.
    if (more && begun_ && !credit_->IsFull()) options.set_buffer_hint();
    begun_ = true;
  }
  if (last) return StartWriteAndFinish(&frame_, options, scope_->End(absl::OkStatus()));
  StartWrite(&frame_, options);
}

void RetrieveStream::OnWriteDone(bool ok) {
  frame_.Clear();
  {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    sending_since_ = absl::InfiniteFuture();
    if (!ok && status_.ok()) status_ = Cancelled("the caller has gone");
  }
  Pump();
}

void RetrieveStream::OnCancel() { Fail(Cancelled("the caller has gone")); }

void RetrieveStream::Fail(absl::Status status) {
  uint64_t wait_id = 0;
  {
    absl::MutexLock lock(&mu_);
    if (status_.ok()) status_ = std::move(status);
    wait_id = wait_id_;
  }
  if (wait_id != 0) environment_.budget->CancelWait(wait_id);
  Pump();
}

// What was written stays in memory until the client has read it, so an end with a status would not free it.
void RetrieveStream::CheckStall() {
  {
    absl::MutexLock lock(&mu_);
    if (done_) return;
    const absl::Duration timeout = environment_.limits.stall_timeout;
    const absl::Time now = absl::Now();
    if (sending_since_ + timeout > now) {
      stall_timer_ = environment_.timers->Schedule(std::min(sending_since_, now) + timeout, [weak = weak_from_this()] {
        if (const std::shared_ptr<RetrieveStream> alive = weak.lock()) alive->CheckStall();
      });
      return;
    }
    cancelling_ = true;
    if (status_.ok()) status_ = DeadlineExceeded("the client has stopped reading");
  }
  context_->TryCancel();
  {
    absl::MutexLock lock(&mu_);
    cancelling_ = false;
  }
  Pump();
}

void RetrieveStream::OnDone() {
  if (deadline_timer_.has_value()) environment_.timers->Cancel(*deadline_timer_);
  const std::shared_ptr<RetrieveStream> self = std::move(self_);
  {
    const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return !cancelling_; };
    absl::MutexLock lock(&mu_, absl::Condition(&idle));
    done_ = true;
    if (stall_timer_.has_value()) environment_.timers->Cancel(*stall_timer_);
  }
  scope_.reset();
  absl::MutexLock lock(&mu_);
  ready_.clear();
}

}  // namespace kdn
