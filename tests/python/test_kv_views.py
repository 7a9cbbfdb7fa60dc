"""Arrays that do not fit each other are refused before the library gets their addresses."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

import kv  # noqa: E402
from kdn.kv import PagedKv, view_of  # noqa: E402

SPEC = kv.spec(layers=2, kv_heads=4, head_dim=32)


def pages(heads=4, blocks=8):
    return np.zeros((blocks, heads, 16, 32), np.uint16)


@pytest.mark.parametrize("v_shape", [(2, 64, 32), (5, 64, 32), (4, 63, 32)])
def test_v_of_another_shape_than_k_is_refused(v_shape):
    layers = [(k, np.zeros(v_shape, np.uint16)) for k, _ in kv.empty(SPEC, 64)]
    with pytest.raises(ValueError, match="layer 0"):
        view_of(SPEC, layers, 0, writable=True)


@pytest.mark.parametrize("v", [pages(heads=2), pages(blocks=7)])
def test_pages_of_v_of_another_shape_than_k_are_refused(v):
    with pytest.raises(ValueError, match="layer 0"):
        view_of(SPEC, PagedKv([(pages(), v)] * 2, [6, 7], 16, 32), 0, writable=True)


def test_layers_of_pages_with_other_heads_are_refused():
    layers = [(pages(), pages()), (pages(heads=2), pages(heads=2))]
    with pytest.raises(ValueError, match="layer 1"):
        view_of(SPEC, PagedKv(layers, [0, 1], 16, 32), 0, writable=True)


@pytest.mark.parametrize("block", [-1, 8])
def test_blocks_outside_of_the_pages_are_refused(block):
    with pytest.raises(ValueError, match="block table"):
        view_of(SPEC, PagedKv([(pages(), pages())] * 2, [0, block], 16, 32), 0, writable=True)
