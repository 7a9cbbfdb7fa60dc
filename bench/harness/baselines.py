"""The baselines alone: plain TCP beside iperf3, and Redis with hiredis."""
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import contender as contenders
from contender import KIB, MIB, Cell

SUMMARY = "plain TCP request/response beside iperf3, and Redis 7 with hiredis: what KDN is measured against"
TARGETS = ("bench_plain_tcp", "bench_redis_hiredis")

SIZES = (256 * KIB, 2 * MIB, 16 * MIB)
IN_FLIGHT = (1, 4)
OPERATIONS = ("retrieve", "store")
PIPELINE_DEPTH = 4
ROUNDS, CELL_MS = 7, 500
QUICK_ROUNDS, QUICK_CELL_MS = 3, 150
REDIS_MEMORY = "2gb"

PLAIN, REDIS, IPERF = "plain TCP", "Redis", "iperf3"


def cells():
    return [Cell(operation, object_bytes, in_flight)
            for operation in OPERATIONS for object_bytes in SIZES for in_flight in IN_FLIGHT]


def schedule(quick):
    return (QUICK_ROUNDS, QUICK_CELL_MS) if quick else (ROUNDS, CELL_MS)


def run(options, report):
    rounds, milliseconds = schedule(options.quick)
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(plain_tcp(options))
        redis = stack.enter_context(redis_hiredis(options))
        iperf = stack.enter_context(Iperf(seconds=1))
        pairs = [pair for cell in cells() for pair in baseline_pairs(plain, redis, cell)]
        samples = contenders.interleave(pairs, rounds, milliseconds, iperf.measure)
    report_baselines(report, samples, iperf.samples)


def baseline_pairs(plain, redis, cell):
    """What every benchmark of the foundation measures beside a KDN cell, in this order."""
    pairs = [(plain, cell)]
    if cell.in_flight == PIPELINE_DEPTH:
        pairs.append((plain, Cell(cell.operation, cell.object_bytes, cell.in_flight, "pipelined")))
    pairs.append((redis, cell))
    return pairs


def report_baselines(report, samples, iperf_samples):
    report.row(f"one stream, {IPERF}", "throughput", iperf_samples, "GB/s")
    best = best_single_stream(samples)
    report.row(f"one stream, {PLAIN} ({best.case()}, {best.mode})", "throughput", speed(samples[PLAIN, best]), "GB/s",
               IPERF, iperf_samples)
    for (name, cell) in samples:
        if name not in (PLAIN, REDIS):
            continue
        label = name if cell.mode == "lockstep" else f"{name} {cell.mode}"
        report_cell(report, label, cell, samples[name, cell],
                    None if name == PLAIN else PLAIN, samples.get((PLAIN, cell)))


def best_single_stream(samples):
    """The plain program's cell that shows what it gets out of one connection, as iperf3 does."""
    single = [cell for name, cell in samples
              if name == PLAIN and (cell.in_flight == 1 or cell.mode == "pipelined")]
    return max(single, key=lambda cell: sorted(speed(samples[PLAIN, cell]))[len(samples[PLAIN, cell]) // 2])


def report_cell(report, label, cell, samples, baseline=None, baseline_samples=None):
    """Rows of one contender in one cell: throughput, CPU on both sides, server memory."""
    if baseline is None:
        baseline_samples = None
    case = f"{cell.case()}, {label}"
    report.row(case, "throughput", speed(samples), "GB/s", baseline, baseline_samples and speed(baseline_samples))
    for side in ("client", "server"):
        field = f"{side}_cpu_s_per_gb"
        report.row(case, f"{side} CPU", [getattr(sample, field) for sample in samples], "s/GB",
                   baseline, baseline_samples and [getattr(sample, field) for sample in baseline_samples])


def speed(samples):
    return [sample.gb_per_s for sample in samples]


@contextlib.contextmanager
def plain_tcp(options):
    program = options.program("bench", "bench_plain_tcp")
    with contenders.server([program, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        port = server.stdout.readline().strip()
        client = contenders.Contender(PLAIN, [program, "client", port, str(server.pid)])
        yield client
        client.close()


@contextlib.contextmanager
def redis_hiredis(options):
    program = options.program("bench", "bench_redis_hiredis")
    redis = shutil.which("redis-server")
    if not redis:
        sys.exit("bench: redis-server is not installed (deploy/install-deps bench)")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="kdn-bench-redis-") as folder:
        command = [redis, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                   "--dir", folder, "--maxmemory", REDIS_MEMORY, "--daemonize", "no", "--supervised", "systemd"]
        with contenders.notifying_server(command, stdout=subprocess.DEVNULL) as server:
            client = contenders.Contender(REDIS, [program, str(port), str(server.pid)])
            yield client
            client.close()


class Iperf:
    """iperf3 over loopback, one stream, default options: the ceiling the plain program must come near."""

    def __init__(self, seconds):
        self._seconds = seconds
        self._port = free_port()
        self.samples = []  # GB/s, one per measure()

    def __enter__(self):
        if not shutil.which("iperf3"):
            sys.exit("bench: iperf3 is not installed (deploy/install-deps bench)")
        self._server = subprocess.Popen(["iperf3", "--server", "--bind", "127.0.0.1", "--port", str(self._port)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *error):
        self._server.terminate()
        self._server.wait()

    def measure(self):
        for _ in range(25):  # the server needs a moment to start, and between two clients
            output = subprocess.run(["iperf3", "--client", "127.0.0.1", "--port", str(self._port), "--time",
                                     str(self._seconds), "--json"], capture_output=True, text=True).stdout
            result = json.loads(output)
            if "error" not in result:
                self.samples.append(result["end"]["sum_received"]["bits_per_second"] / 8 / contenders.GB)
                return
            time.sleep(0.2)
        sys.exit(f"bench: iperf3: {result['error']}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
