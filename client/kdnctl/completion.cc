#include "client/kdnctl/completion.h"

#include <algorithm>
#include <cstdio>

#include "client/kdnctl/commands.h"
#include "client/kdnctl/flag_values.h"

// Completion: scripts for the shells, which ask kdnctl itself for the words, so that they never fall behind it.

namespace kdn::ctl {
namespace {

constexpr char kBash[] = R"SH(# bash completion for kdnctl: source <(kdnctl completion bash)
_kdnctl() {
  local current=${COMP_WORDS[COMP_CWORD]} found
  found=$(kdnctl __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  if [[ $found == :files ]]; then
    COMPREPLY=($(compgen -f -- "$current"))
  else
    COMPREPLY=($(compgen -W "$found" -- "$current"))
  fi
}
complete -o filenames -F _kdnctl kdnctl
)SH";

constexpr char kZsh[] = R"SH(#compdef kdnctl
# zsh completion for kdnctl: source <(kdnctl completion zsh)
_kdnctl() {
  local -a found
  found=(${(f)"$(kdnctl __complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
  if [[ $found == :files ]]; then _files; else compadd -- $found; fi
}
compdef _kdnctl kdnctl
)SH";

constexpr char kFish[] = R"SH(# fish completion for kdnctl: kdnctl completion fish | source
function __kdnctl_words
  set -l found (kdnctl __complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)
  if test "$found" = :files
    __fish_complete_path (commandline -ct)
  else
    printf '%s\n' $found
  end
end
complete -c kdnctl -f -a '(__kdnctl_words)'
)SH";

// The option of that name here or above.
const CLI::Option* FindOption(const CLI::App* app, const std::string& name) {
  for (; app != nullptr; app = app->get_parent()) {
    if (const CLI::Option* option = app->get_option_no_throw(name)) return option;
  }
  return nullptr;
}

bool TakesValue(const CLI::Option* option) { return option != nullptr && option->get_type_size_max() > 0; }

// The command of that name directly below; nullptr when there is none.
const CLI::App* FindCommand(const CLI::App& app, const std::string& name) {
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    if (command->get_name() == name) return command;
  }
  return nullptr;
}

// What its values may be: nothing where that is not known.
std::vector<std::string> ValuesOf(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  if (type == kFileType) return {std::string(kCompleteFiles)};
  std::vector<std::string> values;
  if (type.find('|') == std::string::npos) return values;
  for (size_t begin = 0; begin <= type.size();) {
    const size_t end = std::min(type.find('|', begin), type.size());
    values.push_back(type.substr(begin, end - begin));
    begin = end + 1;
  }
  return values;
}

std::vector<std::string> OptionNames(const CLI::App* app) {
  std::vector<std::string> names;
  for (; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* option : app->get_options()) {
      for (const std::string& name : option->get_snames()) names.push_back("-" + name);
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
  }
  return names;
}

// Commands, or what the first positional argument may be.
std::vector<std::string> PlainWords(const CLI::App& app) {
  std::vector<std::string> found;
  for (const CLI::App* command : app.get_subcommands(nullptr)) found.push_back(command->get_name());
  for (const CLI::Option* option : app.get_options()) {
    if (found.empty() && option->get_positional()) found = ValuesOf(*option);
  }
  return found;
}

}  // namespace

std::vector<std::string> Complete(const CLI::App& app, std::span<const std::string> words) {
  const CLI::App* at = &app;
  const CLI::Option* awaited = nullptr;  // an option whose value comes next
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (awaited != nullptr) {
      awaited = nullptr;
    } else if (word.starts_with("-")) {
      const CLI::Option* option = FindOption(at, word);
      if (TakesValue(option)) awaited = option;
    } else if (const CLI::App* command = FindCommand(*at, word)) {
      at = command;
    }
  }
  std::vector<std::string> found;
  const std::string current = words.empty() ? "" : words.back();
  if (awaited != nullptr) {
    found = ValuesOf(*awaited);
  } else {
    found = current.starts_with("-") ? OptionNames(at) : PlainWords(*at);
  }
  std::erase_if(found, [&](const std::string& word) { return word != kCompleteFiles && !word.starts_with(current); });
  return found;
}

ExitCode PrintCompletions(const CLI::App& app, std::span<const std::string> words) {
  for (const std::string& word : Complete(app, words)) std::printf("%s\n", word.c_str());
  return std::fflush(stdout) == 0 ? kDone : kFailed;
}

ExitCode RunCompletion(const std::string& shell) {
  const char* script = shell == "bash" ? kBash : shell == "zsh" ? kZsh : kFish;
  return std::fputs(script, stdout) >= 0 && std::fflush(stdout) == 0 ? kDone : kFailed;
}

}  // namespace kdn::ctl
