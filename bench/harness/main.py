"""Command line of bench/run: chooses a benchmark, builds its programs, runs it, prints and writes its report."""
import argparse
import importlib
import os
import pathlib
import shlex
import subprocess
import sys

import report as report_module

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "release"

# One module of this folder per benchmark, with SUMMARY, TARGETS (CMake targets it runs), run(options, report) and, for
# options of its own, add_options(parser).
BENCHMARKS = ("baselines", "foundation", "codec", "storage", "quality", "rates")


class Options:
    """What a benchmark needs to know."""

    def __init__(self, arguments, build, data):
        self.arguments = arguments  # as parsed, with the benchmark's own
        self.quick = arguments.quick  # fewer and shorter rounds: for a look, not for a figure
        self.build = build  # folder that holds the built programs
        self.data = data  # $KDN_DATA as a path, or None

    def program(self, *parts):
        path = self.build.joinpath(*parts)
        if not path.exists():
            sys.exit(f"bench: {path} was not built; is its package installed? (deploy/install-deps bench)")
        return str(path)


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="bench/run",
        description="Builds what a benchmark needs (preset release, in build/release), runs it against its baselines "
                    "in the same interleaved rounds, prints one table and writes JSON.",
        epilog="Benchmarks that want traces, long texts or real KV read $KDN_DATA and $KDN_KV and say when they are "
               "unset.")
    parser.add_argument("name", help="a benchmark, or 'list' to see all, or 'show' to print a report")
    parser.add_argument("report", nargs="?", type=pathlib.Path, metavar="FILE.json", help="what 'show' prints")
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE.json", help="write the report there")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--no-build", action="store_true", help="use the programs as they are in build/release")
    named = next((argument for argument in arguments if argument in BENCHMARKS), None)
    if named and hasattr(module := importlib.import_module(named), "add_options"):
        module.add_options(parser)
    return parser.parse_args(arguments)


def build(targets):
    subprocess.run([str(ROOT / "deploy" / "install-deps"), "build", "test", "bench"], check=True)
    if not (BUILD / "CMakeCache.txt").exists():
        subprocess.run(["cmake", "--preset", "release"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "-DKDN_BUILD_BENCH=ON", str(BUILD)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", str(BUILD), "--parallel", str(os.cpu_count()), "--target", *targets],
                   check=True)


def main(arguments):
    args = parse(arguments)
    if args.name == "list":
        for name in BENCHMARKS:
            print(f"{name:12} {importlib.import_module(name).SUMMARY}")
        return 0
    if args.name == "show":
        if not args.report:
            print("bench: show takes a report, such as one of bench/results", file=sys.stderr)
            return 2
        report_module.Report.read(args.report).print()
        return 0
    if args.report:
        print(f"bench: {args.name} takes no FILE.json; write to one with --out", file=sys.stderr)
        return 2
    if args.name not in BENCHMARKS:
        print(f"bench: no benchmark '{args.name}' (one of: {', '.join(BENCHMARKS)})", file=sys.stderr)
        return 2
    benchmark = importlib.import_module(args.name)
    if not args.no_build:
        build(benchmark.TARGETS)
    data = os.environ.get("KDN_DATA")
    options = Options(args, BUILD, pathlib.Path(data) if data else None)
    report = report_module.Report(args.name, "bench/run " + shlex.join(arguments), ROOT, args.quick)
    benchmark.run(options, report)
    report.finish()
    report.print()
    if args.out:
        report.write(args.out)
        print(f"\nwritten: {args.out}")
    return 0
