"""How much later tokens look at each row, from a bank of queries, and the step classes that follow from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from kdn.spec import ModelSpec

from .rotary import rotate
from .tables import MAX_CLASS


def layer_importance(spec: ModelSpec, index: int, k: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """[row]: attention that queries [kv_head][query][channel], placed behind the last row, pay to K before RoPE."""
    rope = spec.ropes[spec.layers[index].rope_index]
    rows = k.shape[1]
    keys = rotate(rope, k, torch.arange(rows))
    placed = rotate(rope, queries, rows + torch.arange(queries.shape[1]))
    return torch.softmax(placed @ keys.transpose(1, 2), -1).mean((0, 1))


def group_importance(by_layer: Sequence[torch.Tensor]) -> np.ndarray:
    """The geometric mean over a group's layers."""
    return torch.stack([a.clamp_min(1e-30).log() for a in by_layer]).mean(0).exp().numpy()


def row_classes(importance: np.ndarray) -> np.ndarray:
    """Class of each row: never coarser than the median row's."""
    median = np.median(importance)
    if not median > 0:
        return np.zeros(len(importance), np.int32)
    octaves = np.log2(np.maximum(importance / median, 1.0))
    return np.clip(np.rint(octaves), 0, MAX_CLASS).astype(np.int32)
