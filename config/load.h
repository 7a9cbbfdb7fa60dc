#ifndef KDN_CONFIG_LOAD_H_
#define KDN_CONFIG_LOAD_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "config/config.h"
#include "config/environment.h"
#include "config/problems.h"

namespace kdn::config {

// The text of a configuration file and the name it has in messages and origins.
struct FileSource {
  std::string name;
  std::string text;
};

// One value given on the command line.
struct FlagSetting {
  std::string key;  // "section.key"
  std::string text;
  std::string written;  // the flag without its value, for messages: "--server.listen" or "--set server.listen"
};

struct Sources {
  std::optional<FileSource> file;
  // Names of the form KDN_SECTION__KEY are read and must be keys; all others, KDN_DATA too, are ignored.
  Environment environment;
  // A later flag overrides an earlier one.
  std::vector<FlagSetting> flags;
};

// Merges flags over environment over file over defaults and checks the whole. InvalidArgument lists all problems, each
// with its place: what cannot be parsed, unknown and duplicate keys, values out of bounds, and, once every value is
// good, keys that contradict each other (CheckTogether).
absl::StatusOr<Config> LoadConfig(const Sources& sources);

// Adds what is wrong with the combination of values, each of which is valid alone.
void CheckTogether(const Config& config, Problems& problems);

}  // namespace kdn::config

#endif  // KDN_CONFIG_LOAD_H_
