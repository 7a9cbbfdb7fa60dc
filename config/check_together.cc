#include <cassert>

#include "config/key_table.h"
#include "config/load.h"
#include "config/value.h"
#include "kernels/base/status.h"

namespace kdn::config {
namespace {

// Collects what contradicts what: each problem names the keys with their values and where those came from.
class Checker {
 public:
  Checker(const Config& config, Problems& problems) : config_(config), problems_(problems) {}

  void CheckListeners() {
    if (!IsLoopback(config_.server.listen) && config_.auth.mode == AuthMode::kNone) {
      Refuse(StrCat(Given("server.listen"), " is reachable from other machines, but ", Given("auth.mode"),
                    ": set auth.mode to token or mtls, or server.listen to a loopback address such as 127.0.0.1:9460"));
    }
    if (!IsLoopback(config_.server.listen) && config_.auth.mode == AuthMode::kToken &&
        config_.tls.mode == TlsMode::kOff) {
      Refuse(StrCat(Given("auth.mode"), " would send tokens in plain text to ", Given("server.listen"), ", because ",
                    Given("tls.mode"), ": set tls.mode to tls or mtls"));
    }
    const HostPort& metrics = config_.metrics.listen;
    if (!metrics.enabled()) return;
    if (!IsLoopback(metrics) && !config_.metrics.allow_remote) {
      Refuse(StrCat(Given("metrics.listen"), " is reachable from other machines, without authentication, but ",
                    Given("metrics.allow_remote"), ": set metrics.allow_remote to true, or metrics.listen to ",
                    "a loopback address such as 127.0.0.1:9461"));
    }
    if (metrics.port != 0 && metrics == config_.server.listen) {
      Refuse(StrCat(Given("metrics.listen"), " and ", Given("server.listen"), " are the same address"));
    }
  }

  void CheckTls() {
    const Config::Tls& tls = config_.tls;
    if (tls.mode == TlsMode::kOff) {
      Unused("tls.cert", tls.cert, "tls.mode", "tls or mtls");
      Unused("tls.key", tls.key, "tls.mode", "tls or mtls");
    } else {
      Needed("tls.cert", tls.cert, "tls.mode");
      Needed("tls.key", tls.key, "tls.mode");
    }
    if (tls.mode == TlsMode::kMutual) {
      Needed("tls.client_ca", tls.client_ca, "tls.mode");
    } else {
      Unused("tls.client_ca", tls.client_ca, "tls.mode", "mtls");
    }
  }

  void CheckAuth() {
    const Config::Auth& auth = config_.auth;
    if (auth.mode == AuthMode::kMutualTls && config_.tls.mode != TlsMode::kMutual) {
      Refuse(
          StrCat(Given("auth.mode"), " needs client certificates, but ", Given("tls.mode"), ": set tls.mode to mtls"));
    }
    if (auth.mode == AuthMode::kToken) {
      Needed("auth.tokens_file", auth.tokens_file, "auth.mode");
    } else {
      Unused("auth.tokens_file", auth.tokens_file, "auth.mode", "token");
    }
  }

  void CheckSizes() {
    const Config::Storage& storage = config_.storage;
    if (storage.low_watermark >= storage.high_watermark) {
      Refuse(StrCat(Given("storage.low_watermark"), " must be below ", Given("storage.high_watermark")));
    }
    // One segment is being written while another is reclaimed.
    if (storage.values == ValuesKind::kSegments && storage.capacity_bytes != 0 &&
        storage.capacity_bytes < 2 * storage.segment_bytes) {
      Refuse(StrCat(Given("storage.capacity"), " is less than two segments of ", Given("storage.segment_bytes")));
    }
    if (config_.memory.per_call_bytes > config_.memory.inflight_bytes) {
      Refuse(StrCat(Given("memory.per_call"), " must not exceed ", Given("memory.inflight")));
    }
  }

 private:
  // 'tls.mode "off" (default)'
  std::string Given(std::string_view name) const {
    const KeySpec* spec = FindKey(name);
    assert(spec != nullptr);
    return StrCat(name, " ", Quoted(ValueText(*spec, config_)), " (", ToString(config_.OriginOf(name)), ")");
  }

  void Refuse(std::string_view what) { problems_.Add("", what); }

  void Needed(std::string_view name, const std::string& value, std::string_view because) {
    if (value.empty()) Refuse(StrCat(Given(because), " needs ", name, ": set it to the path of the file"));
  }

  // A file that was named but would not be used: whoever named it believes in protection that is not there.
  void Unused(std::string_view name, const std::string& value, std::string_view because, std::string_view needed) {
    if (value.empty()) return;
    Refuse(StrCat(Given(name), " has no effect with ", Given(because), ": set ", because, " to ", needed,
                  ", or remove ", name));
  }

  const Config& config_;
  Problems& problems_;
};

}  // namespace

void CheckTogether(const Config& config, Problems& problems) {
  Checker checker(config, problems);
  checker.CheckListeners();
  checker.CheckTls();
  checker.CheckAuth();
  checker.CheckSizes();
}

}  // namespace kdn::config
