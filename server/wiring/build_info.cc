#include "server/wiring/build_info.h"

#include <google/protobuf/stubs/common.h>
#include <grpcpp/grpcpp.h>
#include <kdn_build_version.h>

#include "kernels/base/status.h"

namespace kdn {
namespace {

std::string Compiler() {
#if defined(__clang__)
  return StrCat("clang ", __clang_major__, ".", __clang_minor__, ".", __clang_patchlevel__);
#else
  return StrCat("gcc ", __GNUC__, ".", __GNUC_MINOR__, ".", __GNUC_PATCHLEVEL__);
#endif
}

}  // namespace

BuildInfo ThisBuild() {
  BuildInfo info;
  info.version = kBuildVersion;
  info.commit = kBuildCommit;
  info.compiler = Compiler();
  info.build =
      StrCat(info.compiler, ", ", kBuildType, ", gRPC ", grpc::Version(), ", protobuf ",
             google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION), ", RocksDB ", kRocksDbVersion);
  return info;
}

std::string VersionText() {
  const BuildInfo info = ThisBuild();
  return StrCat("kdnd ", info.version, " (", info.commit, ")\n", info.build);
}

}  // namespace kdn
