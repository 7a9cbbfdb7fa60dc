#!/usr/bin/env bash
# Fails when a C++ file is not as clang-format 14 would write it. Mend with: clang-format-14 -i FILE
set -euo pipefail
cd "$(dirname "$0")/../.."
mapfile -t files < <(git ls-files -co --exclude-standard '*.h' '*.cc' '*.cu' '*.cuh')
[ ${#files[@]} -gt 0 ] || { echo "clang_format: no files found" >&2; exit 1; }
clang-format-14 --dry-run -Werror "${files[@]}"
echo "${#files[@]} files are formatted"
