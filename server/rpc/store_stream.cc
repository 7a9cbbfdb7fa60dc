#include "server/rpc/store_stream.h"

#include <algorithm>
#include <cctype>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "kernels/base/status.h"
#include "server/rpc/status_map.h"

namespace kdn {
namespace {

UploadLimits LimitsOf(const CallLimits& limits) {
  return {limits.max_frame_bytes, limits.max_container_bytes, limits.max_chunks_per_call};
}

std::string LowerCodeName(const absl::Status& status) {
  std::string name(CodeName(static_cast<int>(status.code())));
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

v1::StoreOutcome ToProto(StoreOutcome outcome) {
  switch (outcome) {
    case StoreOutcome::kStored:
      return v1::STORED;
    case StoreOutcome::kDeduplicated:
      return v1::DEDUPLICATED;
    case StoreOutcome::kKeptExisting:
      return v1::KEPT_EXISTING;
  }
  return v1::STORE_OUTCOME_UNSPECIFIED;
}

}  // namespace

grpc::ServerReadReactor<grpc::ByteBuffer>* StoreStream::Start(const CallEnvironment& environment,
                                                              grpc::CallbackServerContext* context,
                                                              grpc::ByteBuffer* response) {
  std::shared_ptr<StoreStream> stream(new StoreStream(environment, context, response));
  stream->self_ = stream;
  absl::StatusOr<Identity> identity = Admit(environment, *context, CallKind::kKdn);
  if (!identity.ok()) {
    stream->EndReading(identity.status());
    return stream.get();
  }
  if (environment.pool->queued() >= WorkerPool::kMaxQueuedCalls) {
    stream->EndReading(TooManyCalls());
    return stream.get();
  }
  stream->caller_ = std::move(identity->caller);
  if (!HasDeadline(*context)) {
    const std::weak_ptr<StoreStream> weak = stream;
    stream->deadline_timer_ = environment.timers->Schedule(stream->deadline_, [weak] {
      if (const std::shared_ptr<StoreStream> alive = weak.lock()) alive->OnLate();
    });
  }
  stream->CheckStall();
  stream->StartRead(&stream->buffer_);
  return stream.get();
}

StoreStream::StoreStream(const CallEnvironment& environment, grpc::CallbackServerContext* context,
                         grpc::ByteBuffer* response)
    : environment_(environment),
      context_(context),
      response_(response),
      deadline_(DeadlineOf(environment, *context)),
      upload_(LimitsOf(environment.limits), environment.containers) {
  scope_.emplace(environment, "Store");
}

void StoreStream::OnReadDone(bool ok) {
  {
    absl::MutexLock lock(&mu_);
    reading_since_ = absl::InfiniteFuture();
  }
  if (ok) return HandleFrame();
  // Either the client has sent everything, or the call is broken: then nobody gets the status.
  if (upload_.in_chunk()) {
    return EndReading(InvalidArgument("store stream: ended in the middle of ", upload_.Position()));
  }
  EndReading(absl::OkStatus());
}

void StoreStream::HandleFrame() {
  if (!pieces_.Read(buffer_)) return EndReading(InvalidArgument("store stream: a message that cannot be read"));
  absl::Status status = ParseStoreFrame(pieces_.spans(), frame_);
  if (status.ok()) status = upload_.Begin(frame_);
  if (!status.ok()) return EndReading(std::move(status));
  AdmitChunk();
}

void StoreStream::AdmitChunk() {
  if (!upload_.NeedsMemory()) return TakeFrame();
  const uint64_t bytes = upload_.container_bytes();
  const uint64_t limit = environment_.limits.per_call_bytes;
  if (bytes > limit) {
    upload_.Reject(ResourceExhausted("container of ", bytes, " bytes, more than the ", limit,
                                     " that one call may hold (memory.per_call)"));
    return TakeFrame();
  }
  {
    absl::MutexLock lock(&mu_);
    if (committing_ && committing_bytes_ > limit - bytes) {
      wait_ = Wait::kCommitBeforeMemory;
      return;
    }
  }
  ReserveMemory();
}

void StoreStream::ReserveMemory() {
  const uint64_t bytes = upload_.container_bytes();
  if (auto reservation = environment_.budget->TryReserve(bytes); reservation.has_value()) {
    return HaveMemory(std::move(reservation));
  }
  const absl::Time now = absl::Now();
  const uint64_t id = environment_.budget->Reserve(
      bytes, now + (deadline_ - now) / 2,
      [self = shared_from_this()](std::optional<MemoryBudget::Reservation> reservation) {
        self->environment_.pool->Continue(
            [self, reservation = std::move(reservation)]() mutable { self->HaveMemory(std::move(reservation)); });
      });
  bool cancelled = false;
  {
    absl::MutexLock lock(&mu_);
    wait_id_ = id;
    cancelled = cancelled_;
  }
  if (cancelled) environment_.budget->CancelWait(id);
}

void StoreStream::HaveMemory(std::optional<MemoryBudget::Reservation> reservation) {
  reservation_ = std::move(reservation);
  if (reservation_.has_value()) {
    upload_.Allocate();
  } else {
    upload_.Reject(ResourceExhausted("no room for ", upload_.container_bytes(), " bytes within ",
                                     environment_.budget->limit_bytes(),
                                     " that all calls may hold (memory.inflight) in half the time to the deadline"));
  }
  TakeFrame();
}

void StoreStream::TakeFrame() {
  upload_.Take(frame_);
  frame_.data.clear();
  pieces_.Clear();
  buffer_.Clear();
  if (!upload_.ChunkEnded()) return ReadOn();
  Commit commit{upload_.TakeChunk(), 0, std::exchange(reservation_, std::nullopt)};
  {
    absl::MutexLock lock(&mu_);
    commit.index = static_cast<uint32_t>(results_.results_size());
    results_.add_results();
    if (committing_) {
      next_commit_ = std::move(commit);
      wait_ = Wait::kCommitBeforeCommit;
      return;
    }
    committing_ = true;
    committing_bytes_ = commit.chunk.container.size();
  }
  StartCommit(std::move(commit));
  ReadOn();
}

// The call does not end before EndReading, so there is something to read from; once it is cancelled the read fails.
void StoreStream::ReadOn() {
  if (upload_.in_chunk()) {
    absl::MutexLock lock(&mu_);
    reading_since_ = absl::Now();
  }
  StartRead(&buffer_);
}

void StoreStream::EndReading(absl::Status status) {
  {
    absl::MutexLock lock(&mu_);
    reading_ended_ = true;
    if (late_) {
      status = DeadlineExceeded("the server's default deadline passed, or the client stopped in the middle of a chunk");
    } else if (context_->IsCancelled()) {
      status = Cancelled("the caller has gone");
    }
    if (status_.ok()) status_ = std::move(status);
  }
  FinishIfOver();
}

void StoreStream::StartCommit(Commit commit) {
  environment_.pool->Continue(
      [self = shared_from_this(), commit = std::move(commit)]() mutable { self->RunCommit(std::move(commit)); });
}

void StoreStream::RunCommit(Commit commit) {
  const absl::StatusOr<StoreOutcome> outcome = Store(commit.chunk);
  commit.reservation.reset();
  v1::StoreResult result = ResultOf(commit.chunk, outcome);
  std::optional<Commit> next;
  Wait wait = Wait::kNone;
  {
    absl::MutexLock lock(&mu_);
    result_text_bytes_ += result.message().size();
    if (result_text_bytes_ > kMaxResultTextBytes) result.clear_message();
    *results_.mutable_results(static_cast<int>(commit.index)) = std::move(result);
    wait = std::exchange(wait_, Wait::kNone);
    next = std::exchange(next_commit_, std::nullopt);
    committing_ = next.has_value();
    committing_bytes_ = committing_ ? next->chunk.container.size() : 0;
  }
  if (next.has_value()) StartCommit(*std::move(next));
  if (wait == Wait::kCommitBeforeMemory) return ReserveMemory();
  if (wait == Wait::kCommitBeforeCommit) return ReadOn();
  FinishIfOver();
}

absl::StatusOr<StoreOutcome> StoreStream::Store(UploadedChunk& chunk) {
  if (chunk.status.ok()) return environment_.store->Store(caller_, chunk.request, std::move(chunk.container));
  environment_.metrics->OnStoreRejected(LowerCodeName(chunk.status));
  return chunk.status;
}

v1::StoreResult StoreStream::ResultOf(const UploadedChunk& chunk, const absl::StatusOr<StoreOutcome>& outcome) {
  v1::StoreResult result;
  result.set_chunk_digest(chunk.sent_digest);
  if (outcome.ok()) {
    result.set_outcome(ToProto(*outcome));
    if (*outcome == StoreOutcome::kStored) result.set_stored_bytes(chunk.container_bytes);
    return result;
  }
  result.set_outcome(v1::REJECTED);
  result.set_code(static_cast<uint32_t>(outcome.status().code()));
  result.set_message(std::string(FromAbsl(outcome.status().message()).substr(0, kMaxResultMessageBytes)));
  return result;
}

void StoreStream::FinishIfOver() {
  absl::Status status;
  {
    absl::MutexLock lock(&mu_);
    if (finished_ || ending_ || !reading_ended_ || (status_.ok() && committing_)) return;
    finished_ = true;
    status = status_;
    if (status.ok()) *response_ = SerializeMessage(results_);
  }
  Finish(scope_->End(status));
}

void StoreStream::OnCancel() {
  uint64_t wait_id = 0;
  {
    absl::MutexLock lock(&mu_);
    cancelled_ = true;
    wait_id = wait_id_;
  }
  if (wait_id != 0) environment_.budget->CancelWait(wait_id);
}

void StoreStream::OnLate() {
  {
    absl::MutexLock lock(&mu_);
    if (finished_) return;  // and with the call, perhaps, its context
    late_ = true;
    ending_ = true;
  }
  context_->TryCancel();  // ends a read that is pending
  {
    absl::MutexLock lock(&mu_);
    ending_ = false;
  }
  FinishIfOver();
}

void StoreStream::CheckStall() {
  {
    absl::MutexLock lock(&mu_);
    if (finished_) return;
    const absl::Duration timeout = environment_.limits.stall_timeout;
    const absl::Time now = absl::Now();
    if (reading_since_ + timeout > now) {
      stall_timer_ = environment_.timers->Schedule(std::min(reading_since_, now) + timeout, [weak = weak_from_this()] {
        if (const std::shared_ptr<StoreStream> alive = weak.lock()) alive->CheckStall();
      });
      return;
    }
  }
  OnLate();
}

void StoreStream::OnDone() {
  if (deadline_timer_.has_value()) environment_.timers->Cancel(*deadline_timer_);
  {
    absl::MutexLock lock(&mu_);
    if (stall_timer_.has_value()) environment_.timers->Cancel(*stall_timer_);
  }
  scope_.reset();
  const std::shared_ptr<StoreStream> self = std::move(self_);
}

}  // namespace kdn
