#!/usr/bin/env bash
# usage: check_package.sh BUILD_DIR
# Installs a build into a scratch prefix and builds and runs consumers against it, out of reach of the source tree.
set -euo pipefail
build=$(cd "$1" && pwd)
source=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { echo "package: $*" >&2; exit 1; }
install_to() {  # arguments of cmake --install
  cmake --install "$build" "$@" >"$scratch/install.log" || { cat "$scratch/install.log" >&2; exit 1; }
}
install_to --prefix "$scratch/prefix"
cp -r "$source/tests/package/consumer" "$scratch/consumer"
cmake -S "$scratch/consumer" -B "$scratch/build" -G Ninja -DCMAKE_PREFIX_PATH="$scratch/prefix" -DCMAKE_BUILD_TYPE=Release
cmake --build "$scratch/build"
ctest --test-dir "$scratch/build" --output-on-failure

# The program of client/README.md, as a reader would build it.
mkdir "$scratch/readme"
block() {  # language
  awk -v fence='```'"$1" '$0 == fence {inside = 1; next} $0 == "```" {inside = 0} inside' "$source/client/README.md"
}
block cmake >"$scratch/readme/CMakeLists.txt"
block cpp >"$scratch/readme/app.cc"
cmake -S "$scratch/readme" -B "$scratch/readme/build" -G Ninja -DCMAKE_PREFIX_PATH="$scratch/prefix"
cmake --build "$scratch/readme/build"
"$scratch/readme/build/app"

for tool in kdnd kdnctl; do "$scratch/prefix/bin/$tool" --help >/dev/null; done

# The unit starts the daemon that was installed with it, also when the files are staged for a package of the system.
check_unit() {  # root of the installed prefix, path of the daemon
  local unit=$1/lib/systemd/system/kdnd.service
  grep -q "^ExecStart=$2 " "$unit" || fail "$unit does not start $2"
  if grep '@' "$unit" | grep -qv '^SystemCallFilter='; then fail "$unit has holes"; fi
}
check_unit "$scratch/prefix" "$scratch/prefix/bin/kdnd"
"$scratch/prefix/bin/kdnd" --check-config --config "$scratch/prefix/share/doc/kdn/kdnd.example.yaml"
DESTDIR="$scratch/stage" install_to --prefix /usr
check_unit "$scratch/stage/usr" /usr/bin/kdnd
echo "package: consumers built and ran"
