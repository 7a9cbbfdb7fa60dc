"""Arrays that do not fit each other are refused before the library gets their addresses."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

import kv  # noqa: E402
from kdn.client import _Span  # noqa: E402
from kdn.kv import PagedKv, view_of  # noqa: E402

SPEC = kv.spec(layers=2, kv_heads=4, head_dim=32)


def pages(heads=4, blocks=8):
    return np.zeros((blocks, heads, 16, 32), np.uint16)


@pytest.mark.parametrize("v_shape", [(2, 64, 32), (5, 64, 32), (4, 63, 32)])
def test_v_of_another_shape_than_k_is_refused(v_shape):
    layers = [(k, np.zeros(v_shape, np.uint16)) for k, _ in kv.empty(SPEC, 64)]
    with pytest.raises(ValueError, match="layer 0 .*heads, rows and blocks must agree"):
        view_of(SPEC, layers, 0, writable=True)


@pytest.mark.parametrize("v", [pages(heads=2), pages(blocks=7)])
def test_pages_of_v_of_another_shape_than_k_are_refused(v):
    with pytest.raises(ValueError, match="layer 0 .*heads, rows and blocks must agree"):
        view_of(SPEC, PagedKv([(pages(), v)] * 2, [6, 7], 16, 32), 0, writable=True)


def test_layers_of_pages_with_other_heads_are_refused():
    layers = [(pages(), pages()), (pages(heads=2), pages(heads=2))]
    with pytest.raises(ValueError, match="layer 1"):
        view_of(SPEC, PagedKv(layers, [0, 1], 16, 32), 0, writable=True)


@pytest.mark.parametrize("block", [-1, 8])
def test_blocks_outside_of_the_pages_are_refused(block):
    with pytest.raises(ValueError, match="block table"):
        view_of(SPEC, PagedKv([(pages(), pages())] * 2, [0, block], 16, 32), 0, writable=True)


def test_layers_with_other_heads_are_refused():
    layers = [tuple(part[: 4 - index] for part in pair) for index, pair in enumerate(kv.empty(SPEC, 64))]
    with pytest.raises(ValueError, match="layer 1"):
        view_of(SPEC, layers, 0, writable=True)


def test_destinations_whose_elements_share_memory_are_refused_and_sources_taken():
    one = np.zeros((4, 1, 32), np.uint16)
    shared = np.lib.stride_tricks.as_strided(one, (4, 64, 32), (64, 0, 2))
    layers = [(shared, shared)] * 2
    view_of(SPEC, layers, 0, writable=False)
    with pytest.raises(ValueError, match="share memory"):
        view_of(SPEC, layers, 0, writable=True)


@pytest.mark.parametrize("blocks", [[0, 1.5], np.array([0.0, 1.0]), np.zeros((1, 2), np.int32)])
def test_block_tables_of_other_than_integers_are_refused(blocks):
    with pytest.raises(TypeError, match="blocks must be a one-dimensional sequence of integers"):
        view_of(SPEC, PagedKv([(pages(), pages())] * 2, blocks, 16, 32), 0, writable=True)


@pytest.mark.parametrize("ids", [[1, 2.5], np.full(4, 1.7), np.ones((1, 4), np.int64), ["1"]])
def test_token_ids_of_other_than_integers_are_refused(ids):
    with pytest.raises(TypeError, match="token_ids must be a one-dimensional sequence of integers"):
        _Span(ids, 0, ())


@pytest.mark.parametrize("ids", [[5, 6], (5, 6), np.array([5, 6], np.int32), np.array([5, 6], np.uint64), [np.int64(5), 6]])
def test_token_ids_of_any_integer_type_are_taken(ids):
    span = _Span(ids, 0, ())
    assert [span.native.token_ids[i] for i in range(span.native.num_tokens)] == [5, 6]
