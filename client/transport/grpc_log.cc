#include "client/transport/grpc_log.h"

#include <grpc/support/log.h>

#include <cstdio>
#include <string_view>

namespace kdn {
namespace {

void Write(gpr_log_func_args* args) {
  const std::string_view path = args->file;
  if (path.ends_with("/ssl_transport_security.cc") || path.ends_with("/ssl_utils.cc")) return;
  std::fprintf(stderr, "gRPC %s %s:%d] %s\n", gpr_log_severity_string(args->severity),
               path.substr(path.rfind('/') + 1).data(), args->line, args->message);
}

}  // namespace

void QuietenHandshakes() { gpr_set_log_function(&Write); }

}  // namespace kdn
