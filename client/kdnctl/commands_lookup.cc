#include <charconv>

#include "client/kdnctl/commands.h"
#include "kernels/base/status.h"

namespace kdn::ctl {
namespace {

constexpr size_t kMaxInputBytes = size_t{64} << 20;

// Token ids separated by white space, commas or brackets: plain lists and JSON arrays alike.
absl::StatusOr<std::vector<uint32_t>> ParseTokens(const std::string& path, std::string_view content) {
  static constexpr std::string_view kSeparators = " \t\r\n,[]";
  std::vector<uint32_t> ids;
  size_t at = content.find_first_not_of(kSeparators);
  while (at != std::string_view::npos) {
    const size_t end = std::min(content.find_first_of(kSeparators, at), content.size());
    const std::string_view word = content.substr(at, end - at);
    uint32_t id = 0;
    const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || stop != word.data() + word.size()) {
      return InvalidArgument("'", path, "' holds '", word.substr(0, 32), "' at byte ", at,
                             ": token ids are integers below 2^32");
    }
    ids.push_back(id);
    at = content.find_first_not_of(kSeparators, end);
  }
  if (ids.empty()) return InvalidArgument("'", path, "' holds no token ids");
  return ids;
}

struct Found {
  uint64_t hit_tokens = 0;
  uint64_t tokens = 0;
};

absl::StatusOr<Found> Find(Session& session, const LookupCommandOptions& options) {
  if (options.tokens_path.empty() == options.text_path.empty()) {
    return InvalidArgument("give either --tokens FILE or --text FILE");
  }
  const std::string& path = options.tokens_path.empty() ? options.text_path : options.tokens_path;
  KDN_ASSIGN_OR_RETURN(const std::string content, ReadInput(path, kMaxInputBytes));
  KDN_ASSIGN_OR_RETURN(const ModelSummary summary, session.ResolveModel(options.model));
  KDN_ASSIGN_OR_RETURN(const ModelHandle model, session.OpenModel(summary.fingerprint));
  KDN_ASSIGN_OR_RETURN(Client * client, session.client());
  // What is there, whatever it was stored as.
  const LookupOptions lookup{.lossiest = ProfileId::kTransform};
  if (!options.text_path.empty()) {
    KDN_ASSIGN_OR_RETURN(const TextLookup text, client->LookupText(model, {content, options.policy}, lookup));
    return Found{text.hit_tokens, text.token_ids.size()};
  }
  KDN_ASSIGN_OR_RETURN(const std::vector<uint32_t> ids, ParseTokens(path, content));
  KDN_ASSIGN_OR_RETURN(const LookupResult result, client->Lookup(model, ids, lookup));
  return Found{result.hit_tokens, ids.size()};
}

}  // namespace

ExitCode RunLookup(Session& session, const LookupCommandOptions& options) {
  const auto found = Find(session, options);
  if (!found.ok()) return session.Fail("lookup", found.status());
  Report report;
  report.document = {{"tokens", found->tokens}, {"hit_tokens", found->hit_tokens}};
  report.tables = {{{"TOKENS", "HIT"}, {{HumanCount(found->tokens), HumanCount(found->hit_tokens)}}}};
  return session.Print(report, found->hit_tokens > 0 ? kDone : kNotFound);
}

}  // namespace kdn::ctl
