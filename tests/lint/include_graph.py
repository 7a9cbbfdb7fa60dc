#!/usr/bin/env python3
"""Reads every include of the source tree and fails on an upward arrow, a cycle, or a banned header.

The allowed arrows are those of the module table in README.md. A module is a folder such as kernels/format; the key
"a/b" in ALLOWED lists what its files may include besides themselves.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ("kernels", "storage", "config", "server", "client")
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.MULTILINE)

BASE = {"kernels/base"}
LAYOUT = BASE | {"kernels/layout"}
FORMAT = LAYOUT | {"kernels/format"}
KERNELS = FORMAT | {"kernels/codec", "kernels/chunk", "kernels/drop", "kernels/blend", "kernels/edit"}
STORAGE_BASE = {"kernels/base", "kernels/format", "kernels/layout", "kernels/chunk", "proto"}
STORAGE = {f"storage/{m}" for m in ("file", "blob", "segment", "index", "rocksdb", "memory", "evict", "origin")}
CORE = STORAGE | KERNELS | {"proto"}

ALLOWED = {
    "kernels/base": set(),
    "kernels/layout": BASE,
    "kernels/format": LAYOUT,
    "kernels/codec": FORMAT,
    "kernels/chunk": FORMAT,
    "kernels/drop": FORMAT,
    "kernels/blend": FORMAT,
    "kernels/edit": FORMAT,
    "kernels/cuda": KERNELS,
    "storage/file": STORAGE_BASE,
    "storage/blob": STORAGE_BASE,
    "storage/index": STORAGE_BASE | {"storage/blob"},
    "storage/memory": STORAGE_BASE | {"storage/blob"},
    "storage/evict": STORAGE_BASE | {"storage/file", "storage/blob", "storage/index"},
    "storage/segment": STORAGE_BASE | {"storage/file", "storage/blob"},
    "storage/rocksdb": STORAGE_BASE | {"storage/file", "storage/blob", "storage/index"},
    "storage/origin": STORAGE_BASE | {"storage/blob"},
    "config": BASE | {"proto"},
    "server/core": CORE,
    "server/metrics": CORE | {"server/core"},
    "server/rpc": CORE | {"server/core", "server/metrics"},
    "server/wiring": CORE | {"server/core", "server/rpc", "server/metrics", "config"},
    "server": CORE | {"server/core", "server/rpc", "server/metrics", "server/wiring", "config"},
    "client/transport": KERNELS | {"proto"},
    "client/device": KERNELS | {"proto", "kernels/cuda", "client/transport"},
    "client/kdn": KERNELS | {"proto", "client/transport", "client/device"},
    "client/kdnctl": {"client/kdn"} | KERNELS,
    "client/python": {"client/kdn"},
    "client/engines": {"client/kdn"},
}

# Headers that only some modules may see: prefix -> modules, a folder standing for all of its modules.
CONFINED = {
    "rocksdb/": ("storage/rocksdb",),
    "grpcpp/": ("server/rpc", "server/wiring", "client/transport"),
    "grpc/": ("server/rpc", "client/transport"),
    "cuda": ("kernels/cuda", "client/device"),
    "prometheus/": ("server/metrics", "server/wiring"),
    "yaml-cpp/": ("config",),
    "spdlog/": ("kernels/base",),
    "openssl/": ("kernels/base", "server/rpc", "client/transport"),
    "isa-l": ("kernels/base",),
    "liburing": ("storage/file",),
    "CLI/": ("client/kdnctl",),
    "google/protobuf/": ("storage", "server", "client"),
    # Storage sees the persisted records of proto, not the services.
    "kdn/v1/kdn.": ("server/rpc", "client/transport", "client/kdn"),
    "kdn/v1/admin.": ("server/rpc", "client/kdn"),
}


def module_of(path):
    parts = path.split("/")
    if path.startswith("kdn/v1/"):
        return "proto"
    if parts[0] in ("config", "proto"):
        return parts[0]
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def source_files():
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".h", ".cc", ".cu", ".cuh") and "build" not in path.relative_to(ROOT).parts:
                yield path


def check_file(path, edges, problems):
    name = path.relative_to(ROOT).as_posix()
    module = module_of(name)
    if module not in ALLOWED:
        problems.append(f"{name}: module {module} is not in the layer table of tests/lint/include_graph.py")
        return
    for quote, target in INCLUDE.findall(path.read_text(encoding="utf-8")):
        for prefix, owners in CONFINED.items():
            if target.startswith(prefix) and not any(module == o or module.startswith(o + "/") for o in owners):
                problems.append(f"{name}: includes {target}, which only {', '.join(owners)} may see")
        # Google style quotes third-party headers too: ours are those that start with one of our folders.
        if quote != '"' or (target.split("/")[0] not in SOURCES and not target.startswith("kdn/v1/")):
            continue
        other = module_of(target)
        if other != "proto" and not (ROOT / target).is_file():
            problems.append(f'{name}: "{target}" does not name a file from the repository root')
        elif other != module:
            edges.setdefault(module, set()).add(other)
            if other not in ALLOWED[module]:
                problems.append(f"{name}: {module} may not include {other} ({target})")


def find_cycle(edges):
    state, stack = {}, []

    def visit(module):
        state[module] = "open"
        stack.append(module)
        for other in sorted(edges.get(module, ())):
            if state.get(other) == "open":
                return stack[stack.index(other):] + [other]
            if other not in state:
                cycle = visit(other)
                if cycle:
                    return cycle
        stack.pop()
        state[module] = "done"
        return None

    for module in sorted(edges):
        if module not in state:
            cycle = visit(module)
            if cycle:
                return cycle
    return None


def main():
    edges, problems, count = {}, [], 0
    for path in source_files():
        count += 1
        check_file(path, edges, problems)
    cycle = find_cycle(edges)
    if cycle:
        problems.append("cycle of modules: " + " -> ".join(cycle))
    for problem in problems:
        print(problem)
    print(f"{count} files, {sum(map(len, edges.values()))} arrows between modules, {len(problems)} problems")
    return 1 if problems or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
