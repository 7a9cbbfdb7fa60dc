#include "config/startup.h"

#include <utility>

#include "config/command_line.h"
#include "config/load.h"
#include "config/print.h"
#include "config/yaml_source.h"
#include "kernels/base/status.h"

namespace kdn::config {
namespace {

Startup Fail(const absl::Status& status) {
  Startup startup;
  startup.exit_code = kExitUsage;
  startup.standard_error = StrCat("kdnd: ", FromAbsl(status.message()), "\n");
  return startup;
}

Startup Print(std::string text) {
  Startup startup;
  startup.standard_output = std::move(text);
  return startup;
}

absl::StatusOr<Config> Load(CommandLine command_line, const Environment& environment) {
  Sources sources;
  if (command_line.config_file.has_value()) {
    KDN_ASSIGN_OR_RETURN(std::string text, ReadConfigFile(*command_line.config_file));
    sources.file = FileSource{*command_line.config_file, std::move(text)};
  }
  sources.environment = environment;
  sources.flags = std::move(command_line.flags);
  return LoadConfig(sources);
}

}  // namespace

Startup PrepareStartup(std::span<const std::string> arguments, const Environment& environment,
                       std::string_view version_text) {
  absl::StatusOr<CommandLine> command_line = ParseCommandLine(arguments);
  if (!command_line.ok()) return Fail(command_line.status());
  const CommandLine::Action action = command_line->action;
  const PrintFormat print_format = command_line->print_format;
  if (action == CommandLine::Action::kHelp) return Print(HelpText());
  if (action == CommandLine::Action::kVersion) return Print(StrCat(version_text, "\n"));

  absl::StatusOr<Config> config = Load(*std::move(command_line), environment);
  if (!config.ok()) return Fail(config.status());
  if (action == CommandLine::Action::kCheckConfig) {
    Startup startup = Print("configuration is valid\n");
    startup.to_check = *std::move(config);
    return startup;
  }
  if (action == CommandLine::Action::kPrintConfig) return Print(PrintConfig(*config, print_format, PrintOrigins::kYes));
  Startup startup;
  startup.config = *std::move(config);
  return startup;
}

}  // namespace kdn::config
