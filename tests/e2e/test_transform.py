"""Profile transform end to end: coded with the model's active calibration object, decoded with the one a chunk names."""

import json
import logging

import kdn
import kv
import numpy as np
import pytest
import transform_objects
from daemon import kdnctl

TOKENS = 600
LEVELS = ((40, -16, 100), (80, 0, 500), (160, 16, 4300))


def values(elements):
    """fp32 values of bf16 bit patterns."""
    return (elements.astype(np.uint32) << 16).view(np.float32)


def rotated(spec, k):
    """K [kv_heads, tokens, channels] with its rotary embedding at positions 0, 1, ..."""
    half = k.shape[2] // 2
    angles = np.arange(k.shape[1])[:, None] * np.array(spec.ropes[0].inv_freq)[None, :]
    first, second = k[:, :, :half], k[:, :, half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=2)


def correlated(spec, tokens, seed):
    """Per layer K before its rotary embedding and V, [kv_heads, tokens, channels]: a few directions carry nearly all."""
    rng = np.random.default_rng(seed)
    layers = []
    for number, layer in enumerate(spec.layers):
        pair = []
        for which, dim in enumerate((layer.k_head_dim, layer.v_head_dim)):
            width = layer.num_kv_heads * dim
            fixed = np.random.default_rng(1000 + 2 * number + which)  # the model's, whatever the text
            directions = np.linalg.qr(fixed.normal(size=(width, 6)))[0]
            rows = 4 * rng.normal(size=(tokens, 6)) @ directions.T + 0.05 * rng.normal(size=(tokens, width))
            pair.append((rows + fixed.normal(size=width)).reshape(tokens, layer.num_kv_heads, dim).transpose(1, 0, 2))
        layers.append(tuple(pair))
    return layers


def cached(spec, layers):
    """What an engine's cache holds of them."""
    return [(kv.to_bf16(rotated(spec, k)), kv.to_bf16(v)) for k, v in layers]


def flat(plane):
    return plane.transpose(1, 0, 2).reshape(plane.shape[1], -1)


def make_object(spec, fingerprint, levels=LEVELS):
    """The object that calibrating on another text of the same model gives."""
    rows = [(flat(k), flat(v)) for k, v in correlated(spec, 2000, seed=77)]
    return transform_objects.build(fingerprint, rows, levels, spec.layers[0].num_kv_heads)


def relative_error(loaded, data):
    """Largest of the planes': squared error over squared magnitude, behind the sink."""
    worst = 0.0
    for pair, other in zip(loaded, data):
        for plane, wanted in zip(pair, other):
            x, y = values(plane[:, 1:]), values(wanted[:, 1:])
            worst = max(worst, float(((x - y) ** 2).sum() / (y**2).sum()))
    return worst


@pytest.fixture
def setting(start):
    """A daemon, a model whose KV has structure, and KV of one text."""

    class Setting:
        daemon = start(storage__sync="always")
        spec = kv.spec(layers=4, kv_heads=2, head_dim=32)
        tokens = list(range(TOKENS))

    Setting.data = cached(Setting.spec, correlated(Setting.spec, TOKENS, seed=5))
    with kv.connect(Setting.daemon.endpoint) as client:
        model = client.register_model(Setting.spec)
        Setting.object = make_object(Setting.spec, model.fingerprint)
    return Setting


def load(setting, **options):
    loaded = kv.empty(setting.spec, TOKENS)
    with kv.connect(setting.daemon.endpoint, **{"profile": "transform", **options}) as client:
        got = client.retrieve(client.register_model(setting.spec), setting.tokens, loaded)
    return got, loaded


def test_chunks_are_coded_with_the_active_object_and_come_back_close(setting):
    with kv.connect(setting.daemon.endpoint) as client:
        model = client.register_model(setting.spec)
        put = client.put_calibration(setting.object)
        stored = client.store(model, setting.tokens, setting.data, profile="transform")
        assert (stored.profile, stored.level, stored.fallback) == ("transform", 8.0, "")
        assert stored.details["calibration"] == put.digest.hex()
        assert stored.raw_bytes / stored.bytes_sent > 8
        key = client.chunk_digests(model, setting.tokens)[0].hex()
    got, loaded = load(setting)
    assert got.tokens_hit == TOKENS and got.bytes_received < got.bytes_written / 8
    assert 0.0001 < relative_error(loaded, setting.data) < 0.02
    for (_, v), (_, loaded_v) in zip(setting.data, loaded):
        assert np.array_equal(v[:, :1], loaded_v[:, :1])  # the sink
    shown = json.loads(
        kdnctl(setting.daemon.endpoint, "chunk", "inspect", key, "--verify", "-o", "json").stdout
    )
    assert (shown["verify"], shown["profile"], shown["quality"]) == ("ok", "transform", "by_level")
    assert shown["parts"][0]["wide_sections"] == 4 and put.digest.hex() in shown["parts"][0]["calibration"]
    # Who has not asked for rounded KV does not get it.
    got, _ = load(setting, profile="q4")
    assert got.tokens_hit == 0 and got.misses == {"incompatible": 3}


def test_levels_are_chosen_by_ratio(setting):
    sizes = []
    with kv.connect(setting.daemon.endpoint, profile="transform") as client:
        model = client.register_model(setting.spec)
        client.put_calibration(setting.object)
        for number, (level, taken) in enumerate(((3, 4.0), (4, 4.0), (4.1, 8.0), (16, 16.0))):
            tokens = [number * 10_000 + token for token in setting.tokens]
            stored = client.store(model, tokens, setting.data, level=level)
            assert stored.level == taken
            sizes.append(stored.bytes_sent)
        with pytest.raises(kdn.KdnError) as error:
            client.store(model, [token + 90_000 for token in setting.tokens], setting.data, level=17)
        assert error.value.code == "INVALID_ARGUMENT" and "4.0, 8.0, 16.0" in error.value.message
    assert sizes[0] == sizes[1] > sizes[2] > sizes[3]


def test_without_an_object_q4_is_used_and_said(setting, caplog):
    with kv.connect(setting.daemon.endpoint, profile="transform") as client, caplog.at_level(logging.WARNING, "kdn"):
        model = client.register_model(setting.spec)
        for number in range(2):
            tokens = [number * 10_000 + token for token in setting.tokens]
            stored = client.store(model, tokens, setting.data)
            assert stored.profile == "q4" and "no active calibration object" in stored.fallback
        assert client.counters()["profile_fallbacks"] == 2
    assert len([record for record in caplog.records if "q4 instead of transform" in record.getMessage()]) == 1
    got, loaded = load(setting)
    assert got.tokens_hit == TOKENS and relative_error(loaded, setting.data) < 0.02


def test_missing_object_makes_chunks_incompatible_until_it_is_back(setting):
    with kv.connect(setting.daemon.endpoint, profile="transform") as client:
        model = client.register_model(setting.spec)
        digest = client.put_calibration(setting.object).digest
        client.store(model, setting.tokens, setting.data)
        client.delete_calibration(model, digest, force=True)
        got, _ = load(setting)
        assert got.tokens_hit == 0 and got.misses == {"incompatible": 3}
        assert all(digest.hex() in row["message"] for row in got.details["chunks"])
        # Who has it cached still reads.
        loaded = kv.empty(setting.spec, TOKENS)
        assert client.retrieve(model, setting.tokens, loaded).tokens_hit == TOKENS
        client.put_calibration(setting.object)
    got, again = load(setting)
    assert got.tokens_hit == TOKENS and kv.equal(again, loaded)


def test_object_and_chunks_survive_a_kill(setting):
    with kv.connect(setting.daemon.endpoint, profile="transform") as client:
        client.put_calibration(setting.object)
        client.store(client.register_model(setting.spec), setting.tokens, setting.data)
    _, before = load(setting)
    setting.daemon.restart_after_kill()
    got, after = load(setting)
    assert got.tokens_hit == TOKENS and kv.equal(before, after)
    with kv.connect(setting.daemon.endpoint, profile="transform") as client:
        model = client.register_model(setting.spec)
        stored = client.store(model, [token + 10_000 for token in setting.tokens], setting.data)
        assert stored.profile == "transform"


def test_objects_that_do_not_fit_the_model_are_refused(setting):
    other = kv.spec(layers=4, kv_heads=2, head_dim=32, name="other weights")
    with kv.connect(setting.daemon.endpoint, profile="transform") as client:
        model = client.register_model(setting.spec)
        foreign = make_object(other, client.register_model(other).fingerprint)
        with pytest.raises(kdn.KdnError) as error:
            client.put_calibration(foreign, model)
        assert error.value.code == "INVALID_ARGUMENT"
        # The server looks at the header alone; whoever codes with it looks closer.
        narrow = kv.spec(layers=4, kv_heads=2, head_dim=16, name="other weights")
        client.put_calibration(make_object(narrow, model.fingerprint))
        stored = client.store(model, [token + 20_000 for token in setting.tokens], setting.data)
        assert stored.profile == "q4" and "cannot be used" in stored.fallback
        client.put_calibration(setting.object)
        assert client.store(model, setting.tokens, setting.data).profile == "transform"
