#ifndef KDN_SERVER_RPC_AUTHENTICATOR_H_
#define KDN_SERVER_RPC_AUTHENTICATOR_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "kernels/base/sha256.h"
#include "server/core/chunk_store.h"

namespace kdn {

inline constexpr size_t kMaxTokensFileBytes = size_t{1} << 20;
inline constexpr size_t kMaxTokens = 10000;
inline constexpr size_t kMaxTokenBytes = 4096;
inline constexpr size_t kMaxTenantBytes = 63;

// One line of a tokens file.
struct TokenEntry {
  std::string tenant;
  Digest token_sha256;
  bool operator_rights = false;
};

// Parses a tokens file: a line a token, "TENANT SHA256HEX [operator]", blank lines and lines that begin with # ignored.
// InvalidArgument names the line; what stands there is never repeated, as it may be a token by mistake.
absl::StatusOr<std::vector<TokenEntry>> ParseTokens(std::string_view text);

// Whether `name` may be a tenant: 1 to 63 of a-z A-Z 0-9 . _ -, the first a letter or digit.
bool IsTenantName(std::string_view name);

// What a transport knows of a caller.
struct Credentials {
  std::optional<std::string_view> authorization;    // the metadata of that name
  std::vector<std::string_view> certificate_names;  // common names of a verified client certificate
};

// A caller with its rights. Operators may change what concerns every tenant: drain, flush, compact, read the
// configuration.
struct Identity {
  Caller caller;
  bool is_operator = false;
};

// Decides who calls. Thread-safe.
class Authenticator {
 public:
  enum class Mode { kNone, kToken, kCertificate };
  struct Options {
    Mode mode = Mode::kNone;
    std::string tokens_file;  // kToken
    std::string default_tenant = "default";
  };

  // Reads the tokens file. Its errors, or those of ParseTokens, are the result.
  static absl::StatusOr<std::unique_ptr<Authenticator>> Make(const Options& options);

  // kNone: the default tenant, an operator. kToken: the token's tenant. kCertificate: the certificate's common name;
  // the default tenant is the operators'. Unauthenticated when there is no, or no valid, proof; PermissionDenied when
  // the common name cannot be a tenant.
  absl::StatusOr<Identity> Authenticate(const Credentials& credentials) const;

  // Reads the tokens file again; on an error the tokens stay as they are.
  absl::Status Reload();
  // Tokens read last.
  size_t num_tokens() const;

 private:
  explicit Authenticator(const Options& options) : options_(options) {}
  absl::StatusOr<Identity> FromToken(std::string_view authorization) const;

  const Options options_;
  mutable absl::Mutex mu_;
  std::shared_ptr<const std::vector<TokenEntry>> tokens_ ABSL_GUARDED_BY(mu_);  // with checks in progress
};

}  // namespace kdn

#endif  // KDN_SERVER_RPC_AUTHENTICATOR_H_
