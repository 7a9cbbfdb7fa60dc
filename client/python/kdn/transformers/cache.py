"""Between a Hugging Face `DynamicCache` and the KV that KDN stores.

Tensors here have the axes [kv_head][token][channel]. A sliding-window layer of window w caches the last w - 1 rows once
the sequence is longer: `LayerKv.first_row` is the position of the first row held (0 on full-attention layers).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from kdn.spec import DType, ModelSpec

from .describe import UnsupportedModel

_TORCH_DTYPES = {DType.BF16: torch.bfloat16, DType.FP16: torch.float16, DType.FP32: torch.float32}


class LayerKv(NamedTuple):
    """K and V of one layer, [kv_head][row][channel] each; row i is the token at position first_row + i."""

    k: torch.Tensor
    v: torch.Tensor
    first_row: int = 0

    @property
    def end(self) -> int:
        """The position behind the last row."""
        return self.first_row + self.k.shape[1]


def kv_views(cache: Any) -> list[LayerKv]:
    """The KV a cache holds, layer by layer, as views of its tensors (no copies).

    Generating with the cache afterwards replaces its tensors and leaves these views as they are.

    Raises:
      UnsupportedModel: the cache or one of its layers is of a kind that KDN cannot store.
      ValueError: the cache holds a batch of more than one sequence, or nothing.
    """
    if not isinstance(cache, DynamicCache):
        raise UnsupportedModel(f"a {type(cache).__name__} cannot be stored; use a DynamicCache")
    views = []
    for index, layer in enumerate(cache.layers):
        if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            raise UnsupportedModel(f"layer {index} is cached as {type(layer).__name__}, which KDN cannot store")
        if layer.get_seq_length() == 0:
            raise ValueError(f"layer {index} of the cache is empty")
        if layer.keys.shape[0] != 1:
            raise ValueError(f"the cache holds a batch of {layer.keys.shape[0]} sequences; KDN takes one at a time")
        first_row = layer.get_seq_length() - layer.keys.shape[2]
        views.append(LayerKv(layer.keys[0], layer.values[0], first_row))
    return views


def cache_of(model: Any, kv: Sequence[LayerKv]) -> DynamicCache:
    """A cache with which `model` continues behind the last row of `kv`, exactly as one that computed those rows.

    The rows a sliding-window layer no longer reaches are left out; the tensors are shared with `kv` where they are on
    the model's device already.

    Raises ValueError when the layers do not fit the model, end at different positions, or a sliding-window layer lacks
    a row that the next token sees.
    """
    cache = DynamicCache(config=model.config)
    if len(kv) != len(cache.layers):
        raise ValueError(f"{len(kv)} layers of KV for a model of {len(cache.layers)}")
    tokens = kv[0].end
    for index, (layer, source) in enumerate(zip(cache.layers, kv)):
        if source.end != tokens:
            raise ValueError(f"layer {index} ends at position {source.end}, layer 0 at {tokens}")
        rows = tokens
        if type(layer) is DynamicSlidingWindowLayer:
            rows = min(tokens, layer.sliding_window - 1)
            layer.cumulative_length = tokens
        if source.first_row > tokens - rows:
            raise ValueError(f"layer {index} lacks rows {tokens - rows} to {source.first_row}")
        keys, values = (
            part[None, :, part.shape[1] - rows :].to(device=model.device, dtype=model.dtype)
            for part in (source.k, source.v)
        )
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
    return cache


def empty_kv(spec: ModelSpec, tokens: int) -> list[LayerKv]:
    """Uninitialised host memory for the KV that a reader of positions [0, tokens) needs, to load into.

    Full-attention layers have all rows, sliding-window layers those that the token at position `tokens` sees.
    """
    dtype = _TORCH_DTYPES[spec.dtype]
    kv = []
    for layer in spec.layers:
        rows = min(tokens, layer.window - 1) if layer.window else tokens
        kv.append(
            LayerKv(
                torch.empty((layer.num_kv_heads, rows, layer.k_head_dim), dtype=dtype),
                torch.empty((layer.num_kv_heads, rows, layer.v_head_dim), dtype=dtype),
                tokens - rows,
            )
        )
    return kv


def kv_bytes(kv: Sequence[LayerKv]) -> int:
    """Bytes of all rows held."""
    return sum(part.numel() * part.element_size() for layer in kv for part in (layer.k, layer.v))


def piece_tokens(spec: ModelSpec, chunk_tokens: int) -> int:
    """Length of the pieces a prefill is cut into: a divisor of the chunk length, at most the smallest window - 1.

    It depends on spec and chunk length alone: a prefix of whole pieces has the same KV bits whatever text follows it,
    and whether the prefill started at 0 or behind a loaded prefix. No piece is longer than what a sliding-window layer
    keeps, so that none of its rows is lost.
    """
    reach = min((layer.window - 1 for layer in spec.layers if layer.window), default=chunk_tokens)
    return next(tokens for tokens in range(min(reach, chunk_tokens), 0, -1) if chunk_tokens % tokens == 0)


class Recorder:
    """Keeps the rows that sliding-window layers drop while a prefill goes on, so that its prefixes can be stored too.

    Full-attention layers keep everything in the cache itself and cost nothing here.
    """

    def __init__(self, spec: ModelSpec):
        self._spec = spec
        self._pieces: list[list[LayerKv]] = [[] for _ in spec.layers]

    def record(self, cache: DynamicCache) -> None:
        """Takes the rows that are new since the last call; to be called after each piece."""
        for layer, pieces, held in zip(self._spec.layers, self._pieces, kv_views(cache)):
            if layer.window:
                skip = max(pieces[-1].end - held.first_row, 0) if pieces else 0
                pieces.append(LayerKv(held.k[:, skip:], held.v[:, skip:], held.first_row + skip))

    def kv(self, cache: DynamicCache) -> list[LayerKv]:
        """The KV of the sequence so far, with every row recorded."""
        return [
            _join(pieces) if layer.window else held
            for layer, pieces, held in zip(self._spec.layers, self._pieces, kv_views(cache))
        ]


def _join(pieces: Sequence[LayerKv]) -> LayerKv:
    if len(pieces) == 1:
        return pieces[0]
    k, v = torch.cat([piece.k for piece in pieces], 1), torch.cat([piece.v for piece in pieces], 1)
    return LayerKv(k, v, pieces[0].first_row)
