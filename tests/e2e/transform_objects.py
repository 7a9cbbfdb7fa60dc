"""Calibration objects of kind transform made from data: one group a layer, K and V each with the principal axes of their
channels. kernels/codec/TILE_FORMATS.md specifies the bytes."""

from __future__ import annotations

import struct

import numpy as np

UNKNOWN_KL = 0xFFFFFFFF


def pad16(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def base(kind: int, rows: np.ndarray) -> bytes:
    """kind 0 = K, 1 = V; rows: [token][channel], channels head by head."""
    n = rows.shape[1]
    mean = rows.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((rows - mean).T) + 1e-12 * np.eye(n))
    order = np.argsort(values)[::-1]
    sigma = np.sqrt(np.maximum(values[order], 1e-12))
    synthesis = vectors[:, order]
    scales = np.abs(synthesis).max(axis=1) / (127 * 32)
    matrix = np.clip(np.rint(synthesis / (32 * scales[:, None])), -127, 127).astype(np.int8)
    sigmas = np.clip(np.rint(4 * np.log2(sigma)), -128, 127).astype(np.int8)
    body = mean.astype("<f4").tobytes() + scales.astype("<f4").tobytes() + sigmas.tobytes() + matrix.tobytes()
    return struct.pack("<BBH12x", kind, 0, n) + pad16(body)


def build(fingerprint: bytes, layers, levels=((40, -16, UNKNOWN_KL), (80, 0, 500), (160, 16, 4300)), heads=1) -> bytes:
    """layers: one (K rows, V rows) a layer, each [token][heads x dim]; levels: (ratio in tenths, step, KL in 1e-6)."""
    header = b"KDNO" + struct.pack("<HBB", 1, 2, 0) + fingerprint
    header += struct.pack("<HHHH", len(layers), len(levels), 0, 0)
    for ratio, step, kl in levels:
        header += struct.pack("<HhI8x", ratio, step, kl)
    groups = b"".join(
        struct.pack("<HBBHH8x", layer, 1, 2, 0, heads) + base(0, k) + base(1, v) for layer, (k, v) in enumerate(layers)
    )
    return header + groups
