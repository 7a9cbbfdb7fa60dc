"""One chunk at several profiles: each reader is given the smallest that it accepts, and never a lossier one."""

import json

import kv
import pytest
from daemon import kdnctl

TOKENS = list(range(600))  # the last chunk is shorter
WINDOW = 300


@pytest.fixture
def daemon(start):
    return start()


def inspect(daemon, key):
    shown = json.loads(kdnctl(daemon.endpoint, "chunk", "inspect", key, "--verify", "-o", "json").stdout)
    assert shown["verify"] == "ok"
    return shown


def same(data, loaded, windows):
    """Whether all rows are equal that a reader of the whole prefix needs."""
    first = [len(TOKENS) - WINDOW + 1 if layer in windows else 0 for layer in range(len(data))]
    return kv.equal(*([tuple(x[:, row:] for x in pair) for pair, row in zip(pairs, first)] for pairs in (data, loaded)))


@pytest.mark.parametrize("windows", [(), (1,)])
def test_an_exact_writer_comes_after_a_lossy_one(daemon, windows):
    spec = kv.spec(layers=3, head_dim=64, window_layers=windows, window=WINDOW if windows else 0)
    data = kv.make(spec, 600)
    with kv.connect(daemon.endpoint, profile="q4") as coarse, kv.connect(daemon.endpoint) as exact:
        model, coarse_model = exact.register_model(spec), coarse.register_model(spec)
        lossy = coarse.store(coarse_model, TOKENS, data)
        assert coarse.lookup(coarse_model, TOKENS) == 600 and exact.lookup(model, TOKENS) == 0
        loaded = kv.empty(spec, 600)
        missed = exact.retrieve(model, TOKENS, loaded)
        assert missed.tokens_hit == 0

        stored = exact.store(model, TOKENS, data)
        assert stored.chunks_stored == 3 and stored.bytes_sent > 2 * lossy.bytes_sent
        assert exact.lookup(model, TOKENS) == 600
        assert exact.retrieve(model, TOKENS, loaded).tokens_hit == 600
        assert same(data, loaded, windows)
        # The lossy reader still gets what is small; and whoever stores once more sends nothing.
        rounded = kv.empty(spec, 600)
        small = coarse.retrieve(coarse_model, TOKENS, rounded)
        assert small.tokens_hit == 600 and not same(data, rounded, windows)
        assert small.bytes_received < 1.1 * lossy.bytes_sent
        for client, handle in ((exact, model), (coarse, coarse_model)):
            assert client.store(handle, TOKENS, data).bytes_sent == 0

        key = exact.chunk_digests(model, TOKENS)[0].hex()
        shown = inspect(daemon, key)
        assert len(shown["parts"]) == 2 and shown["cells_present"] == shown["cells_total"]
        assert shown["raw_bytes"] == 256 * 3 * 2 * 2 * 64 * 2  # layers, heads, K and V: of the KV, once

        assert json.loads(kdnctl(daemon.endpoint, "chunk", "rm", key, "--yes", "-o", "json").stdout)["chunks"] == 1
        assert coarse.lookup(coarse_model, TOKENS) == 0 and exact.lookup(model, TOKENS) == 0


def test_variants_outlive_a_kill(start):
    daemon = start(storage__sync="always")
    spec = kv.spec(layers=2, head_dim=64)
    data = kv.make(spec, 600)
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(spec)
        client.store(model, TOKENS, data, profile="q4")
        client.store(model, TOKENS, data)
    daemon.restart_after_kill()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(spec)
        loaded, rounded = kv.empty(spec, 600), kv.empty(spec, 600)
        assert client.retrieve(model, TOKENS, loaded).tokens_hit == 600
        assert kv.equal(data, loaded)
        assert client.retrieve(model, TOKENS, rounded, lossiest="q4").tokens_hit == 600
        assert not kv.equal(data, rounded)


def test_kdnctl_finds_and_fetches_what_is_there_whatever_its_profile(daemon, tmp_path):
    spec = kv.spec(layers=2, head_dim=64)
    tokens, data = list(range(256)), kv.make(spec, 256)
    listed = tmp_path / "tokens"
    listed.write_text(" ".join(map(str, tokens)))
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(spec)
        client.store(model, tokens, data, profile="int8")
        found = kdnctl(daemon.endpoint, "lookup", "--tokens", str(listed), "-o", "json").stdout
        assert json.loads(found)["hit_tokens"] == 256
        client.store(model, tokens, data)
        # Of both, the one that loses least.
        key, saved = client.chunk_digests(model, tokens)[0].hex(), tmp_path / "chunk.kdnc"
        kdnctl(daemon.endpoint, "chunk", "get", key, "--out", str(saved))
        kdnctl(daemon.endpoint, "chunk", "rm", key, "--yes")
        kdnctl(daemon.endpoint, "chunk", "put", str(saved))
        loaded = kv.empty(spec, 256)
        assert client.retrieve(model, tokens, loaded).tokens_hit == 256
        assert kv.equal(data, loaded)
