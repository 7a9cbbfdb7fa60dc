"""RoPE of a model spec on torch tensors [..., row, channel]; rotating back is rotating by the negated angle."""

from __future__ import annotations

import torch

from kdn.spec import RopeSpec, RopeStyle


def rotate(rope: RopeSpec, x: torch.Tensor, positions: torch.Tensor, *, back: bool = False) -> torch.Tensor:
    """x with each row rotated at its position, or with the rotation undone, in fp32."""
    if rope.style == RopeStyle.NONE:
        return x
    angles = positions.double()[:, None] * torch.tensor(rope.inv_freq, dtype=torch.float64)
    gain = 1 / rope.amplitude if back else rope.amplitude
    cos = (angles.cos() * gain).float()
    sin = (angles.sin() * (-gain if back else gain)).float()
    begin, half = rope.rotary_offset, rope.rotary_dim // 2
    part = x[..., begin : begin + rope.rotary_dim]
    if rope.style == RopeStyle.HALF_SPLIT:
        first, second = part[..., :half], part[..., half:]
        turned = torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
    else:
        first, second = part[..., 0::2], part[..., 1::2]
        turned = torch.stack((first * cos - second * sin, second * cos + first * sin), -1).flatten(-2)
    return torch.cat((x[..., :begin], turned, x[..., begin + rope.rotary_dim :]), -1)
