"""kill -9: what was acknowledged is there, what comes back is right, and the daemon starts again."""

import random
import threading
import time

import kdn
import kv
import numpy as np
import pytest
from daemon import Daemon

REOPEN_LIMIT_S = 5.0


class Oracle:
    """Writer threads that store small texts and remember which of them were acknowledged."""

    def __init__(self, endpoint, model_spec, first):
        self.acknowledged = {}
        self._lock = threading.Lock()
        self._next = first
        self._threads = [threading.Thread(target=self._run, args=(endpoint, model_spec)) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def _run(self, endpoint, model_spec):
        try:
            with kv.connect(endpoint) as client:
                model = client.register_model(model_spec, 64)
                while True:
                    with self._lock:
                        number, self._next = self._next, self._next + 1
                    result = client.store(model, tokens_of(number), kv.make(model_spec, 64, number))
                    if result.tokens_present == 64:
                        with self._lock:
                            self.acknowledged[number] = True
        except kdn.KdnError:
            return  # the daemon was killed

    def join(self):
        for thread in self._threads:
            thread.join()
        return self._next


def tokens_of(number):
    return [number * 64 + i for i in range(64)]


def check(endpoint, model_spec, numbers, must_hit):
    """Loads every text: right bytes or a miss; returns the number of hits."""
    hits = 0
    with kv.connect(endpoint) as client:
        model = client.register_model(model_spec, 64)
        for number in numbers:
            loaded = kv.empty(model_spec, 64)
            got = client.retrieve(model, tokens_of(number), loaded)
            if got.tokens_hit == 64:
                hits += 1
                assert kv.equal(loaded, kv.make(model_spec, 64, number)), f"wrong bytes for text {number}"
            else:
                assert number not in must_hit, f"text {number} was acknowledged and is lost: {got}"
    return hits


def kill_loop(tmp_path, cycles, seed):
    spec = kv.spec(layers=2, kv_heads=1, head_dim=32)
    rng = random.Random(seed)
    daemon = Daemon(tmp_path / "data", storage__sync="always", storage__segment_bytes="4MiB").start()
    acknowledged, first = set(), 0
    for _ in range(cycles):
        oracle = Oracle(daemon.endpoint, spec, first)
        time.sleep(rng.uniform(0.005, 0.25))  # when the kill comes is the random input of this test
        daemon.kill()
        first = oracle.join()
        acknowledged |= set(oracle.acknowledged)
        began = time.monotonic()
        daemon.start()
        assert time.monotonic() - began < REOPEN_LIMIT_S
        recent = range(max(0, first - 40), first)
        check(daemon.endpoint, spec, recent, acknowledged)
    hits = check(daemon.endpoint, spec, range(first), acknowledged)
    assert hits >= len(acknowledged) > 0
    daemon.stop()
    return len(acknowledged)


def test_acknowledged_stores_survive_five_kills(tmp_path):
    kill_loop(tmp_path, 5, seed=1)


@pytest.mark.torture
def test_acknowledged_stores_survive_a_hundred_kills(tmp_path):
    print(kill_loop(tmp_path, 100, seed=2), "stores acknowledged, all there")


@pytest.mark.parametrize("sync", ["batch", "none"])
def test_other_modes_lose_at_most_what_they_may_and_never_lie(start, sync):
    spec = kv.spec(layers=2, kv_heads=1)
    daemon = start(storage__sync=sync)
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(spec, 64)
        for number in range(20):
            client.store(model, tokens_of(number), kv.make(spec, 64, number))
        client.admin("Flush")
        for number in range(20, 40):
            client.store(model, tokens_of(number), kv.make(spec, 64, number))
    daemon.restart_after_kill()
    check(daemon.endpoint, spec, range(40), set(range(20)))


def test_clean_stop_keeps_everything(start):
    spec = kv.spec(layers=2, kv_heads=1)
    daemon = start(storage__sync="none")
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(spec, 64)
        for number in range(20):
            client.store(model, tokens_of(number), kv.make(spec, 64, number))
    assert daemon.stop() == 0
    daemon.start()
    assert check(daemon.endpoint, spec, range(20), set(range(20))) == 20


def damage(rng, path):
    """Flips a bit of, or truncates, a file."""
    content = bytearray(path.read_bytes())
    if not content:
        return
    if rng.random() < 0.2:
        del content[rng.randrange(len(content)) :]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def corruption_loop(tmp_path, rounds, values):
    spec = kv.spec(layers=2, kv_heads=1)
    rng = random.Random(rounds)
    daemon = Daemon(tmp_path / "data", storage__values=values, storage__sync="always").start()
    served = 0
    for _ in range(rounds):
        with kv.connect(daemon.endpoint) as client:
            model = client.register_model(spec, 64)
            for number in range(12):
                client.store(model, tokens_of(number), kv.make(spec, 64, number))
        daemon.stop()
        files = sorted(p for p in daemon.data.rglob("*") if p.is_file() and "tenants" not in p.name and p.name != "LOCK")
        damage(rng, rng.choice(files))
        daemon.start()
        served += check(daemon.endpoint, spec, range(12), set())
    assert daemon.stop() == 0
    return served


@pytest.mark.parametrize("values", ["segments", "rocksdb"])
def test_damaged_files_never_give_wrong_bytes(tmp_path, values):
    assert corruption_loop(tmp_path, 6, values) > 0


@pytest.mark.torture
@pytest.mark.parametrize("values", ["segments", "rocksdb"])
def test_many_damaged_files_never_give_wrong_bytes(tmp_path, values):
    assert corruption_loop(tmp_path, 60, values) > 0


def test_server_vanishing_in_a_retrieve_gives_a_miss_list(start):
    spec = kv.spec(layers=16, kv_heads=4, head_dim=128)
    daemon = start()
    tokens = list(range(256 * 16))
    data = kv.make(spec, len(tokens))
    with kv.connect(daemon.endpoint, profile="raw") as client:
        model = client.register_model(spec)
        client.store(model, tokens, data)
        loaded = kv.empty(spec, len(tokens))
        operation = client.retrieve_async(model, tokens, loaded)
        daemon.kill()
        try:
            got = operation.wait()
        except kdn.KdnError as error:
            assert error.code == "UNAVAILABLE"
            return
        assert kv.equal(loaded, data, got.tokens_hit)
        if got.tokens_hit < len(tokens):
            assert sum(got.misses.values()) == got.chunks - got.chunks_loaded


def test_a_dead_server_costs_once(start):
    daemon = start()
    daemon.kill()
    with kdn.Client(daemon.endpoint) as client:
        for _ in range(50):
            with pytest.raises(kdn.KdnError) as error:
                client.register_model(kv.spec())
            assert error.value.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        assert client.counters()["breaker"] == "open"
        assert client.counters()["calls_refused_by_breaker"] >= 45


def test_unused_arrays_stay_untouched_after_cancel(start):
    spec = kv.spec(layers=16, kv_heads=4, head_dim=128)
    daemon = start()
    tokens = list(range(256 * 8))
    with kv.connect(daemon.endpoint, profile="raw") as client:
        model = client.register_model(spec)
        client.store(model, tokens, kv.make(spec, len(tokens)))
        loaded = kv.empty(spec, len(tokens))
        operation = client.retrieve_async(model, tokens, loaded)
        operation.cancel()
        before = [tuple(x.copy() for x in pair) for pair in loaded]
        try:
            operation.wait()
        except kdn.KdnError as error:
            assert error.code == "CANCELLED"
        other = kv.empty(spec, 256)
        assert client.retrieve(model, tokens[:256], other).tokens_hit == 256
        assert all(np.array_equal(x, y) for a, b in zip(before, loaded) for x, y in zip(a, b))
