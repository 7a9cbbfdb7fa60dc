#include "config/suggest.h"

#include <algorithm>
#include <array>
#include <limits>

#include "config/key_table.h"
#include "kernels/base/status.h"

namespace kdn::config {
namespace {

constexpr size_t kFar = std::numeric_limits<size_t>::max();

// A third of the letters wrong is no longer a slip.
size_t MaxDistance(std::string_view name) { return std::clamp<size_t>(name.size() / 3, 1, 4); }

const KeySpec* FindByLastPart(std::string_view key) {
  const KeySpec* found = nullptr;
  for (const KeySpec& spec : KeyTable()) {
    if (spec.key() != key) continue;
    if (found != nullptr) return nullptr;  // ambiguous
    found = &spec;
  }
  return found;
}

}  // namespace

size_t EditDistance(std::string_view a, std::string_view b) {
  if (a.size() > kMaxSuggestBytes || b.size() > kMaxSuggestBytes) return kFar;
  // Rows of the optimal string alignment matrix: two before, one before, current.
  std::array<std::array<size_t, kMaxSuggestBytes + 1>, 3> rows;
  for (size_t j = 0; j <= b.size(); ++j) rows[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    const auto& two_before = rows[(i + 1) % 3];
    const auto& before = rows[(i - 1) % 3];
    auto& current = rows[i % 3];
    current[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = before[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({before[j] + 1, current[j - 1] + 1, substituted});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) current[j] = std::min(current[j], two_before[j - 2] + 1);
    }
  }
  return rows[a.size() % 3][b.size()];
}

std::string DidYouMean(std::string_view name, const std::vector<std::string>& candidates) {
  const std::string* nearest = nullptr;
  size_t nearest_distance = MaxDistance(name) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(name, candidate);
    if (distance >= nearest_distance) continue;
    nearest = &candidate;
    nearest_distance = distance;
  }
  return nearest == nullptr ? "" : StrCat(", did you mean '", *nearest, "'?");
}

std::string DidYouMeanKey(std::string_view name) {
  const std::string_view section = name.substr(0, name.find('.'));
  const std::string_view key = name.size() > section.size() ? name.substr(section.size() + 1) : std::string_view();
  if (IsSection(section)) {
    std::vector<std::string> keys;
    for (const KeySpec& spec : KeyTable()) {
      if (spec.section() == section) keys.emplace_back(spec.key());
    }
    std::string within_section = DidYouMean(key, keys);
    if (!within_section.empty()) return within_section;
  }
  if (const KeySpec* elsewhere = FindByLastPart(key)) return StrCat(", did you mean '", elsewhere->name, "'?");
  std::vector<std::string> names;
  for (const KeySpec& spec : KeyTable()) names.emplace_back(spec.name);
  return DidYouMean(name, names);
}

std::string DidYouMeanSection(std::string_view name) {
  const KeySpec* key = FindKey(name);
  if (key == nullptr) key = FindByLastPart(name);
  if (key != nullptr) return StrCat(", write it as '", key->key(), ":' under '", key->section(), ":'");
  std::vector<std::string> sections;
  for (const KeySpec& spec : KeyTable()) sections.emplace_back(spec.section());
  return DidYouMean(name, sections);
}

}  // namespace kdn::config
