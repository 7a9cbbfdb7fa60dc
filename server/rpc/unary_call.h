#ifndef KDN_SERVER_RPC_UNARY_CALL_H_
#define KDN_SERVER_RPC_UNARY_CALL_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "kernels/base/status.h"
#include "server/rpc/call.h"

namespace kdn {

// A unary call whose work runs on the worker pool. Deletes itself when gRPC is done with it.
class UnaryCall : public grpc::ServerUnaryReactor {
 public:
  using Work = std::function<absl::Status(const Identity&)>;

  // Admits the call and runs `work` on a worker, unless the deadline has passed or the caller has gone by then. The
  // result is for gRPC to own.
  static grpc::ServerUnaryReactor* Start(const CallEnvironment& environment, grpc::CallbackServerContext* context,
                                         std::string_view method, CallKind kind, Work work) {
    auto* call = new UnaryCall(environment, method);
    absl::StatusOr<Identity> identity = Admit(environment, *context, kind);
    if (!identity.ok()) {
      call->Finish(call->scope_.End(identity.status()));
      return call;
    }
    const absl::Time deadline = DeadlineOf(environment, *context);
    const bool started =
        environment.pool->TryStart([call, context, deadline, identity = *std::move(identity), work = std::move(work)] {
          call->Finish(call->scope_.End(Run(*context, deadline, identity, work)));
        });
    if (!started) call->Finish(call->scope_.End(TooManyCalls()));
    return call;
  }

 private:
  UnaryCall(const CallEnvironment& environment, std::string_view method) : scope_(environment, method) {}

  static absl::Status Run(const grpc::CallbackServerContext& context, absl::Time deadline, const Identity& identity,
                          const Work& work) {
    if (context.IsCancelled()) return Cancelled("the caller has gone");
    if (absl::Now() > deadline) return DeadlineExceeded("the deadline passed while the call waited for a thread");
    return work(identity);
  }

  void OnDone() override { delete this; }

  CallScope scope_;
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_UNARY_CALL_H_
