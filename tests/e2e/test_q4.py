"""The lossy profile q4: K is stored before its rotary embedding and comes back rotated, with the error of four bits."""

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


def relative_error(plane, other):
    """Squared error over squared magnitude, of the rows behind the sinks."""
    x, y = values(plane[:, 4:]), values(other[:, 4:])
    return float(((x - y) ** 2).sum() / (x**2).sum())


def tiles(daemon, client, model, tokens, chunk=0):
    key = client.chunk_digests(model, tokens)[chunk].hex()
    shown = json.loads(kdnctl(daemon.endpoint, "chunk", "inspect", key, "--verify", "-o", "json").stdout)
    assert shown["verify"] == "ok"
    return [part["tiles_by_profile"] for part in shown["parts"]]


def round_trip(client, spec, data, token_count):
    model, tokens = client.register_model(spec), list(range(token_count))
    stored = client.store(model, tokens, data)
    loaded = kv.empty(spec, token_count)
    assert client.retrieve(model, tokens, loaded).tokens_hit == token_count
    return model, tokens, stored, loaded


@pytest.fixture
def daemon(start):
    return start()


def test_keys_and_values_come_back_close_and_sinks_as_they_were(daemon):
    spec = kv.spec(layers=4, kv_heads=3, head_dim=64, window_layers=(1,), window=512)
    data = kv.make(spec, 600)
    with kv.connect(daemon.endpoint, profile="q4") as client:
        model, tokens, stored, loaded = round_trip(client, spec, data, 600)
        raw_bytes = sum(plane.nbytes for pair in data for plane in pair)
        assert raw_bytes / stored.bytes_sent > 3.6
        for (k, v), (loaded_k, loaded_v) in zip(data, loaded):
            assert 0.001 < relative_error(k, loaded_k) < 0.011
            assert 0.001 < relative_error(v, loaded_v) < 0.011
            assert np.array_equal(v[:, :4], loaded_v[:, :4])
            # K went through two rotations and two roundings to bf16; position 0 is not turned at all.
            assert np.array_equal(k[:, 0], loaded_k[:, 0])
            assert np.abs(values(k[:, :4]) - values(loaded_k[:, :4])).max() <= np.abs(values(k[:, :4])).max() / 64
        assert tiles(daemon, client, model, tokens) == [{"q4": 24}]


def test_latents_turn_in_their_rotary_slice_only(daemon):
    base = kv.spec(layers=2, kv_heads=1, head_dim=64)
    latent = kdn.LayerSpec(kdn.AttentionKind.LATENT, 0, 1, 576, 0, 0)
    spec = dataclasses.replace(
        base, ropes=(dataclasses.replace(base.ropes[0], rotary_offset=512),), layers=(latent, latent)
    )
    rng = np.random.default_rng(1)
    data = [(kv.to_bf16(rng.normal(size=(1, 256, 576))), None) for _ in spec.layers]
    with kv.connect(daemon.endpoint, profile="q4") as client:
        model, tokens = client.register_model(spec), list(range(256))
        client.store(model, tokens, data)
        loaded = [(np.zeros((1, 256, 576), np.uint16), None) for _ in spec.layers]
        assert client.retrieve(model, tokens, loaded).tokens_hit == 256
        for (k, _), (loaded_k, _) in zip(data, loaded):
            assert 0.001 < relative_error(k, loaded_k) < 0.011
        assert tiles(daemon, client, model, tokens) == [{"q4": 2}]


def test_tiles_it_cannot_hold_stay_exact_and_show_it(daemon):
    spec = kv.spec(layers=2, kv_heads=2, head_dim=64)
    data = kv.make(spec, 256)
    data[1][1][0, 200, 60] = 0xFF80  # minus infinity in V of layer 1, head 0
    with kv.connect(daemon.endpoint, profile="q4") as client:
        model, tokens, _, loaded = round_trip(client, spec, data, 256)
        assert np.array_equal(loaded[1][1][0], data[1][1][0])
        assert not np.array_equal(loaded[1][1][1], data[1][1][1])
        assert tiles(daemon, client, model, tokens) == [{"q4": 7, "lossless": 1}]


def test_only_who_accepts_q4_is_given_it_even_where_no_tile_is_q4(daemon):
    spec = kv.spec(layers=1, head_dim=64)
    tokens, data = list(range(4)), kv.make(spec, 4)  # so short that its tiles are exact, of K that was unrotated
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(spec)
        client.store(model, tokens, data, profile="q4")
        shown = tiles(daemon, client, model, tokens)
        assert "q4" not in shown[0]
        loaded = kv.empty(spec, 4)
        missed = client.retrieve(model, tokens, loaded)
        assert missed.tokens_hit == 0 and "rotary" in str(missed)
        assert client.retrieve(model, tokens, loaded, lossiest="int8").tokens_hit == 0
        assert client.retrieve(model, tokens, loaded, lossiest="q4").tokens_hit == 4
        assert np.array_equal(loaded[0][1], data[0][1])


def test_fp32_is_refused_by_name(daemon):
    spec = kv.spec(layers=1, head_dim=64, dtype=kdn.DType.FP32)
    data = [tuple(np.ones((2, 256, 64), np.float32) for _ in range(2))]
    with kv.connect(daemon.endpoint, profile="q4") as client:
        with pytest.raises(kdn.KdnError, match="q4 is not for fp32"):
            client.store(client.register_model(spec), list(range(256)), data)
