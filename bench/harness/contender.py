"""Runs contenders (bench/common/contender.h) and measures cells in interleaved rounds."""
import contextlib
import dataclasses
import json
import os
import pathlib
import select
import socket
import subprocess
import sys
import tempfile

KIB = 1 << 10
MIB = 1 << 20
GB = 1e9
START_TIMEOUT_S = 30


@dataclasses.dataclass(frozen=True)
class Cell:
    """What is measured: one operation, on objects of one size, so many at a time, in a mode of the contender."""
    operation: str
    object_bytes: int
    in_flight: int
    mode: str = "lockstep"

    def case(self):
        return f"{self.operation} {size(self.object_bytes)} x{self.in_flight}"


@dataclasses.dataclass(frozen=True)
class Sample:
    gb_per_s: float
    client_cpu_s_per_gb: float
    server_cpu_s_per_gb: float
    server_rss_bytes: int
    client_rss_bytes: int


def size(count):
    return f"{count // MIB} MiB" if count % MIB == 0 else f"{count // KIB} KiB"


class Contender:
    """A client process that measures one cell per line asked."""

    def __init__(self, name, command, env=None):
        self.name = name
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def measure(self, cell, milliseconds):
        self._process.stdin.write(
            f"{cell.operation} {cell.object_bytes} {cell.in_flight} {cell.mode} {milliseconds}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"bench: {self.name} ended in cell {cell}")
        result = json.loads(line)
        payload_gb = result["payload_bytes"] / GB
        return Sample(payload_gb / result["seconds"], result["client_cpu_s"] / payload_gb,
                      result["server_cpu_s"] / payload_gb, result["server_rss_bytes"], result["client_rss_bytes"])

    def close(self):
        self._process.stdin.close()
        self._process.wait()


@contextlib.contextmanager
def server(command, **kwargs):
    """A server process, stopped at the end of the block."""
    process = subprocess.Popen(command, **kwargs)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def notifying_server(command, **kwargs):
    """A server process that tells systemd when it is ready (NOTIFY_SOCKET), as kdnd and Redis do; waits for that."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kdn-bench-"))
        address = str(pathlib.Path(folder, "notify"))
        told = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        told.bind(address)
        process = stack.enter_context(server(command, env={**os.environ, "NOTIFY_SOCKET": address}, **kwargs))
        ended = os.pidfd_open(process.pid)
        stack.callback(os.close, ended)
        while True:
            readable, _, _ = select.select([told, ended], [], [], START_TIMEOUT_S)
            if told in readable:
                if b"READY=1" in told.recv(4096).split():
                    break
            elif ended in readable:
                sys.exit(f"bench: {command[0]} ended with status {process.wait()}")
            else:
                sys.exit(f"bench: {command[0]} was not ready within {START_TIMEOUT_S} s")
        yield process


def interleave(pairs, rounds, milliseconds, each_round=None):
    """Measures all (contender, cell) pairs once per round and returns {(name, cell): [Sample, ...]}.

    Pairs keep their order, so that what is compared should stand side by side; `each_round()` opens each round. One
    short untimed pass comes first: connections, page faults, filling the servers."""
    for contender, cell in pairs:
        contender.measure(cell, max(1, milliseconds // 10))
    samples = {(contender.name, cell): [] for contender, cell in pairs}
    for number in range(rounds):
        print(f"bench: round {number + 1} of {rounds}", file=sys.stderr)
        if each_round:
            each_round()
        for contender, cell in pairs:
            samples[contender.name, cell].append(contender.measure(cell, milliseconds))
    return samples
