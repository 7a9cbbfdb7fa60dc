#include "server/rpc/authenticator.h"

#include <algorithm>
#include <fstream>
#include <utility>

#include "kernels/base/status.h"

namespace kdn {
namespace {

constexpr std::string_view kBlanks = " \t\r";
constexpr std::string_view kBearer = "Bearer ";
constexpr std::string_view kOperatorWord = "operator";
constexpr size_t kMaxWordsPerLine = 3;

bool IsAlphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

// At most kMaxWordsPerLine + 1 words.
std::vector<std::string_view> Words(std::string_view line) {
  std::vector<std::string_view> words;
  while (words.size() <= kMaxWordsPerLine) {
    const size_t begin = line.find_first_not_of(kBlanks);
    if (begin == std::string_view::npos) break;
    line.remove_prefix(begin);
    const size_t end = std::min(line.find_first_of(kBlanks), line.size());
    words.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
  return words;
}

absl::StatusOr<TokenEntry> ParseLine(const std::vector<std::string_view>& words, size_t number) {
  if (words.size() < 2 || words.size() > kMaxWordsPerLine) {
    return InvalidArgument("line ", number, " is not: TENANT SHA256HEX [operator]");
  }
  if (!IsTenantName(words[0])) {
    return InvalidArgument("line ", number, ": the tenant is not 1 to ", kMaxTenantBytes, " of a-z A-Z 0-9 . _ -");
  }
  const std::optional<Digest> digest = Digest::FromHex(words[1]);
  if (!digest.has_value()) {
    return InvalidArgument("line ", number, ": the second word is not the SHA-256 of a token in 64 hexadecimal digits");
  }
  if (words.size() == kMaxWordsPerLine && words[2] != kOperatorWord) {
    return InvalidArgument("line ", number, ": the third word can only be ", kOperatorWord);
  }
  return TokenEntry{std::string(words[0]), *digest, words.size() == kMaxWordsPerLine};
}

absl::StatusOr<std::vector<TokenEntry>> ReadTokens(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return NotFound("auth.tokens_file ", path, " cannot be opened");
  std::string text(kMaxTokensFileBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) return Unavailable("auth.tokens_file ", path, " cannot be read");
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMaxTokensFileBytes) {
    return InvalidArgument("auth.tokens_file ", path, " has more than ", kMaxTokensFileBytes, " bytes");
  }
  absl::StatusOr<std::vector<TokenEntry>> tokens = ParseTokens(text);
  if (!tokens.ok()) return Annotate(tokens.status(), StrCat("auth.tokens_file ", path));
  return tokens;
}

}  // namespace

bool IsTenantName(std::string_view name) {
  if (name.empty() || name.size() > kMaxTenantBytes || !IsAlphanumeric(name[0])) return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return IsAlphanumeric(c) || c == '.' || c == '_' || c == '-'; });
}

absl::StatusOr<std::vector<TokenEntry>> ParseTokens(std::string_view text) {
  std::vector<TokenEntry> tokens;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::vector<std::string_view> words = Words(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (words.empty() || words[0][0] == '#') continue;
    if (tokens.size() == kMaxTokens) return InvalidArgument("more than ", kMaxTokens, " tokens");
    KDN_ASSIGN_OR_RETURN(TokenEntry entry, ParseLine(words, number));
    tokens.push_back(std::move(entry));
  }
  return tokens;
}

absl::StatusOr<std::unique_ptr<Authenticator>> Authenticator::Make(const Options& options) {
  std::unique_ptr<Authenticator> authenticator(new Authenticator(options));
  KDN_RETURN_IF_ERROR(authenticator->Reload());
  return authenticator;
}

absl::Status Authenticator::Reload() {
  if (options_.mode != Mode::kToken) return absl::OkStatus();
  KDN_ASSIGN_OR_RETURN(std::vector<TokenEntry> tokens, ReadTokens(options_.tokens_file));
  absl::MutexLock lock(&mu_);
  tokens_ = std::make_shared<const std::vector<TokenEntry>>(std::move(tokens));
  return absl::OkStatus();
}

size_t Authenticator::num_tokens() const {
  absl::MutexLock lock(&mu_);
  return tokens_ == nullptr ? 0 : tokens_->size();
}

absl::StatusOr<Identity> Authenticator::Authenticate(const Credentials& credentials) const {
  switch (options_.mode) {
    case Mode::kNone:
      return Identity{{options_.default_tenant}, true};
    case Mode::kToken:
      if (!credentials.authorization.has_value()) {
        return Unauthenticated("no authorization metadata: this server wants \"authorization: Bearer TOKEN\"");
      }
      return FromToken(*credentials.authorization);
    case Mode::kCertificate:
      break;
  }
  if (credentials.certificate_names.size() != 1) {
    return Unauthenticated("a client certificate with one common name is needed, this one has ",
                           credentials.certificate_names.size());
  }
  const std::string_view name = credentials.certificate_names[0];
  if (!IsTenantName(name)) {
    return PermissionDenied("the certificate's common name cannot be a tenant: 1 to ", kMaxTenantBytes,
                            " of a-z A-Z 0-9 . _ -");
  }
  return Identity{{std::string(name)}, name == options_.default_tenant};
}

absl::StatusOr<Identity> Authenticator::FromToken(std::string_view authorization) const {
  if (authorization.substr(0, kBearer.size()) != kBearer) {
    return Unauthenticated("authorization metadata is not of the form \"Bearer TOKEN\"");
  }
  const std::string_view token = authorization.substr(kBearer.size());
  if (token.empty() || token.size() > kMaxTokenBytes) return Unauthenticated("the token is not valid");
  std::shared_ptr<const std::vector<TokenEntry>> tokens;
  {
    absl::MutexLock lock(&mu_);
    tokens = tokens_;
  }
  const Digest digest = Sha256::Of(AsBytes(token));
  const TokenEntry* found = nullptr;
  // Every entry is compared, so that the time does not tell which one matched.
  for (const TokenEntry& entry : *tokens) {
    if (ConstantTimeEqual(entry.token_sha256.span(), digest.span())) found = &entry;
  }
  if (found == nullptr) return Unauthenticated("the token is not valid");
  return Identity{{found->tenant}, found->operator_rights};
}

}  // namespace kdn
