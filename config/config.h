#ifndef KDN_CONFIG_CONFIG_H_
#define KDN_CONFIG_CONFIG_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "kernels/base/log.h"

namespace kdn::config {

// An address to listen on. `host` is an IPv4 or IPv6 literal (without brackets) or a name; port 0 asks the system for
// a free port. Where the key allows it: `unix_path` is that of a Unix socket instead, and neither means "do not
// listen".
struct HostPort {
  std::string host;
  uint16_t port = 0;
  std::string unix_path{};

  bool enabled() const { return !host.empty() || !unix_path.empty(); }
  bool operator==(const HostPort&) const = default;
};

// True for a Unix socket, 127.0.0.0/8, ::1, their IPv4-mapped form and the name "localhost". Any other name counts as
// reachable from outside, because what it resolves to is not known when the configuration is checked.
bool IsLoopback(const HostPort& address);

// "host:port", with brackets around an IPv6 literal, or "unix:/path"; "" for an address that is not enabled.
std::string ToString(const HostPort& address);

enum class TlsMode { kOff, kTls, kMutual };
enum class AuthMode { kNone, kToken, kMutualTls };
enum class ValuesKind { kSegments, kRocksDb };
enum class SyncMode { kAlways, kBatch, kNone };

// Where the value of a key came from.
struct Origin {
  enum class Kind { kDefault, kFile, kEnvironment, kFlag };
  Kind kind = Kind::kDefault;
  // "path:line" of the file, the name of the variable, or the flag as it was written. Empty for a default.
  std::string detail;

  bool operator==(const Origin&) const = default;
};

// "default", "/etc/kdn/kdnd.yaml:12", "env KDN_SERVER__LISTEN" or "flag --server.listen".
std::string ToString(const Origin& origin);

// The effective configuration of kdnd. Members are described, with type, default and bounds, by the rows of
// KeyTable(); member names repeat key names, with the unit where the type does not carry it. A plain value: copy
// freely, share read-only between threads.
struct Config {
  struct Server {
    HostPort listen;
    uint64_t max_frame_bytes;
    int64_t max_streams_per_connection;
    std::chrono::milliseconds keepalive;
    std::chrono::milliseconds idle_timeout;
    std::chrono::milliseconds drain_timeout;
    std::chrono::milliseconds default_deadline;
    int64_t threads;  // 0: one per core
    bool reflection;
    bool operator==(const Server&) const = default;
  };
  struct Admin {
    bool enabled;
    bool operator==(const Admin&) const = default;
  };
  struct Metrics {
    HostPort listen;
    bool allow_remote;
    bool operator==(const Metrics&) const = default;
  };
  struct Tls {
    TlsMode mode;
    std::string cert;
    std::string key;
    std::string client_ca;
    bool operator==(const Tls&) const = default;
  };
  struct Auth {
    AuthMode mode;
    std::string tokens_file;
    bool operator==(const Auth&) const = default;
  };
  struct Storage {
    std::string path;
    ValuesKind values;
    uint64_t capacity_bytes;  // 0: all of the disk except the reserve
    uint64_t reserve_bytes;
    double high_watermark;
    double low_watermark;
    SyncMode sync;
    std::chrono::milliseconds sync_interval;
    std::chrono::milliseconds ttl;  // 0: never
    uint64_t segment_bytes;
    bool verify_on_read;
    bool direct_io;
    bool operator==(const Storage&) const = default;
  };
  struct Memory {
    uint64_t ram_tier_bytes;  // 0: no RAM tier
    uint64_t block_cache_bytes;
    uint64_t inflight_bytes;
    uint64_t per_call_bytes;
    bool operator==(const Memory&) const = default;
  };
  struct Limits {
    uint64_t max_container_bytes;
    int64_t max_chunks_per_call;
    uint64_t max_spec_bytes;
    uint64_t max_text_bytes;
    bool operator==(const Limits&) const = default;
  };
  struct Tenants {
    std::string default_tenant;
    bool operator==(const Tenants&) const = default;
  };
  struct Log {
    LogLevel level;
    LogFormat format;
    bool operator==(const Log&) const = default;
  };

  // Every key at its default, as KeyTable() gives it.
  Config();

  // The origin of `key` ("section.key"); a default for a key that was not set or does not exist.
  Origin OriginOf(std::string_view key) const;

  Server server{};
  Admin admin{};
  Metrics metrics{};
  Tls tls{};
  Auth auth{};
  Storage storage{};
  Memory memory{};
  Limits limits{};
  Tenants tenants{};
  Log log{};
  // Origins of the keys that were set; a key that is absent has its default.
  std::map<std::string, Origin, std::less<>> origins;

  bool operator==(const Config&) const = default;
};

}  // namespace kdn::config

#endif  // KDN_CONFIG_CONFIG_H_
