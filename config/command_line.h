#ifndef KDN_CONFIG_COMMAND_LINE_H_
#define KDN_CONFIG_COMMAND_LINE_H_

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "config/load.h"
#include "config/print.h"

namespace kdn::config {

// What a command line of kdnd asks for.
struct CommandLine {
  enum class Action { kServe, kCheckConfig, kPrintConfig, kVersion, kHelp };
  Action action = Action::kServe;
  PrintFormat print_format = PrintFormat::kYaml;
  std::optional<std::string> config_file;
  std::vector<FlagSetting> flags;
};

// Parses the arguments after the program's name:
//   --config FILE | --config=FILE
//   --set section.key=value
//   --section.key=value | --section.key value
//   --check-config, --print-config[=yaml|json], --version, --help | -h
// --help wins over everything, also over errors in other arguments; then --version. InvalidArgument, listing all
// problems: unknown options (with the nearest known one), missing values, arguments that are not options, --config
// twice, both --check-config and --print-config. Values are not parsed here.
absl::StatusOr<CommandLine> ParseCommandLine(std::span<const std::string> arguments);

}  // namespace kdn::config

#endif  // KDN_CONFIG_COMMAND_LINE_H_
