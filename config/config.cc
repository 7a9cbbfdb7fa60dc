#include "config/config.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cassert>
#include <cstring>

#include "config/key_table.h"
#include "config/value.h"
#include "kernels/base/status.h"

namespace kdn::config {

bool IsLoopback(const HostPort& address) {
  if (!address.unix_path.empty() || address.host == "localhost") return true;
  in_addr v4;
  if (inet_pton(AF_INET, address.host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6;
  if (inet_pton(AF_INET6, address.host.c_str(), &v6) != 1) return false;
  if (IN6_IS_ADDR_V4MAPPED(&v6)) return v6.s6_addr[12] == 127;
  return IN6_IS_ADDR_LOOPBACK(&v6);
}

std::string ToString(const HostPort& address) {
  if (!address.enabled()) return "";
  if (!address.unix_path.empty()) return StrCat(kUnixPrefix, address.unix_path);
  if (address.host.find(':') != std::string::npos) return StrCat("[", address.host, "]:", address.port);
  return StrCat(address.host, ":", address.port);
}

std::string ToString(const Origin& origin) {
  switch (origin.kind) {
    case Origin::Kind::kDefault:
      return "default";
    case Origin::Kind::kFile:
      return origin.detail;
    case Origin::Kind::kEnvironment:
      return StrCat("env ", origin.detail);
    case Origin::Kind::kFlag:
      return StrCat("flag ", origin.detail);
  }
  return "unknown";
}

Config::Config() {
  for (const KeySpec& spec : KeyTable()) {
    [[maybe_unused]] const absl::Status status = SetValue(spec, spec.default_text, *this);
    assert(status.ok());
  }
}

Origin Config::OriginOf(std::string_view key) const {
  const auto found = origins.find(key);
  return found == origins.end() ? Origin{} : found->second;
}

}  // namespace kdn::config
