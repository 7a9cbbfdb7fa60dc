#ifndef KDN_CONFIG_YAML_SOURCE_H_
#define KDN_CONFIG_YAML_SOURCE_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "config/key_table.h"
#include "config/problems.h"

namespace kdn::config {

inline constexpr size_t kMaxFileBytes = size_t{1} << 20;

// One value of a configuration file. Lines and columns count from 1.
struct FileSetting {
  const KeySpec* spec;
  std::string text;
  int line;
  int column;
};

// Reads the sections and keys of a YAML document: a mapping of sections, each a mapping of keys to single values.
// Adds to `problems`, with "name:line:column": syntax errors, unknown and duplicate sections and keys, keys without a
// value, lists and mappings where a value belongs, anchors, aliases, tags, a second document, more than kMaxFileBytes.
// The result holds the known keys, each once; their values are not parsed yet. Never throws; memory and recursion are
// bounded for any input.
std::vector<FileSetting> ParseYaml(std::string_view text, std::string_view name, Problems& problems);

// The content of the file. NotFound, PermissionDenied or FailedPrecondition with the system's reason; InvalidArgument
// if it has more than kMaxFileBytes.
absl::StatusOr<std::string> ReadConfigFile(const std::string& path);

}  // namespace kdn::config

#endif  // KDN_CONFIG_YAML_SOURCE_H_
