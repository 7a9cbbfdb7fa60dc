#!/usr/bin/env python3
"""Rules of the tree that no compiler checks: file length, READMEs, run bits, words that mark unfinished work."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAX_LINES = 800
CODE = {".h", ".cc", ".cu", ".cuh", ".py", ".proto"}
NEEDS_README = ("kernels", "storage", "server", "client", "config", "proto", "tests", "bench", "deploy")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
EXECUTABLE = ("tests/run", "deploy/quickstart", "deploy/install-deps", "deploy/python-env", "bench/run", ".ci/run")


def tracked_files():
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"], check=True,
                            capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if (ROOT / line).is_file()]


def check(files):
    for name in files:
        if pathlib.PurePath(name).suffix not in CODE:
            continue
        text = (ROOT / name).read_text(encoding="utf-8")
        lines = text.count("\n")
        if lines > MAX_LINES:
            yield f"{name}: {lines} lines, at most {MAX_LINES}"
        if name != "tests/lint/tree_rules.py" and UNFINISHED.search(text):
            yield f"{name}: holds a word that marks unfinished work"
    modules = {"/".join(name.split("/")[:2]) for name in files
               if name.split("/")[0] in ("kernels", "storage", "server", "client") and name.count("/") >= 2}
    for folder in sorted(set(NEEDS_README) | modules):
        if not (ROOT / folder / "README.md").is_file():
            yield f"{folder}: has no README.md"
    for name in EXECUTABLE:
        if not os.access(ROOT / name, os.X_OK):
            yield f"{name}: missing or without its run bit"


def main():
    files = tracked_files()
    problems = list(check(files))
    for problem in problems:
        print(problem)
    print(f"{len(files)} files, {len(problems)} problems")
    return 1 if problems or not files else 0


if __name__ == "__main__":
    sys.exit(main())
