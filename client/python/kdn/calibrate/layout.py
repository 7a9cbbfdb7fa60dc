"""Which layers are coded together."""

from __future__ import annotations

from kdn.spec import DType, ModelSpec

from .transform_object import MAX_WIDTH

_ELEMENT_BYTES = {DType.BF16: 2, DType.FP16: 2, DType.FP8_E4M3: 1, DType.FP8_E5M2: 1, DType.FP32: 4}
_MAX_CELL_RAW_BYTES = 4 << 20  # kernels/layout/cell_map.h


def bands(spec: ModelSpec, chunk_tokens: int) -> list[int]:
    """The band of each layer, as kernels/layout/cell_map.h cuts them."""
    newest: dict[tuple, int] = {}
    used: list[int] = []
    of_layer = []
    for layer in spec.layers:
        kind = (layer.attention, layer.window, layer.num_kv_heads)
        size = (layer.k_head_dim + layer.v_head_dim) * _ELEMENT_BYTES[spec.dtype] * chunk_tokens
        band = newest.get(kind)
        if band is None or used[band] + size > _MAX_CELL_RAW_BYTES:
            band = newest[kind] = len(used)
            used.append(0)
        used[band] += size
        of_layer.append(band)
    return of_layer


def layer_groups(spec: ModelSpec, per_group: int, chunk_tokens: int, joint: bool) -> list[tuple[int, int]]:
    """(first layer, count) of groups of at most `per_group` neighbours of one band and shape.

    Raises ValueError when one base of a group would have more than MAX_WIDTH channels.
    """
    of_layer = bands(spec, chunk_tokens)
    groups = []
    first = 0
    for layer in range(1, len(spec.layers) + 1):
        full = layer - first == per_group
        if layer < len(spec.layers) and not full and of_layer[layer] == of_layer[first]:
            left, right = spec.layers[first], spec.layers[layer]
            if (left.k_head_dim, left.v_head_dim) == (right.k_head_dim, right.v_head_dim):
                continue
        at = spec.layers[first]
        dims = at.k_head_dim + at.v_head_dim if joint else max(at.k_head_dim, at.v_head_dim)
        width = (layer - first) * at.num_kv_heads * dims
        if width > MAX_WIDTH:
            raise ValueError(
                f"layers {first} to {layer - 1} together have {width} channels; a transform may have {MAX_WIDTH}: "
                "use smaller groups"
            )
        groups.append((first, layer - first))
        first = layer
    return groups
