"""Destinations whose elements lie on each other would hold something else than what is reported as loaded."""

import kdn
import kv
import numpy as np
import pytest

SPEC = kv.spec(layers=2)
TOKENS = list(range(512))


def pages(blocks=(3, 0, 2, 1), num_blocks=4):
    layers = [
        tuple(np.full((num_blocks, 2, 128, 32), 0xDEAD, np.uint16) for _ in range(2)) for _ in SPEC.layers
    ]
    return kdn.PagedKv(layers, list(blocks), 128, 512)


def overlapping():
    layers = kv.empty(SPEC, 512)
    rows = np.full(2 * 512 * 32, 0xDEAD, np.uint16)
    k = np.lib.stride_tricks.as_strided(rows, (2, 512, 32), (512 * 32 * 2, 32, 2))  # half a row from token to token
    return [(k, layers[0][1]), layers[1]]


def one_array_twice():
    layers = kv.empty(SPEC, 512)
    return [(layers[0][0], layers[0][0]), layers[1]]


@pytest.mark.parametrize(
    ("destination", "what"),
    [(pages((0, 0, 1, 1)), "twice"), (overlapping(), "strides"), (one_array_twice(), "one address")],
)
def test_elements_that_share_memory_are_refused(start, destination, what):
    with kv.connect(start().endpoint) as client:
        model = client.register_model(SPEC)
        client.store(model, TOKENS, kv.make(SPEC, 512))
        with pytest.raises(kdn.KdnError) as refused:
            client.retrieve(model, TOKENS, destination)
        assert refused.value.code == "INVALID_ARGUMENT" and what in refused.value.message
        assert client.retrieve(model, TOKENS, pages()).tokens_hit == 512
