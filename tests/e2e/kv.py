"""Specs and KV for tests: small shapes, values like a real cache's (bf16 bit patterns in uint16)."""

from __future__ import annotations

import hashlib

import kdn
import numpy as np


def connect(endpoint, **options):
    """A client that gives a busy machine time: only test_a_dead_server_costs_once is about how little it needs."""
    return kdn.Client(endpoint, **{"dead_after": 20.0, "call_timeout": 30.0, "transfer_timeout": 60.0, **options})


def spec(layers=4, kv_heads=2, head_dim=32, dtype=kdn.DType.BF16, window_layers=(), window=0, name="weights"):
    """A Llama-like spec; layers named in window_layers slide."""
    frequencies = tuple(float(np.float32(0.9) ** i) for i in range(head_dim // 2))
    rope = kdn.RopeSpec(kdn.RopeStyle.HALF_SPLIT, head_dim, 0, frequencies, 1.0)
    full, sliding = kdn.AttentionKind.FULL, kdn.AttentionKind.SLIDING_WINDOW
    return kdn.ModelSpec(
        weights_digest=hashlib.sha256(name.encode()).digest(),
        tokenizer_digest=hashlib.sha256(b"tokenizer").digest(),
        dtype=dtype,
        ropes=(rope,),
        layers=tuple(
            kdn.LayerSpec(sliding, window, kv_heads, head_dim, head_dim, 0)
            if i in window_layers
            else kdn.LayerSpec(full, 0, kv_heads, head_dim, head_dim, 0)
            for i in range(layers)
        ),
    )


def to_bf16(values: np.ndarray) -> np.ndarray:
    """The bit patterns of float32 values cut to bfloat16."""
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def make(model_spec, tokens, seed=0):
    """One (k, v) a layer, shaped [kv_heads, tokens, head_dim], Gaussian with a scale per channel."""
    rng = np.random.default_rng(seed)
    result = []
    for layer in model_spec.layers:
        pair = []
        for dim in (layer.k_head_dim, layer.v_head_dim):
            scale = np.exp(rng.normal(size=(layer.num_kv_heads, 1, dim)))
            pair.append(to_bf16(rng.normal(size=(layer.num_kv_heads, tokens, dim)) * scale))
        result.append(tuple(pair))
    return result


def empty(model_spec, tokens):
    """A destination, filled with a pattern so that an untouched byte shows."""
    return [
        tuple(
            np.full((layer.num_kv_heads, tokens, dim), 0xDEAD, np.uint16)
            for dim in (layer.k_head_dim, layer.v_head_dim)
        )
        for layer in model_spec.layers
    ]


def equal(a, b, tokens=None):
    """Whether the first `tokens` rows of two KVs are the same bits."""
    return all(
        np.array_equal(x[:, :tokens], y[:, :tokens]) for left, right in zip(a, b) for x, y in zip(left, right)
    )
