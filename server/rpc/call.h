#ifndef KDN_SERVER_RPC_CALL_H_
#define KDN_SERVER_RPC_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <atomic>
#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/rpc/authenticator.h"
#include "server/rpc/environment.h"

namespace kdn {

enum class CallKind { kKdn, kAdmin };

// One call from its arrival to its end, as it is counted.
class CallScope {
 public:
  // `method` is a name that lives for ever.
  CallScope(const CallEnvironment& environment, std::string_view method);
  ~CallScope();
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

  // Notes how the call ends, and passes it on to gRPC.
  grpc::Status End(const absl::Status& status);

 private:
  const CallEnvironment& environment_;
  const std::string_view method_;
  const int64_t started_nanos_;
  std::atomic<int> code_;
};

// Who calls, if the daemon takes calls of this kind now: Unavailable while it drains (but for kAdmin) or stops; else
// errors of Authenticator.
absl::StatusOr<Identity> Admit(const CallEnvironment& environment, const grpc::CallbackServerContext& context,
                               CallKind kind);

// When the call must be over: the client's deadline, else the configured one from now on.
absl::Time DeadlineOf(const CallEnvironment& environment, const grpc::CallbackServerContext& context);
bool HasDeadline(const grpc::CallbackServerContext& context);

// The status of a call that finds WorkerPool::kMaxQueuedCalls before it.
absl::Status TooManyCalls();

}  // namespace kdn

#endif  // KDN_SERVER_RPC_CALL_H_
