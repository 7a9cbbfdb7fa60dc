#include "server/rpc/object_streams.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kernels/base/status.h"
#include "server/rpc/convert.h"
#include "server/rpc/frames.h"

namespace kdn {
namespace {

constexpr absl::Duration kMemoryPatience = absl::Seconds(2);

absl::Status GivenUp() {
  return DeadlineExceeded("the deadline passed, or the client stopped in the middle of an object");
}

absl::Status NoRoom(const CallEnvironment& environment, uint64_t bytes) {
  return ResourceExhausted("no room for an object of ", bytes, " bytes within ", environment.budget->limit_bytes(),
                           " that all calls may hold (memory.inflight)");
}

}  // namespace

StreamWatch::StreamWatch(const CallEnvironment& environment, grpc::CallbackServerContext* context)
    : environment_(environment), context_(context), deadline_(DeadlineOf(environment, *context)) {}

void StreamWatch::Start() { Check(); }

void StreamWatch::AwaitClient() {
  absl::MutexLock lock(&mu_);
  awaiting_since_ = absl::Now();
}

void StreamWatch::ClientActed() {
  absl::MutexLock lock(&mu_);
  awaiting_since_ = absl::InfiniteFuture();
}

void StreamWatch::Check() {
  {
    absl::MutexLock lock(&mu_);
    if (done_) return;
    const absl::Duration timeout = environment_.limits.stall_timeout;
    const absl::Time now = absl::Now();
    const absl::Time end = std::min(deadline_, awaiting_since_ + timeout);
    if (end > now) {
      const absl::Time look = std::min(end, now + timeout);
      timer_ = environment_.timers->Schedule(look, [weak = weak_from_this()] {
        if (const std::shared_ptr<StreamWatch> alive = weak.lock()) alive->Check();
      });
      return;
    }
    gave_up_ = true;
    cancelling_ = true;
  }
  context_->TryCancel();
  absl::MutexLock lock(&mu_);
  cancelling_ = false;
}

void StreamWatch::Done() {
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return !cancelling_; };
  absl::MutexLock lock(&mu_, absl::Condition(&idle));
  done_ = true;
  if (timer_.has_value()) environment_.timers->Cancel(*timer_);
}

bool StreamWatch::gave_up() const {
  absl::MutexLock lock(&mu_);
  return gave_up_;
}

grpc::ServerReadReactor<v1::PutObjectFrame>* PutObjectStream::Start(const CallEnvironment& environment,
                                                                    grpc::CallbackServerContext* context,
                                                                    v1::PutObjectResponse* response) {
  auto* stream = new PutObjectStream(environment, context, response);
  absl::StatusOr<Identity> identity = Admit(environment, *context, CallKind::kKdn);
  if (!identity.ok() || environment.pool->queued() >= WorkerPool::kMaxQueuedCalls) {
    stream->End(identity.ok() ? TooManyCalls() : identity.status());
    return stream;
  }
  stream->caller_ = std::move(identity->caller);
  stream->watch_->Start();
  stream->ReadNext();
  return stream;
}

PutObjectStream::PutObjectStream(const CallEnvironment& environment, grpc::CallbackServerContext* context,
                                 v1::PutObjectResponse* response)
    : environment_(environment),
      context_(context),
      response_(response),
      scope_(environment, "PutObject"),
      watch_(std::make_shared<StreamWatch>(environment, context)) {}

void PutObjectStream::ReadNext() {
  watch_->AwaitClient();
  StartRead(&frame_);
}

void PutObjectStream::OnReadDone(bool ok) {
  watch_->ClientActed();
  if (ok) {
    const absl::Status taken = Take();
    if (!taken.ok()) return End(taken);
    return ReadNext();
  }
  if (watch_->gave_up()) return End(GivenUp());
  if (context_->IsCancelled()) return End(Cancelled("the caller has gone"));
  if (!begun_ || received_bytes_ < object_bytes_) {
    return End(InvalidArgument("object stream: ended after ", received_bytes_, " of ", object_bytes_, " bytes"));
  }
  environment_.pool->Continue([this] { Store(); });
}

absl::Status PutObjectStream::Begin(const v1::PutObjectBegin& begin) {
  KDN_ASSIGN_OR_RETURN(request_.fingerprint, ReadDigest("fingerprint", begin.fingerprint()));
  KDN_ASSIGN_OR_RETURN(request_.digest, ReadDigest("digest", begin.digest()));
  if (begin.display_name().size() > kMaxDisplayNameBytes) {
    return InvalidArgument("display_name has ", begin.display_name().size(), " bytes, at most ", kMaxDisplayNameBytes);
  }
  object_bytes_ = begin.object_bytes();
  if (object_bytes_ > kMaxCalibrationBytes) {
    return ResourceExhausted("object of ", object_bytes_, " bytes, at most ", kMaxCalibrationBytes);
  }
  if (object_bytes_ < kMinCalibrationBytes) {
    return InvalidArgument("object of ", object_bytes_, " bytes, at least ", kMinCalibrationBytes);
  }
  request_.display_name = begin.display_name();
  request_.activation = begin.activate() ? ObjectActivation::kActivate : ObjectActivation::kLeave;
  reservation_ = environment_.budget->TryReserve(object_bytes_);
  if (!reservation_.has_value()) return NoRoom(environment_, object_bytes_);
  buffer_ = std::make_shared<AlignedBuffer>(object_bytes_);
  if (buffer_->size() == 0) return ResourceExhausted("no memory for an object of ", object_bytes_, " bytes");
  return absl::OkStatus();
}

absl::Status PutObjectStream::Take() {
  if (frame_.has_begin() == begun_) {
    return InvalidArgument("object stream: ", begun_ ? "a second begin" : "no begin in the first frame");
  }
  if (!begun_) KDN_RETURN_IF_ERROR(Begin(frame_.begin()));
  begun_ = true;
  const std::string& data = frame_.data();
  if (data.empty()) return InvalidArgument("object stream: a frame without data at ", received_bytes_);
  if (data.size() > environment_.limits.max_frame_bytes) {
    return InvalidArgument("object stream: frame of ", data.size(), " bytes of data, at most ",
                           environment_.limits.max_frame_bytes);
  }
  if (data.size() > object_bytes_ - received_bytes_) {
    return InvalidArgument("object stream: ", data.size(), " bytes of data at ", received_bytes_, " of ",
                           object_bytes_);
  }
  std::copy(data.begin(), data.end(), buffer_->data() + received_bytes_);
  received_bytes_ += data.size();
  return absl::OkStatus();
}

void PutObjectStream::Store() {
  const ByteSpan bytes(buffer_->data(), object_bytes_);
  const absl::StatusOr<PutObjectResult> result =
      environment_.store->PutObject(caller_, request_, SharedBytes(std::move(buffer_), bytes));
  if (result.ok()) {
    WriteObjectInfo(result->object, *response_->mutable_object());
    response_->set_created(result->created);
  }
  End(result.status());
}

void PutObjectStream::End(const absl::Status& status) { Finish(scope_.End(status)); }

void PutObjectStream::OnDone() {
  watch_->Done();
  delete this;
}

grpc::ServerWriteReactor<v1::GetObjectFrame>* GetObjectStream::Start(const CallEnvironment& environment,
                                                                     grpc::CallbackServerContext* context,
                                                                     const v1::GetObjectRequest* request) {
  auto* stream = new GetObjectStream(environment, context);
  absl::StatusOr<Identity> identity = Admit(environment, *context, CallKind::kKdn);
  if (!identity.ok()) {
    stream->End(identity.status());
    return stream;
  }
  stream->caller_ = std::move(identity->caller);
  stream->watch_->Start();
  // The call does not end before this, nor does its request.
  const bool started = environment.pool->TryStart([stream, request] {
    const absl::Status parsed = stream->ParseRequest(*request);
    if (!parsed.ok()) return stream->End(parsed);
    stream->AwaitMemory();
  });
  if (!started) stream->End(TooManyCalls());
  return stream;
}

GetObjectStream::GetObjectStream(const CallEnvironment& environment, grpc::CallbackServerContext* context)
    : environment_(environment),
      context_(context),
      scope_(environment, "GetObject"),
      watch_(std::make_shared<StreamWatch>(environment, context)) {}

absl::Status GetObjectStream::ParseRequest(const v1::GetObjectRequest& request) {
  if (!request.fingerprint().empty()) {
    KDN_ASSIGN_OR_RETURN(fingerprint_, ReadDigest("fingerprint", request.fingerprint()));
  }
  KDN_ASSIGN_OR_RETURN(digest_, ReadDigest("digest", request.digest()));
  return absl::OkStatus();
}

void GetObjectStream::AwaitMemory() {
  // The size is not known before; a budget below the largest object still lets one pass.
  const uint64_t bytes = std::min(kMaxCalibrationBytes, environment_.budget->limit_bytes());
  const absl::Time now = absl::Now();
  // Not longer: the caller may be in the middle of a Retrieve that holds the very memory, and others wait behind.
  const absl::Time until = std::min(now + kMemoryPatience, now + (DeadlineOf(environment_, *context_) - now) / 2);
  environment_.budget->Reserve(bytes, until, [this, bytes](std::optional<MemoryBudget::Reservation> reservation) {
    environment_.pool->Continue([this, bytes, reservation = std::move(reservation)]() mutable {
      reservation_ = std::move(reservation);
      const absl::Status fetched = reservation_.has_value() ? Fetch() : NoRoom(environment_, bytes);
      if (!fetched.ok()) return End(fetched);
      WriteNext();
    });
  });
}

absl::Status GetObjectStream::Fetch() {
  if (context_->IsCancelled()) return Cancelled("the caller has gone");
  KDN_ASSIGN_OR_RETURN(object_, environment_.store->GetObject(caller_, fingerprint_, digest_));
  reservation_->Resize(object_.bytes.size());
  WriteObjectInfo(object_.object, *frame_.mutable_object());
  return absl::OkStatus();
}

void GetObjectStream::WriteNext() {
  const uint64_t limit = std::min(environment_.limits.max_frame_bytes, kMaxSentFrameBytes);
  const ByteSpan rest = object_.bytes.span().subspan(sent_bytes_);
  const ByteSpan data = rest.first(std::min<uint64_t>(limit, rest.size()));
  frame_.set_data(data.data(), data.size());
  sent_bytes_ += data.size();
  watch_->AwaitClient();
  StartWrite(&frame_);
}

void GetObjectStream::OnWriteDone(bool ok) {
  watch_->ClientActed();
  if (!ok) return End(watch_->gave_up() ? GivenUp() : Cancelled("the caller has gone"));
  frame_.Clear();
  if (sent_bytes_ == object_.bytes.size()) return End(absl::OkStatus());
  WriteNext();
}

void GetObjectStream::End(const absl::Status& status) { Finish(scope_.End(status)); }

void GetObjectStream::OnDone() {
  watch_->Done();
  delete this;
}

}  // namespace kdn
