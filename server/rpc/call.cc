#include "server/rpc/call.h"

#include <chrono>

#include "absl/time/clock.h"
#include "kernels/base/status.h"
#include "server/rpc/status_map.h"

namespace kdn {
namespace {

std::string_view View(const grpc::string_ref& text) { return {text.data(), text.size()}; }

}  // namespace

CallScope::CallScope(const CallEnvironment& environment, std::string_view method)
    : environment_(environment),
      method_(method),
      started_nanos_(environment.clock->MonotonicNanos()),
      code_(static_cast<int>(absl::StatusCode::kCancelled)) {
  environment_.lifecycle->CallStarted();
  environment_.metrics->OnCallStarted();
}

CallScope::~CallScope() {
  const double seconds = static_cast<double>(environment_.clock->MonotonicNanos() - started_nanos_) * 1e-9;
  environment_.metrics->OnCallFinished(method_, CodeName(code_), seconds);
  environment_.lifecycle->CallEnded();
}

grpc::Status CallScope::End(const absl::Status& status) {
  code_ = static_cast<int>(status.code());
  return ToGrpcStatus(status);
}

absl::StatusOr<Identity> Admit(const CallEnvironment& environment, const grpc::CallbackServerContext& context,
                               CallKind kind) {
  Credentials credentials;
  const auto& metadata = context.client_metadata();
  const auto authorization = metadata.find("authorization");
  if (authorization != metadata.end()) credentials.authorization = View(authorization->second);
  const std::shared_ptr<const grpc::AuthContext> auth = context.auth_context();
  if (auth != nullptr && auth->IsPeerAuthenticated()) {
    for (const grpc::string_ref& name : auth->FindPropertyValues("x509_common_name")) {
      credentials.certificate_names.push_back(View(name));
    }
  }
  KDN_ASSIGN_OR_RETURN(Identity identity, environment.authenticator->Authenticate(credentials));
  const Lifecycle::State state = environment.lifecycle->state();
  if (state == Lifecycle::State::kStopping) return Unavailable("the server is stopping");
  if (state == Lifecycle::State::kDraining && kind != CallKind::kAdmin) {
    return Unavailable("the server is draining");
  }
  return identity;
}

bool HasDeadline(const grpc::CallbackServerContext& context) {
  return context.deadline() != std::chrono::system_clock::time_point::max();
}

absl::Time DeadlineOf(const CallEnvironment& environment, const grpc::CallbackServerContext& context) {
  if (HasDeadline(context)) return absl::FromChrono(context.deadline());
  return absl::Now() + environment.limits.default_deadline;
}

absl::Status TooManyCalls() {
  return ResourceExhausted("more than ", WorkerPool::kMaxQueuedCalls, " calls wait for a thread");
}

}  // namespace kdn
