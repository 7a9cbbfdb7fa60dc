"""KDN beside plain TCP and Redis: the same objects, the same rounds."""
import contextlib
import subprocess
import tempfile

import baselines
import contender as contenders
from baselines import IPERF, PLAIN, REDIS
from contender import MIB, Cell

SUMMARY = "Store and Retrieve through kdnd beside plain TCP, iperf3 and Redis: throughput, CPU on both sides, memory"
TARGETS = (*baselines.TARGETS, "bench_kdn", "kdnd")

KDN = "KDN"
# Calls through KvView, and the container call that a plain socket's task is compared with.
END_TO_END = {"load-raw": "retrieve", "load-lossless": "retrieve", "save-raw": "store", "save-lossless": "store"}
SERVER_FLAGS = ("--memory.ram_tier=2GiB", "--storage.capacity=16GiB", "--storage.sync=batch", "--metrics.listen=",
                "--log.level=warn")


def run(options, report):
    rounds, milliseconds = baselines.schedule(options.quick)
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(baselines.plain_tcp(options))
        redis = stack.enter_context(baselines.redis_hiredis(options))
        kdn = stack.enter_context(kdn_client(options))
        iperf = stack.enter_context(baselines.Iperf(seconds=1))
        pairs = []
        for cell in baselines.cells():
            pairs += [(kdn, cell), *baselines.baseline_pairs(plain, redis, cell)]
            pairs += [(kdn, Cell(operation, cell.object_bytes, cell.in_flight))
                      for operation, like in END_TO_END.items() if like == cell.operation]
        samples = contenders.interleave(pairs, rounds, milliseconds, iperf.measure)
    report_kdn(report, samples)
    baselines.report_baselines(report, samples, iperf.samples)
    report.note("retrieve: containers of raw KV from the RAM tier, every byte verified, into a contiguous buffer. store: "
                "verified by the server and written to segments (sync: batch); Redis and plain TCP only keep it in "
                "memory. load/save: end to end from and to an engine's KV layout, payload is KV before coding.")


def report_kdn(report, samples):
    for (name, cell) in samples:
        if name != KDN:
            continue
        like = Cell(END_TO_END.get(cell.operation, cell.operation), cell.object_bytes, cell.in_flight)
        baselines.report_cell(report, KDN, cell, samples[name, cell], PLAIN, samples[PLAIN, like])
        if cell.operation in END_TO_END:
            continue
        case = f"{cell.case()}, {KDN}"
        report.row(case, "throughput", baselines.speed(samples[name, cell]), "GB/s", REDIS,
                   baselines.speed(samples[REDIS, like]))
        if cell.in_flight == baselines.PIPELINE_DEPTH:
            pipelined = Cell(like.operation, like.object_bytes, like.in_flight, "pipelined")
            report.row(case, "throughput", baselines.speed(samples[name, cell]), "GB/s", f"{PLAIN} pipelined",
                       baselines.speed(samples[PLAIN, pipelined]))
        report.row(case, "server RSS", [sample.server_rss_bytes / MIB for sample in samples[name, cell]], "MiB",
                   REDIS, [sample.server_rss_bytes / MIB for sample in samples[REDIS, like]])


@contextlib.contextmanager
def kdn_client(options):
    port = baselines.free_port()
    with tempfile.TemporaryDirectory(prefix="bench-kdnd-", dir=options.build) as folder:
        command = [options.program("server", "kdnd"), f"--server.listen=127.0.0.1:{port}",
                   f"--storage.path={folder}", *SERVER_FLAGS]
        with contenders.notifying_server(command, stdout=subprocess.DEVNULL) as server:
            client = contenders.Contender(KDN, [options.program("bench", "bench_kdn"), f"127.0.0.1:{port}",
                                                str(server.pid)])
            yield client
            client.close()
