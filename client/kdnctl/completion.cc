#include <cstdio>

#include "client/kdnctl/commands.h"

// Completion scripts. They ask kdnctl itself for the words (`kdnctl ... --help`), so that they never fall behind it.

namespace kdn::ctl {
namespace {

constexpr char kBash[] = R"SH(# bash completion for kdnctl: source <(kdnctl completion bash)
_kdnctl() {
  local current=${COMP_WORDS[COMP_CWORD]} words=() word
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $word == -* ]] || words+=("$word")
  done
  local help
  help=$(kdnctl "${words[@]}" --help 2>/dev/null)
  COMPREPLY=($(compgen -W "$(awk '
    /^Subcommands:/ {commands = 1; next}
    /^[A-Z]/ {commands = 0}
    commands && /^  [a-z]/ {print $1}
    /^  -/ {split($1, names, ","); for (i in names) print names[i]}' <<<"$help")" -- "$current"))
  [[ $current == -* || ${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -f -- "$current"))
}
complete -o filenames -F _kdnctl kdnctl
)SH";

constexpr char kZsh[] = R"SH(#compdef kdnctl
# zsh completion for kdnctl: source <(kdnctl completion zsh)
_kdnctl() {
  local -a plain
  plain=(${${words[2,CURRENT-1]}:#-*})
  local -a found
  found=(${(f)"$(kdnctl $plain --help 2>/dev/null | awk '
    /^Subcommands:/ {commands = 1; next}
    /^[A-Z]/ {commands = 0}
    commands && /^  [a-z]/ {print $1}
    /^  -/ {split($1, names, ","); for (i in names) print names[i]}')"})
  if (( $#found )); then compadd -- $found; else _files; fi
}
compdef _kdnctl kdnctl
)SH";

constexpr char kFish[] = R"SH(# fish completion for kdnctl: kdnctl completion fish | source
function __kdnctl_words
  set -l plain (commandline -opc)[2..-1]
  set plain (string match -v -- '-*' $plain)
  kdnctl $plain --help 2>/dev/null | awk '
    /^Subcommands:/ {commands = 1; next}
    /^[A-Z]/ {commands = 0}
    commands && /^  [a-z]/ {print $1}
    /^  -/ {split($1, names, ","); for (i in names) print names[i]}'
end
complete -c kdnctl -a '(__kdnctl_words)'
)SH";

}  // namespace

ExitCode RunCompletion(const std::string& shell) {
  const char* script = shell == "bash" ? kBash : shell == "zsh" ? kZsh : kFish;
  return std::fputs(script, stdout) >= 0 && std::fflush(stdout) == 0 ? kDone : kFailed;
}

}  // namespace kdn::ctl
