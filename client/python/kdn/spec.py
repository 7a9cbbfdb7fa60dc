"""What makes KV valid, as plain values: the Python form of kernels/layout/model_spec.h.

Two processes may exchange KV exactly when their specs are equal. Names of models are no part of a spec.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Optional

DIGEST_BYTES = 32


class DType(enum.IntEnum):
    """Element type of K and V."""

    BF16 = 1
    FP16 = 2
    FP8_E4M3 = 3
    FP8_E5M2 = 4
    FP32 = 5


class AttentionKind(enum.IntEnum):
    """Which earlier tokens a layer sees."""

    FULL = 1
    SLIDING_WINDOW = 2  # the query at position p sees keys in (p - window, p]
    CHUNKED_WINDOW = 3  # keys of its own block of `window` positions
    LATENT = 4  # MLA: one latent per token, held as K


class RopeStyle(enum.IntEnum):
    """Which channels a rotary embedding pairs."""

    NONE = 0
    HALF_SPLIT = 1  # (i, i + rotary_dim / 2)
    INTERLEAVED = 2  # (2i, 2i + 1)


@dataclasses.dataclass(frozen=True)
class RopeSpec:
    """One rotary embedding, its frequencies explicit so that every scaling rule is one case."""

    style: RopeStyle = RopeStyle.NONE
    rotary_dim: int = 0  # channels that rotate
    rotary_offset: int = 0  # the first of them
    inv_freq: tuple[float, ...] = ()  # rotary_dim / 2 fp32 values, radians per position
    amplitude: float = 1.0  # multiplied into cos and sin (YaRN's attention factor); 1/16 to 16


@dataclasses.dataclass(frozen=True)
class LayerSpec:
    """One attention layer."""

    attention: AttentionKind
    window: int  # tokens; 0 unless windowed
    num_kv_heads: int
    k_head_dim: int  # channels
    v_head_dim: int  # channels; 0 for latents
    rope_index: int  # into ModelSpec.ropes


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Everything that makes KV valid."""

    weights_digest: bytes  # SHA-256 over the weight files
    tokenizer_digest: bytes  # SHA-256 over the tokenizer's definition
    dtype: DType
    ropes: tuple[RopeSpec, ...]
    layers: tuple[LayerSpec, ...]
    adapter_digest: Optional[bytes] = None  # SHA-256 over the adapter (LoRA)
    k_scales: tuple[float, ...] = ()  # fp8 only: none, one a layer, or one a (layer, KV head)
    v_scales: tuple[float, ...] = ()
    extra: tuple[str, ...] = ()  # "key=value", sorted, unique: whatever else makes KV differ

    def token_bytes(self) -> int:
        """Bytes of K and V of one token over all layers."""
        channels = sum(layer.num_kv_heads * (layer.k_head_dim + layer.v_head_dim) for layer in self.layers)
        return channels * _ELEMENT_BYTES[self.dtype]


_ELEMENT_BYTES = {DType.BF16: 2, DType.FP16: 2, DType.FP8_E4M3: 1, DType.FP8_E5M2: 1, DType.FP32: 4}
