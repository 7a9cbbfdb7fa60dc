"""Quantising and decoding of profile `transform` in NumPy: readable, independent of the C++ code, exact where asked.

Rows are tokens, K before RoPE. The channels of a base come layer by layer, in a layer head by head.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from . import tables
from .transform_object import Base

UNITS_PER_STEP = 32
MAX_VALUE = 1023
_MAX_SUM = 2**31 - 1
# Bits of the fp32 mantissa of 2^(i / 16).
_MANTISSAS = (
    (0x000000, 0x05AAC3, 0x0B95C2, 0x11C3D3, 0x1837F0, 0x1EF532, 0x25FED7, 0x2D583F)
    + (0x3504F3, 0x3D08A4, 0x45672A, 0x4E248C, 0x5744FD, 0x60CCDF, 0x6AC0C7, 0x75257D)
)  # fmt: skip


def step_of(exponents: np.ndarray | int) -> np.ndarray:
    """2^(E / 16) as the format defines it, fp32."""
    at = np.asarray(exponents, np.int32)
    bits = ((at >> 4) + 127) << 23 | np.array(_MANTISSAS, np.int32)[at & 15]
    return bits.astype(np.int32).view(np.float32)


def analysis_of(base: Base) -> np.ndarray:
    """[coefficient][channel] fp32: the (least squares) inverse of the synthesis in whole steps."""
    synthesis = UNITS_PER_STEP * base.scales.astype(np.float64)[:, None] * base.matrix.astype(np.float64)
    rows, rank = synthesis.shape
    inverse = np.linalg.inv(synthesis) if rows == rank else np.linalg.pinv(synthesis)
    return inverse.astype(np.float32)


def coefficients(base: Base, analysis: np.ndarray, rows: np.ndarray, exact: bool = False) -> np.ndarray:
    """[row][coefficient] fp32 of rows [row][channel]. `exact` sums in the order the format's encoder does."""
    centred = rows.astype(np.float32) - base.means
    if not exact:
        return centred @ analysis.T
    total = np.zeros((len(rows), len(analysis)), np.float32)
    for channel in range(centred.shape[1]):
        total += analysis[:, channel] * centred[:, channel, None]
    return total


def table_indices(base: Base, exponent: int) -> np.ndarray:
    """t of each coefficient; negative where it is zero and absent."""
    t = (4 * base.sigmas.astype(np.int32) - exponent + 18) >> 2
    return np.minimum(t, tables.MAX_T)


def bypass_bits(t: np.ndarray) -> np.ndarray:
    return np.where(t < 16, 0, (t - 16) // 4 + 1)


def table_of(t: np.ndarray) -> np.ndarray:
    return np.where(t < 16, t, 12 + (t - 16) % 4)


@dataclasses.dataclass
class Coded:
    """Quantised rows of one base: levels q, their decoded values in 1/32 of a step, and the bits of each row."""

    levels: np.ndarray  # [row][coefficient] int32
    values: np.ndarray  # [row][coefficient] int32
    bits: np.ndarray  # [row] by the tables
    fits: np.ndarray  # [row] bool: whether the row can be coded at all


def quantise(base: Base, y: np.ndarray, exponents: np.ndarray) -> Coded:
    """Plain rounding of coefficients y[row][coefficient] with a step exponent for each row."""
    levels = np.zeros(y.shape, np.int32)
    values = np.zeros(y.shape, np.int32)
    bits = np.zeros(len(y))
    fits = np.ones(len(y), bool)
    for exponent in np.unique(exponents):
        rows = np.flatnonzero(exponents == exponent)
        t = table_indices(base, int(exponent))
        count = int(np.count_nonzero(t >= 0))
        if count == 0:
            continue
        t = t[:count]
        q = np.rint(y[rows, :count] * (np.float32(1) / step_of(int(exponent))))
        fits[rows] = np.isfinite(q).all(1) & (np.abs(q) <= MAX_VALUE).all(1)
        q = np.clip(np.nan_to_num(q), -MAX_VALUE, MAX_VALUE).astype(np.int32)
        value = dequantise(q, t)
        fits[rows] &= np.abs(value).sum(1) * 127 <= _MAX_SUM
        levels[rows, :count], values[rows, :count] = q, value
        bits[rows] = level_bits(q, t).sum(1)
    return Coded(levels, values, bits, fits)


def dequantise(q: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Values in 1/32 of a step."""
    magnitude = np.abs(q)
    shift = tables.shift_table()[table_of(t)[None, :], np.minimum(magnitude, 3)]
    plain = np.sign(q) * (UNITS_PER_STEP * np.minimum(magnitude, MAX_VALUE) - shift)
    coarse = UNITS_PER_STEP * np.clip(q, -MAX_VALUE, MAX_VALUE)
    return np.where(bypass_bits(t)[None, :] > 0, coarse, plain).astype(np.int32)


def level_bits(q: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Bits of each level by its table."""
    k = bypass_bits(t)[None, :]
    h = np.clip(q >> k, -tables.MAX_LEVEL - 1, tables.MAX_LEVEL + 1)
    return tables.cost_bits()[table_of(t)[None, :], h + tables.MAX_LEVEL + 1] + k


def synthesise(base: Base, values: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """[row][channel] fp32, by exact integer sums and three rounded operations."""
    sums = values.astype(np.float64) @ base.matrix.T.astype(np.float64)
    factors = step_of(exponents)[:, None] * base.scales[None, :]
    return sums.astype(np.float32) * factors + base.means
