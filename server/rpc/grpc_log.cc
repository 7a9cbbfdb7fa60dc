#include "server/rpc/grpc_log.h"

#include <grpc/support/log.h>

#include <string_view>

#include "kernels/base/log.h"

namespace kdn {
namespace {

// Most of gRPC's errors are what some client did: failed handshakes, broken connections.
void Write(gpr_log_func_args* args) {
  const LogLevel level = args->severity == GPR_LOG_SEVERITY_ERROR ? LogLevel::kWarn : LogLevel::kDebug;
  const std::string_view file = args->file;
  Log(level, "grpc",
      {{"message", std::string_view(args->message)},
       {"file", file.substr(file.rfind('/') + 1)},
       {"line", static_cast<int64_t>(args->line)}});
}

}  // namespace

void RouteGrpcLog() { gpr_set_log_function(&Write); }

}  // namespace kdn
