"""The binding against a real kdnd: arrays that are too short are errors, and nothing outside of arrays is touched."""

import sys
from pathlib import Path

import kdn
import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "e2e"))

import kv  # noqa: E402
from daemon import Daemon  # noqa: E402

pytestmark = pytest.mark.slow
SPEC = kv.spec(layers=2, kv_heads=2, head_dim=64)
IDS = list(range(600))


@pytest.fixture
def stored(tmp_path):
    """(client, model, KV) of 600 tokens, also stored as a text."""
    with Daemon(tmp_path / "data") as daemon, kv.connect(daemon.endpoint) as client:
        model, data = client.register_model(SPEC, 256), kv.make(SPEC, 600)
        assert client.store_text(model, "a text", IDS, data).tokens_present == 600
        yield client, model, data


@pytest.mark.parametrize("rows", [5, 300, 599])
def test_arrays_that_end_inside_a_chunk_are_refused_by_store_and_retrieve(stored, rows):
    client, model, _ = stored
    for call in (client.store, client.retrieve):
        with pytest.raises(kdn.KdnError, match=f"INVALID_ARGUMENT.* {rows} tokens.*chunk boundary"):
            call(model, IDS, kv.empty(SPEC, rows))


def test_arrays_of_whole_chunks_load_those(stored):
    client, model, data = stored
    loaded = kv.empty(SPEC, 512)
    assert client.retrieve(model, IDS, loaded).tokens_hit == 512 and kv.equal(loaded, data, 512)
    text = kv.empty(SPEC, 600)
    assert client.retrieve_text(model, "a text", text).tokens_hit == 600 and kv.equal(text, data)


def test_retrieve_writes_between_the_guards_of_its_arrays_only(stored):
    client, model, data = stored
    held = [tuple(np.full((4, 600, 64), 0xDEAD, np.uint16) for _ in "kv") for _ in SPEC.layers]
    short = [(k[1:3], v[1:2]) for k, v in held]
    with pytest.raises(ValueError, match="must agree"):
        client.retrieve(model, IDS, short)
    assert all((part == 0xDEAD).all() for pair in held for part in pair)
    loaded = [(k[1:3], v[1:3]) for k, v in held]
    assert client.retrieve(model, IDS, loaded).tokens_hit == 600 and kv.equal(loaded, data)
    assert all((part[[0, 3]] == 0xDEAD).all() for pair in held for part in pair)
