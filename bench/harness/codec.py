"""The lossless codec: size, and speed per core and instruction set."""
import json
import os
import pathlib
import subprocess
import sys

from contender import GB

SUMMARY = "the lossless profile on one core: ratio, encode and decode GB/s per instruction set, beside memcpy"
TARGETS = ("bench_codec",)

ISAS = ("scalar", "avx2", "avx512")
ISA_FLAGS = {"scalar": None, "avx2": "avx2", "avx512": "avx512bw"}  # as report.machine() names them
ACTIONS = ("encode", "decode")
ROUNDS, CELL_MS = 7, 400
QUICK_ROUNDS, QUICK_CELL_MS = 3, 150
SYNTHETIC = {"dtype": "bf16", "layers": 16, "heads": 8, "tokens": 1024, "dim": 128}
MEMCPY = "memcpy"


def run(options, report):
    rounds, milliseconds = (QUICK_ROUNDS, QUICK_CELL_MS) if options.quick else (ROUNDS, CELL_MS)
    isas = [isa for isa in ISAS if not ISA_FLAGS[isa] or ISA_FLAGS[isa] in report.head["machine"]["isa"]]
    inputs = load_inputs(report)
    samples = {}
    for number in range(rounds):
        print(f"bench: round {number + 1} of {rounds}", file=sys.stderr)
        for name, arguments in inputs.items():
            samples.setdefault((name, "copy", "scalar"), []).append(
                measure(options, arguments, "copy", "scalar", milliseconds))
            for action in ACTIONS:
                for isa in isas:
                    samples.setdefault((name, action, isa), []).append(
                        measure(options, arguments, action, isa, milliseconds))
    for name, arguments in inputs.items():
        report.row(f"{name}, all bytes of the containers", "raw / stored",
                   [ratio(options, arguments, isas[-1])], "")
    for (name, action, isa), results in samples.items():
        if action == "copy":
            report.row(f"{name}, {MEMCPY}", "throughput", speed(results), "GB/s per core")
        else:
            report.row(f"{name}, {action} {isa}", "throughput", speed(results), "GB/s per core", MEMCPY,
                       speed(samples[name, "copy", "scalar"]))
    report.note("throughput is bytes of KV (not of code) per second of CPU time of one thread.")


def load_inputs(report):
    """KV to code, by name: arguments of bench_codec that describe it."""
    paths = os.environ.get("KDN_KV", "")
    inputs = {}
    for path in filter(None, paths.split(":")):
        about = json.loads(pathlib.Path(path).read_text())
        name = f"{about['model']} {about['dtype']} on {about['text']}"
        inputs[name] = [str(pathlib.Path(path).with_suffix(".bin")), *describe(about)]
        report.note(f"{name}: {json.dumps(about)}")
    if not inputs:
        report.note("KDN_KV is unset: SYNTHETIC KV, whose ratio says little about a model's. See bench/codec/dump_kv.py.")
        inputs["SYNTHETIC bf16"] = ["synthetic", *describe(SYNTHETIC)]
    return inputs


def describe(about):
    return [str(about[key]) for key in ("dtype", "layers", "heads", "tokens", "dim")]


def measure(options, arguments, action, isa, milliseconds):
    command = [options.program("bench", "bench_codec"), *arguments, action, isa, str(milliseconds)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def ratio(options, arguments, isa):
    result = measure(options, arguments, "containers", isa, 0)
    return result["raw_bytes"] / result["container_bytes"]


def speed(results):
    return [result["raw_bytes"] / GB / result["cpu_s"] for result in results]
