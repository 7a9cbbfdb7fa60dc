#ifndef KDN_CONFIG_SUGGEST_H_
#define KDN_CONFIG_SUGGEST_H_

#include <string>
#include <string_view>
#include <vector>

namespace kdn::config {

// Edits that turn `a` into `b`: insertions, deletions, substitutions and swaps of neighbours. Names longer than
// kMaxSuggestBytes count as infinitely far apart.
inline constexpr size_t kMaxSuggestBytes = 64;
size_t EditDistance(std::string_view a, std::string_view b);

// ", did you mean 'x'?" for the candidate nearest to `name`, or "" if none is near enough to be a slip.
std::string DidYouMean(std::string_view name, const std::vector<std::string>& candidates);

// DidYouMean over the keys ("section.key"); a key that exists in another section counts as near.
std::string DidYouMeanKey(std::string_view name);

// DidYouMean over the sections; for the name of a key ("server.listen" or "listen") says where it goes.
std::string DidYouMeanSection(std::string_view name);

}  // namespace kdn::config

#endif  // KDN_CONFIG_SUGGEST_H_
