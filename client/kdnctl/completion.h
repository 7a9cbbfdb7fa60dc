#ifndef KDN_CLIENT_KDNCTL_COMPLETION_H_
#define KDN_CLIENT_KDNCTL_COMPLETION_H_

#include <CLI/CLI.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client/kdnctl/exit_code.h"

namespace kdn::ctl {

// The word that completion scripts call kdnctl with: "kdnctl __complete WORD...".
inline constexpr std::string_view kCompleteCommand = "__complete";
// Stands among the completions for "names of files".
inline constexpr std::string_view kCompleteFiles = ":files";

// What may stand in place of the last of `words` (which may be empty); those before it are taken as they are.
std::vector<std::string> Complete(const CLI::App& app, std::span<const std::string> words);

// Prints them, one a line.
ExitCode PrintCompletions(const CLI::App& app, std::span<const std::string> words);

}  // namespace kdn::ctl

#endif  // KDN_CLIENT_KDNCTL_COMPLETION_H_
