#include "config/load.h"

#include <algorithm>
#include <utility>

#include "config/key_table.h"
#include "config/suggest.h"
#include "config/value.h"
#include "config/yaml_source.h"
#include "kernels/base/status.h"

namespace kdn::config {
namespace {

struct Setting {
  const KeySpec& spec;
  std::string_view text;
  std::string where;
  Origin origin;
};

class Loader {
 public:
  void Apply(const Setting& setting) {
    const absl::Status status = SetValue(setting.spec, setting.text, config_);
    if (!status.ok()) {
      problems_.Add(setting.where, StrCat(setting.spec.name, ": ", FromAbsl(status.message())));
      return;
    }
    config_.origins.insert_or_assign(std::string(setting.spec.name), setting.origin);
  }

  void ApplyFile(const FileSource& file) {
    for (const FileSetting& found : ParseYaml(file.text, file.name, problems_)) {
      const std::string line = StrCat(file.name, ":", found.line);
      Apply({*found.spec, found.text, StrCat(line, ":", found.column), {Origin::Kind::kFile, line}});
    }
  }

  void ApplyEnvironment(const Environment& environment) {
    std::vector<std::string> known_names;
    for (const KeySpec& spec : KeyTable()) known_names.push_back(EnvironmentName(spec));
    for (const auto& [name, text] : environment) {
      if (!name.starts_with("KDN_") || name.find("__") == std::string::npos) continue;
      const auto known = std::find(known_names.begin(), known_names.end(), name);
      if (known == known_names.end()) {
        problems_.Add(StrCat("env ", name), StrCat("unknown key", DidYouMean(name, known_names)));
        continue;
      }
      const KeySpec& spec = KeyTable()[static_cast<size_t>(known - known_names.begin())];
      Apply({spec, text, StrCat("env ", name), {Origin::Kind::kEnvironment, name}});
    }
  }

  void ApplyFlags(const std::vector<FlagSetting>& flags) {
    for (const FlagSetting& flag : flags) {
      const std::string where = StrCat("flag ", flag.written);
      const KeySpec* spec = FindKey(flag.key);
      if (spec == nullptr) {
        problems_.Add(where, StrCat("unknown key ", Quoted(flag.key), DidYouMeanKey(flag.key)));
        continue;
      }
      Apply({*spec, flag.text, where, {Origin::Kind::kFlag, flag.written}});
    }
  }

  absl::StatusOr<Config> Finish() {
    if (problems_.empty()) CheckTogether(config_, problems_);
    KDN_RETURN_IF_ERROR(problems_.ToStatus());
    return std::move(config_);
  }

 private:
  Config config_;
  Problems problems_;
};

}  // namespace

absl::StatusOr<Config> LoadConfig(const Sources& sources) {
  Loader loader;
  if (sources.file.has_value()) loader.ApplyFile(*sources.file);
  loader.ApplyEnvironment(sources.environment);
  loader.ApplyFlags(sources.flags);
  return loader.Finish();
}

}  // namespace kdn::config
