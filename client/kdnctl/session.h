#ifndef KDN_CLIENT_KDNCTL_SESSION_H_
#define KDN_CLIENT_KDNCTL_SESSION_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/kdn/client.h"
#include "client/kdnctl/exit_code.h"
#include "client/kdnctl/report.h"

namespace kdn::ctl {

// Flags that every command takes.
struct GlobalOptions {
  std::string endpoint = std::string(kDefaultEndpoint);
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  std::string tls_server_name;
  bool tls = false;
  std::string token_file;
  int64_t timeout_ms = 5000;
  OutputFormat output = OutputFormat::kTable;
  bool quiet = false;
};

// One run of kdnctl: connects when a command first needs the server, prints reports on stdout and everything else on
// stderr. Not thread-safe.
class Session {
 public:
  explicit Session(const GlobalOptions& options) : options_(options) {}

  const GlobalOptions& options() const { return options_; }

  // The client, opened at the first call.
  absl::StatusOr<Client*> client();

  // Prints the report in the format asked for; returns `code`.
  ExitCode Print(const Report& report, ExitCode code = kDone) const;
  // Prints "kdnctl: WHAT: message" on stderr; returns the exit code of the status.
  static ExitCode Fail(std::string_view what, const absl::Status& status);
  // A remark on stderr, unless --quiet.
  void Note(std::string_view text) const;

  // The digest named by `key`: 64 hexadecimal digits, or at least kMinKeyDigits that only one stored chunk starts with.
  absl::StatusOr<Digest> ResolveChunk(const std::string& key);
  // The model named by `name`: a fingerprint (or the start of one), a display name, or "" when only one is registered.
  absl::StatusOr<ModelSummary> ResolveModel(const std::string& name);
  // A handle for calls about the model of that fingerprint.
  absl::StatusOr<ModelHandle> OpenModel(const Fingerprint& fingerprint);

 private:
  GlobalOptions options_;
  std::unique_ptr<Client> client_;
};

inline constexpr size_t kMinKeyDigits = 6;

// The whole file, at most `max_bytes` of it ("-" = standard input). NotFound, InvalidArgument (too large) name it.
absl::StatusOr<std::string> ReadInput(const std::string& path, size_t max_bytes);

}  // namespace kdn::ctl

#endif  // KDN_CLIENT_KDNCTL_SESSION_H_
