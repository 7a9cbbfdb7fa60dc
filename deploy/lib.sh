# Shared by the scripts that build, test and demonstrate KDN. Sourced from the repository root.

KDN_JOBS=${KDN_JOBS:-$(nproc)}
# The cache must serve every clone of the repository, wherever it lies.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-10G}

say() { printf '%s\n' "$*"; }

# step TITLE COMMAND...: runs the command, saying what runs and how long it took. A failing command ends the script with
# its own status (set -e is in force in callers).
step() {
  local title=$1; shift
  local started=$SECONDS
  say "== $title"
  local status=0
  "$@" || status=$?
  if [ $status -ne 0 ]; then
    echo "== $title: FAILED with status $status after $((SECONDS - started)) s: $*" >&2
    exit $status
  fi
  say "== $title: $((SECONDS - started)) s"
}
