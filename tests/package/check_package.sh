#!/usr/bin/env bash
# usage: check_package.sh BUILD_DIR
# Installs a build into a scratch prefix and builds and runs consumers against it, out of reach of the source tree.
set -euo pipefail
build=$(cd "$1" && pwd)
consumer=$(cd "$(dirname "$0")/consumer" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cmake --install "$build" --prefix "$scratch/prefix" >"$scratch/install.log" || { cat "$scratch/install.log" >&2; exit 1; }
cp -r "$consumer" "$scratch/consumer"
cmake -S "$scratch/consumer" -B "$scratch/build" -G Ninja -DCMAKE_PREFIX_PATH="$scratch/prefix" -DCMAKE_BUILD_TYPE=Release
cmake --build "$scratch/build"
ctest --test-dir "$scratch/build" --output-on-failure
for tool in kdnd kdnctl; do "$scratch/prefix/bin/$tool" --help >/dev/null; done
echo "package: consumers built and ran"
