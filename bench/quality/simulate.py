"""What others do with KV, computed here for comparison: never KDN's containers, and said so in every report.

fp8: every element cast to e4m3 without a scale, two to one.

cachegen: CacheGen as its paper has it (Liu et al., SIGCOMM 2024): groups of 10 tokens; the first one of each is the
anchor, at 8 bits with a scale per token and head; the others are differences to their anchor, in steps of 0.5, 1 and
1.5 times `level` standard deviations of the channel's differences in the first, middle and last third of the layers.
The first 4 tokens stay at 16 bits. Differences cost their entropy per (layer, K or V, channel) in this very context, as
if a perfect table had come for nothing: its size is an under-estimate, in its favour.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from kdn.transformers.cache import LayerKv

GROUP_TOKENS = 10
SINK_TOKENS = 4
STEPS = (0.5, 1.0, 1.5)  # of the three thirds of the layers
ANCHOR_BITS, SCALE_BITS, RAW_BITS = 8, 16, 16
ANCHOR_LEVELS = 127


def fp8(kv: Sequence[LayerKv], _: float) -> tuple[list[LayerKv], int]:
    def cast(plane: torch.Tensor) -> torch.Tensor:
        return plane.to(torch.float8_e4m3fn).to(plane.dtype)

    coded = [LayerKv(cast(layer.k), cast(layer.v), layer.first_row) for layer in kv]
    return coded, sum(layer.k.numel() + layer.v.numel() for layer in kv)


def cachegen(kv: Sequence[LayerKv], level: float) -> tuple[list[LayerKv], int]:
    coded, bits = [], 0.0
    for index, layer in enumerate(kv):
        step = STEPS[index * len(STEPS) // len(kv)] * level
        k, k_bits = _cachegen_plane(layer.k, step)
        v, v_bits = _cachegen_plane(layer.v, step)
        coded.append(LayerKv(k, v, layer.first_row))
        bits += k_bits + v_bits
    return coded, int(bits / 8 + 0.5)


def _cachegen_plane(plane: torch.Tensor, step: float) -> tuple[torch.Tensor, float]:
    """One plane [head][token][channel] and the bits it costs."""
    sinks, rows = plane[:, :SINK_TOKENS], plane[:, SINK_TOKENS:].float()
    tokens = torch.arange(rows.shape[1])
    is_anchor = tokens % GROUP_TOKENS == 0
    anchors = rows[:, is_anchor]
    scale = (anchors.abs().amax(-1, keepdim=True) / ANCHOR_LEVELS).clamp_min(1e-30)
    anchors = torch.round(anchors / scale) * scale
    base = anchors[:, tokens // GROUP_TOKENS]
    differences = rows - base
    width = (differences[:, ~is_anchor].std(1, keepdim=True) * step).clamp_min(1e-30)
    symbols = torch.round(differences / width)
    decoded = torch.where(is_anchor[None, :, None], base, base + symbols * width)
    bits = RAW_BITS * sinks.numel() + ANCHOR_BITS * anchors.numel() + SCALE_BITS * scale.numel()
    bits += _entropy_bits(symbols[:, ~is_anchor])
    return torch.cat([sinks, decoded.to(plane.dtype)], 1), bits


def _entropy_bits(symbols: torch.Tensor) -> float:
    """Bits of [head][token][channel] symbols under an ideal table per head and channel."""
    total = 0.0
    for channel in symbols.permute(0, 2, 1).reshape(-1, symbols.shape[1]):
        counts = torch.unique(channel, return_counts=True)[1].double()
        total -= float((counts * torch.log2(counts / counts.sum())).sum())
    return total


SIMULATIONS = {"sim-fp8": fp8, "sim-cachegen": cachegen}
