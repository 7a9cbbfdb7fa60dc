"""The two value stores (segments, RocksDB BlobDB) beside plain O_DIRECT files."""
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

from contender import GB, KIB, MIB, size

SUMMARY = "values in segment files and in RocksDB BlobDB beside plain O_DIRECT append and pread"
TARGETS = ("bench_storage",)

PLAIN = "plain O_DIRECT"
KINDS = {PLAIN: "plain", "segments": "segments", "BlobDB": "rocksdb"}
SYNC_MODES = ("none", "batch", "always")
SIZES = (256 * KIB, 2 * MIB)
WRITERS = (1, 4)
READERS = (1, 4, 16)
ROUNDS, FILL_BYTES, READ_MS, KILL_AFTER_S = 5, 1 << 29, 400, 1.0
QUICK_SIZES, QUICK_ROUNDS, QUICK_FILL_BYTES, QUICK_READ_MS = (2 * MIB,), 2, 1 << 28, 150
DELETE_BYTES = 1 << 30  # four groups of 256 MiB
DELETE_ROUNDS, QUICK_DELETE_ROUNDS = 3, 1


class Stores:
    """Runs bench_storage on folders of their own."""

    def __init__(self, program, folder):
        self._program = program
        self._folder = folder

    def path(self, name):
        return os.path.join(self._folder, name)

    def fresh(self, name):
        shutil.rmtree(self.path(name), ignore_errors=True)
        os.mkdir(self.path(name))
        return self.path(name)

    def command(self, kind, sync, folder, *action):
        return [self._program, KINDS[kind], sync, folder, *map(str, action)]

    def measure(self, kind, sync, folder, *action):
        output = subprocess.run(self.command(kind, sync, folder, *action), check=True, stdout=subprocess.PIPE,
                                text=True).stdout
        return json.loads(output.splitlines()[-1])


def run(options, report):
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    with tempfile.TemporaryDirectory(prefix="bench-storage-", dir=options.build) as folder:
        stores = Stores(options.program("bench", "bench_storage"), folder)
        samples = {}
        for number in range(rounds):
            print(f"bench: round {number + 1} of {rounds}", file=sys.stderr)
            measure_round(stores, options.quick, number, samples)
    report_all(report, samples)
    report.note("write: time until everything is put and synced; CPU and bytes written include what the store still "
                "does until it is closed. A commit of the index is not part of it.")
    report.note("delete half: of the oldest half whole groups are dropped (a group it shares stays); of a random half all "
                "groups, and what is still wanted in them is put again first.")


def measure_round(stores, quick, number, samples):
    fill_bytes, read_ms = (QUICK_FILL_BYTES, QUICK_READ_MS) if quick else (FILL_BYTES, READ_MS)

    def add(case, kind, result):
        samples.setdefault(case, {}).setdefault(kind, []).append(result)

    for object_bytes in QUICK_SIZES if quick else SIZES:
        for sync in SYNC_MODES:
            for writers in WRITERS:
                for kind in KINDS:
                    folder = stores.fresh(f"{KINDS[kind]}-{object_bytes}")
                    add(("write", object_bytes, sync, writers), kind,
                        stores.measure(kind, sync, folder, "fill", object_bytes, writers, fill_bytes))
        for kind in KINDS:  # the last fill of each kind is what is read
            drop_page_cache(stores.path(f"{KINDS[kind]}-{object_bytes}"))
        for readers in READERS:
            for kind in KINDS:
                folder = stores.path(f"{KINDS[kind]}-{object_bytes}")
                add(("read", object_bytes, readers), kind,
                    stores.measure(kind, "none", folder, "read", object_bytes, readers, read_ms))
    if number >= (QUICK_DELETE_ROUNDS if quick else DELETE_ROUNDS):
        return
    for kind in KINDS:
        if kind != PLAIN:
            add(("reopen",), kind, reopen_after_kill(stores, kind))
        for which in ("oldest", "random"):
            add(("delete", which), kind, stores.measure(kind, "none", stores.fresh("delete"), "delete-half", which,
                                                        2 * MIB, DELETE_BYTES))


def reopen_after_kill(stores, kind):
    folder = stores.fresh("killed")
    process = subprocess.Popen(stores.command(kind, "batch", folder, "fill-until-killed", 2 * MIB, 1),
                               stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    time.sleep(KILL_AFTER_S)
    process.kill()
    process.wait()
    return stores.measure(kind, "batch", folder, "open")


def drop_page_cache(folder):
    """Makes reads come from the disk, for stores that read through the page cache as for those that do not."""
    for root, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(root, name), "rb") as file, contextlib.suppress(OSError):
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def report_all(report, samples):
    for case, by_kind in samples.items():
        for kind, results in by_kind.items():
            against = None if kind == PLAIN or PLAIN not in by_kind else PLAIN
            baseline = by_kind.get(PLAIN) if against else None
            REPORTERS[case[0]](report, case, kind, results, against, baseline)


def report_write(report, case, kind, results, against, baseline):
    _, object_bytes, sync, writers = case
    name = f"write {size(object_bytes)} x{writers} sync {sync}, {kind}"

    def add(metric, unit, value):
        report.row(name, metric, [value(result) for result in results], unit, against,
                   baseline and [value(result) for result in baseline])
    add("throughput", "GB/s", gb_per_s)
    add("CPU", "s/GB", cpu_s_per_gb)
    add("write amplification", "", lambda result: result["written_bytes"] / result["payload_bytes"])


def report_read(report, case, kind, results, against, baseline):
    _, object_bytes, readers = case
    name = f"random read {size(object_bytes)} x{readers}, {kind}"
    report.row(name, "throughput", [gb_per_s(result) for result in results], "GB/s", against,
               baseline and [gb_per_s(result) for result in baseline])
    report.row(name, "CPU", [cpu_s_per_gb(result) for result in results], "s/GB", against,
               baseline and [cpu_s_per_gb(result) for result in baseline])


def report_reopen(report, case, kind, results, against, baseline):
    name = f"reopen after kill -9 in a fill, {kind}"
    report.row(name, "time", [result["seconds"] for result in results], "s")
    report.row(name, "intact values", [int(result["intact_values"]) for result in results], "")
    report.row(name, "damaged values", [int(result["damaged_values"]) for result in results], "")


def report_delete(report, case, kind, results, against, baseline):
    name = f"delete {case[1]} half of 1 GiB, {kind}"
    for field, metric, unit in (("seconds", "time", "s"), ("occupied_after", "space left", "GB"),
                                ("written_bytes", "rewritten", "GB")):
        scale = 1 if field == "seconds" else GB
        report.row(name, metric, [result[field] / scale for result in results], unit, against,
                   baseline and [result[field] / scale for result in baseline])


REPORTERS = {"write": report_write, "read": report_read, "reopen": report_reopen, "delete": report_delete}


def gb_per_s(result):
    return result["payload_bytes"] / GB / result["seconds"]


def cpu_s_per_gb(result):
    return result["cpu_s"] / (result["payload_bytes"] / GB)
