"""The lossy profile int8: what comes back is close, what it cannot hold comes back exactly, and it is never silent."""

import dataclasses
import json

import kdn
import kv
import numpy as np
import pytest
from daemon import kdnctl


def values(elements):
    """fp32 values of bf16 bit patterns."""
    return (elements.astype(np.uint32) << 16).view(np.float32)


def largest_error(data, loaded, step_rows=256):
    """Largest |difference| in half steps: a step is 1/127 of the channel's (K) or token's (V) largest magnitude."""
    worst = 0.0
    for pair, got in zip(data, loaded):
        for plane, other, kind in zip(pair, got, "kv"):
            for begin in range(0, plane.shape[1], step_rows):
                x, y = values(plane[:, begin : begin + step_rows]), values(other[:, begin : begin + step_rows])
                step = np.abs(x).max(axis=1 if kind == "k" else 2, keepdims=True) / 127
                # The scale is a bf16 number, and so is what comes back.
                slack = step * 2**-8 + np.abs(y) * 2**-8
                worst = max(worst, float(((np.abs(x - y) - slack) / (step / 2)).max()))
    return worst


def inspect(daemon, client, model, tokens, chunk=0):
    key = client.chunk_digests(model, tokens)[chunk].hex()
    return json.loads(kdnctl(daemon.endpoint, "chunk", "inspect", key, "--verify", "-o", "json").stdout)


def tiles(inspected):
    return [part["tiles_by_profile"] for part in inspected["parts"]]


@pytest.fixture
def daemon(start):
    return start()


def test_values_come_back_within_half_a_step(daemon):
    spec = kv.spec(layers=4, kv_heads=3, head_dim=64, window_layers=(1,), window=512)
    tokens, data = list(range(600)), kv.make(spec, 600)
    with kv.connect(daemon.endpoint, profile="int8") as client:
        model = client.register_model(spec)
        stored = client.store(model, tokens, data)
        assert stored.tokens_present == 600
        raw_bytes = sum(plane.nbytes for pair in data for plane in pair)
        assert raw_bytes / stored.bytes_sent > 1.9
        loaded = kv.empty(spec, 600)
        assert client.retrieve(model, tokens, loaded).tokens_hit == 600
        assert largest_error(data, loaded) <= 1
        assert not kv.equal(data, loaded), "nothing was rounded: this was not int8"
        shown = inspect(daemon, client, model, tokens)
        assert shown["profile"] == "int8" and shown["verify"] == "ok"
        assert tiles(shown) == [{"int8": 24}]
        assert " int8 " in kdnctl(daemon.endpoint, "chunk", "ls").stdout


def test_latents_come_back_within_half_a_step(daemon):
    base = kv.spec(layers=2, kv_heads=1, head_dim=64)
    latent = kdn.LayerSpec(kdn.AttentionKind.LATENT, 0, 1, 576, 0, 0)
    spec = dataclasses.replace(
        base, ropes=(dataclasses.replace(base.ropes[0], rotary_offset=512),), layers=(latent, latent)
    )
    rng = np.random.default_rng(1)
    tokens = list(range(300))
    data = [(kv.to_bf16(rng.normal(size=(1, 300, 576))), None) for _ in range(2)]
    with kv.connect(daemon.endpoint, profile="int8") as client:
        model = client.register_model(spec)
        client.store(model, tokens, data)
        loaded = [(np.zeros_like(k), None) for k, _ in data]
        assert client.retrieve(model, tokens, loaded).tokens_hit == 300
        assert largest_error([(k,) for k, _ in data], [(k,) for k, _ in loaded]) <= 1
        assert tiles(inspect(daemon, client, model, tokens)) == [{"int8": 2}]


def test_tiles_it_cannot_hold_come_back_exactly_and_are_shown(daemon):
    spec = kv.spec(layers=2, kv_heads=2, head_dim=64)
    tokens, data = list(range(256)), kv.make(spec, 256)
    data[0][0][1, 17, 3] = 0x7FC0  # NaN in K of layer 0, head 1
    data[1][1][0, 200, 60] = 0xFF80  # minus infinity in V of layer 1, head 0
    with kv.connect(daemon.endpoint, profile="int8") as client:
        model = client.register_model(spec)
        client.store(model, tokens, data)
        loaded = kv.empty(spec, 256)
        assert client.retrieve(model, tokens, loaded).tokens_hit == 256
        assert np.array_equal(loaded[0][0][1], data[0][0][1]) and np.array_equal(loaded[1][1][0], data[1][1][0])
        assert not np.array_equal(loaded[0][0][0], data[0][0][0])
        assert tiles(inspect(daemon, client, model, tokens)) == [{"int8": 6, "lossless": 2}]


def test_a_store_may_choose_its_own_profile(daemon):
    spec = kv.spec(layers=1, head_dim=64)
    tokens, data = list(range(256)), kv.make(spec, 256)
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(spec)
        client.store(model, tokens, data, profile="int8")
        assert inspect(daemon, client, model, tokens)["profile"] == "int8"


@pytest.mark.parametrize("second", ["int8", "q4", "lossless"])
def test_what_loses_no_less_than_what_is_there_is_not_sent(daemon, second):
    spec = kv.spec(layers=2, head_dim=64)
    tokens, data = list(range(256)), kv.make(spec, 256)
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(spec)
        client.store(model, tokens, data)
        again = client.store(model, tokens, data, profile=second)
        assert again.chunks_skipped == 1 and again.bytes_sent == 0
        assert inspect(daemon, client, model, tokens)["profile"] == "lossless"
        loaded = kv.empty(spec, 256)
        client.retrieve(model, tokens, loaded, lossiest="int8")
        assert kv.equal(data, loaded)


def test_rounded_values_are_a_miss_for_who_did_not_ask_for_them(daemon):
    spec = kv.spec(layers=2, head_dim=64)
    tokens, data = list(range(512)), kv.make(spec, 512)
    with kv.connect(daemon.endpoint) as exact, kv.connect(daemon.endpoint, profile="q4") as coarse:
        model = exact.register_model(spec)
        exact.store(model, tokens[:256], [tuple(x[:, :256] for x in pair) for pair in data])
        exact.store(model, tokens, data, profile="int8")
        loaded = kv.empty(spec, 512)
        got = exact.retrieve(model, tokens, loaded)
        assert got.tokens_hit == 256
        assert kv.equal(*([tuple(x[:, :256] for x in pair) for pair in pairs] for pairs in (data, loaded)))
        assert got.misses == {"incompatible": 1}
        assert exact.retrieve(model, tokens, loaded, lossiest="int8").tokens_hit == 512
        assert coarse.retrieve(coarse.register_model(spec), tokens, loaded).tokens_hit == 512
        with pytest.raises(kdn.KdnError, match='no profile "int9"'):
            exact.retrieve(model, tokens, loaded, lossiest="int9")


def test_ranks_of_different_profiles_share_a_chunk(daemon, tmp_path):
    spec = kv.spec(layers=2, kv_heads=2, head_dim=128)  # lossless tiles of 128 tokens, int8 tiles of 256
    tokens, data = list(range(256)), kv.make(spec, 256)
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(spec)
        for rank, profile in enumerate(("lossless", "int8")):
            held = [tuple(x[rank : rank + 1] for x in pair) for pair in data]
            client.store(model, tokens, held, head_begin=rank, profile=profile)
        loaded = kv.empty(spec, 256)
        assert client.retrieve(model, tokens, loaded, lossiest="int8").tokens_hit == 256
        assert all(np.array_equal(x[0], y[0]) for a, b in zip(data, loaded) for x, y in zip(a, b))
        assert largest_error(data, loaded) <= 1
        shown = inspect(daemon, client, model, tokens)
        assert sorted(map(str, tiles(shown))) == ["{'int8': 4}", "{'lossless': 8}"]
        key = client.chunk_digests(model, tokens)[0].hex()
        refused = kdnctl(daemon.endpoint, "chunk", "get", key, "--out", str(tmp_path / "chunk.kdnc"), check=None)
        assert refused.returncode != 0 and "tile tokens (128 and 256)" in refused.stderr


def test_a_container_travels_out_and_in_again(daemon, tmp_path):
    spec = kv.spec(layers=2, head_dim=64)
    tokens, data = list(range(256)), kv.make(spec, 256)
    saved = tmp_path / "chunk.kdnc"
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(spec)
        client.store(model, tokens, data, profile="int8")
        key = client.chunk_digests(model, tokens)[0].hex()
        kdnctl(daemon.endpoint, "chunk", "get", key, "--out", str(saved))
        before = kv.empty(spec, 256)
        client.retrieve(model, tokens, before, lossiest="int8")
        kdnctl(daemon.endpoint, "chunk", "rm", key, "--yes")
        kdnctl(daemon.endpoint, "chunk", "put", str(saved))
        after = kv.empty(spec, 256)
        assert client.retrieve(model, tokens, after, lossiest="int8").tokens_hit == 256
        assert kv.equal(before, after)

        # Offered over the exact chunk, the rounded one does not take its place.
        kdnctl(daemon.endpoint, "chunk", "rm", key, "--yes")
        client.store(model, tokens, data)
        put = json.loads(kdnctl(daemon.endpoint, "chunk", "put", str(saved), "-o", "json").stdout)
        assert put["outcome"] == "kept_existing"
        client.retrieve(model, tokens, after)
        assert kv.equal(data, after)


def test_fp32_is_refused_by_name(daemon):
    spec = kv.spec(layers=1, dtype=kdn.DType.FP32)
    data = [tuple(np.zeros((2, 64, 32), np.float32) for _ in range(2))]
    with kv.connect(daemon.endpoint, profile="int8") as client:
        model = client.register_model(spec, 64)
        with pytest.raises(kdn.KdnError, match="int8 is not for fp32 KV: raw or lossless") as refused:
            client.store(model, list(range(64)), data)
        assert refused.value.code == "INVALID_ARGUMENT"
        assert client.lookup(model, list(range(64))) == 0
        assert client.store(model, list(range(64)), data, profile="lossless").chunks_stored == 1


def test_fp8_stays_lossless(daemon):
    spec = kv.spec(layers=1, head_dim=64, dtype=kdn.DType.FP8_E4M3)
    rng = np.random.default_rng(2)
    data = [tuple(rng.integers(0x20, 0x50, (2, 256, 64)).astype(np.uint8) for _ in range(2))]
    with kv.connect(daemon.endpoint, profile="int8") as client:
        model = client.register_model(spec)
        tokens = list(range(256))
        client.store(model, tokens, data)
        loaded = [tuple(np.zeros_like(x) for x in pair) for pair in data]
        client.retrieve(model, tokens, loaded)
        assert kv.equal(data, loaded)
        assert inspect(daemon, client, model, tokens)["profile"] == "lossless"


def test_unknown_profiles_are_answered_with_those_there_are(daemon):
    with pytest.raises(kdn.KdnError, match='no profile "int9".*raw, lossless, int8'):
        kv.connect(daemon.endpoint, profile="int9")
    with pytest.raises(kdn.KdnError, match="cachegen cannot be encoded.*raw, lossless, int8"):
        kv.connect(daemon.endpoint, profile="cachegen")
