#include "config/command_line.h"

#include <algorithm>
#include <array>
#include <utility>

#include "config/key_table.h"
#include "config/problems.h"
#include "config/suggest.h"
#include "config/value.h"
#include "kernels/base/status.h"

namespace kdn::config {
namespace {

struct Option {
  std::string_view name;
  std::string_view argument;  // as the help shows it, with what separates it from the name; empty: takes none
  std::string_view help;
};

constexpr std::array<Option, 7> kOptions = {{
    {"--config", " FILE", "Read the configuration file"},
    {"--set", " section.key=value", "Set one key; the same as --section.key=value"},
    {"--check-config", "", "Check the configuration and leave: status 0 if it is valid, 2 if not"},
    {"--print-config", "[=yaml|json]", "Print all keys with their values and where those come from, and leave"},
    {"--ready-file", " FILE", "Write the addresses it listens on there once it serves; removed at the end"},
    {"--version", "", "Print the version and leave"},
    {"--help", "", "Print this and leave"},
}};

class Parser {
 public:
  explicit Parser(std::span<const std::string> arguments) : rest_(arguments) {}

  absl::StatusOr<CommandLine> Parse() && {
    while (!rest_.empty()) {
      const std::string& argument = rest_.front();
      rest_ = rest_.subspan(1);
      const size_t equals = argument.find('=');
      const std::string name = argument.substr(0, equals);
      std::optional<std::string> value;
      if (equals != std::string::npos) value = argument.substr(equals + 1);
      ParseOption(name, std::move(value));
    }
    if (help_) {
      result_.action = CommandLine::Action::kHelp;
      return std::move(result_);
    }
    if (version_) result_.action = CommandLine::Action::kVersion;
    KDN_RETURN_IF_ERROR(problems_.ToStatus());
    return std::move(result_);
  }

 private:
  void ParseOption(const std::string& name, std::optional<std::string> value) {
    if (name == "--help" || name == "-h") {
      help_ = true;
    } else if (name == "--version") {
      RefuseValue(name, value);
      version_ = true;
    } else if (name == "--check-config") {
      RefuseValue(name, value);
      SetAction(CommandLine::Action::kCheckConfig);
    } else if (name == "--print-config") {
      ParsePrintConfig(value);
    } else if (name == "--config") {
      ParseConfigFile(std::move(value));
    } else if (name == "--set") {
      ParseSet(std::move(value));
    } else if (name.starts_with("--") && FindKey(name.substr(2)) != nullptr) {
      std::optional<std::string> text = TakeValue(name, std::move(value));
      if (text.has_value()) result_.flags.push_back({name.substr(2), *std::move(text), name});
    } else {
      RefuseUnknown(name);
    }
  }

  // The value after '=', else the next argument.
  std::optional<std::string> TakeValue(std::string_view name, std::optional<std::string> value) {
    if (value.has_value()) return value;
    if (rest_.empty()) {
      problems_.Add(name, "needs a value");
      return std::nullopt;
    }
    value = rest_.front();
    rest_ = rest_.subspan(1);
    return value;
  }

  void RefuseValue(std::string_view name, const std::optional<std::string>& value) {
    if (value.has_value()) problems_.Add(name, StrCat("takes no value, got ", Quoted(*value)));
  }

  void SetAction(CommandLine::Action action) {
    if (result_.action != CommandLine::Action::kServe && result_.action != action) {
      problems_.Add("", "--check-config and --print-config exclude each other");
    }
    result_.action = action;
  }

  void ParsePrintConfig(const std::optional<std::string>& format) {
    SetAction(CommandLine::Action::kPrintConfig);
    const std::string text = format.value_or("yaml");
    if (text == "yaml" || text == "json") {
      result_.print_format = text == "yaml" ? PrintFormat::kYaml : PrintFormat::kJson;
    } else {
      problems_.Add("--print-config", StrCat("expected yaml or json, got ", Quoted(text)));
    }
  }

  void ParseConfigFile(std::optional<std::string> value) {
    std::optional<std::string> path = TakeValue("--config", std::move(value));
    if (!path.has_value()) return;
    if (path->empty()) problems_.Add("--config", "expected the path of a file, got an empty value");
    if (result_.config_file.has_value()) problems_.Add("--config", "given twice");
    result_.config_file = std::move(path);
  }

  void ParseSet(std::optional<std::string> value) {
    const std::optional<std::string> assignment = TakeValue("--set", std::move(value));
    if (!assignment.has_value()) return;
    const size_t equals = assignment->find('=');
    if (equals == std::string::npos) {
      problems_.Add("--set", StrCat("expected section.key=value, got ", Quoted(*assignment)));
      return;
    }
    const std::string key = assignment->substr(0, equals);
    result_.flags.push_back({key, assignment->substr(equals + 1), StrCat("--set ", key)});
  }

  void RefuseUnknown(const std::string& name) {
    if (!name.starts_with('-')) {
      problems_.Add("", StrCat("unexpected argument ", Quoted(name), "; options start with --"));
      return;
    }
    std::vector<std::string> candidates;
    candidates.reserve(kOptions.size() + KeyTable().size());
    for (const Option& option : kOptions) candidates.emplace_back(option.name);
    for (const KeySpec& spec : KeyTable()) candidates.push_back(StrCat("--", spec.name));
    std::string suggestion = DidYouMean(name, candidates);
    if (suggestion.empty() && name.starts_with("--") && IsSection(name.substr(2, name.find('.') - 2))) {
      suggestion = DidYouMeanKey(name.substr(2));
    }
    problems_.Add("", StrCat("unknown option ", Quoted(name), suggestion, "; see --help"));
  }

  std::span<const std::string> rest_;
  CommandLine result_;
  Problems problems_;
  bool help_ = false;
  bool version_ = false;
};

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(std::span<const std::string> arguments) {
  return Parser(arguments).Parse();
}

std::string HelpText() {
  constexpr size_t kHelpColumn = 36;
  std::string out =
      "kdnd: stores the KV caches of LLM engines and delivers them compressed.\n\nUsage: kdnd [options]\n\n";
  for (const Option& option : kOptions) {
    std::string line = StrCat("  ", option.name, option.argument);
    line.append(line.size() < kHelpColumn ? kHelpColumn - line.size() : 1, ' ');
    out.append(StrCat(line, option.help, "\n"));
  }
  out.append(
      "\nEvery key can be set, in order of precedence, by a flag (--server.listen=127.0.0.1:9460), by an environment\n"
      "variable (KDN_SERVER__LISTEN), or in the file (listen: under server:).\n");
  const Config defaults;
  std::string_view section;
  for (const KeySpec& spec : KeyTable()) {
    if (spec.section() != section) {
      section = spec.section();
      out.push_back('\n');
    }
    const std::string value = ValueText(spec, defaults);
    out.append(StrCat("  --", spec.name, "=", value.empty() ? "\"\"" : value, "  (", TypeText(spec), ")\n      ",
                      spec.help, "\n"));
  }
  return out;
}

}  // namespace kdn::config
