#ifndef KDN_CONFIG_STARTUP_H_
#define KDN_CONFIG_STARTUP_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "config/config.h"
#include "config/environment.h"

namespace kdn::config {

inline constexpr int kExitDone = 0;
inline constexpr int kExitUsage = 2;  // wrong command line or configuration

// What main() of kdnd does next: check the files that `to_check` names if there is one, and leave with kExitUsage when
// they are not good; print both texts; then serve with `config` if there is one, else leave with `exit_code`.
struct Startup {
  std::optional<Config> config;
  std::optional<Config> to_check;
  int exit_code = kExitDone;
  std::string standard_output;
  std::string standard_error;
};

// Decides it from the arguments after the program's name and the environment; reads the file that --config names.
// `version_text` is what --version prints, without the line end.
Startup PrepareStartup(std::span<const std::string> arguments, const Environment& environment,
                       std::string_view version_text);

}  // namespace kdn::config

#endif  // KDN_CONFIG_STARTUP_H_
