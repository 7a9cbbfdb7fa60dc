"""The entropy tables of profile `transform`, computed from their definition (kernels/format/FORMAT.md).

Table t codes coefficients whose standard deviation is 0.5 * 2^(t / 4) steps and whose density is a generalised Gaussian
of shape 1.4. Symbol 0 escapes; symbol 1 + zigzag(h) is the level h.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

PROB_BITS = 12
PROB_SUM = 1 << PROB_BITS
NUM_TABLES = 16
MAX_LEVEL = 63
SHAPE = 1.4
RAW_ROW = 9  # the symbol of a row that is stored as it is
MAX_CLASS = 8
MAX_T = 47
_CLASS_MASS = (0.50, 0.12, 0.11, 0.09, 0.07, 0.05, 0.03, 0.015, 0.013, 0.002)
_TAIL_BINS = 4096


class Table(NamedTuple):
    """Frequencies by symbol (they sum to PROB_SUM), their cumulative sums, and 1/32-step shifts by magnitude 0..3."""

    frequencies: tuple[int, ...]
    cumulative: tuple[int, ...]
    shifts: tuple[int, int, int, int]

    @property
    def max_level(self) -> int:
        return (len(self.frequencies) - 2) // 2


def zigzag(level: int) -> int:
    return 2 * level if level >= 0 else -2 * level - 1


def unzigzag(code: int) -> int:
    return (code >> 1) ^ -(code & 1)


def _lower_gamma(a: float, z: float) -> float:
    """The regularised lower incomplete gamma function, by its series."""
    if z <= 0:
        return 0.0
    if z > 60:
        return 1.0
    term = total = 1.0 / a
    n = a
    while term > total * 1e-18:
        n += 1
        term *= z / n
        total += term
    return total * math.exp(a * math.log(z) - z - math.lgamma(a))


class _Density:
    """A generalised Gaussian of the given standard deviation."""

    def __init__(self, sigma: float):
        self._alpha = sigma * math.exp((math.lgamma(1 / SHAPE) - math.lgamma(3 / SHAPE)) / 2)
        self._mean_magnitude = self._alpha * math.exp(math.lgamma(2 / SHAPE) - math.lgamma(1 / SHAPE))

    def mass_within(self, x: float) -> float:
        """P(|X| < x)."""
        return _lower_gamma(1 / SHAPE, (x / self._alpha) ** SHAPE)

    def moment_within(self, x: float) -> float:
        """E[|X|; |X| < x]."""
        return self._mean_magnitude * _lower_gamma(2 / SHAPE, (x / self._alpha) ** SHAPE)


def _table(t: int) -> Table:
    density = _Density(0.5 * 2 ** (t / 4))
    mass = [density.mass_within(0.5)]
    mass += [density.mass_within(m + 0.5) - density.mass_within(m - 0.5) for m in range(1, _TAIL_BINS)]
    single = [mass[0]] + [p / 2 for p in mass[1:]]
    top = max((m for m in range(MAX_LEVEL + 1) if PROB_SUM * single[m] >= 0.5), default=0)
    levels = [max(1, math.floor(PROB_SUM * single[m] + 0.5)) for m in range(top + 1)]
    escape = max(1, PROB_SUM - levels[0] - 2 * sum(levels[1:]))
    frequencies = [escape] + [levels[abs(unzigzag(code))] for code in range(2 * top + 1)]
    frequencies[1] += PROB_SUM - sum(frequencies)
    shifts = [0]
    for low, high in ((1, 1), (2, 2), (3, _TAIL_BINS - 1)):
        weight = sum(mass[low : high + 1])
        grid = sum(m * mass[m] for m in range(low, high + 1))
        within = density.moment_within(high + 0.5) - density.moment_within(low - 0.5)
        shifts.append(math.floor(32 * (grid - within) / weight + 0.5))
    return Table(tuple(frequencies), _cumulative(frequencies), tuple(shifts))


def _cumulative(frequencies: list[int]) -> tuple[int, ...]:
    return tuple(int(c) for c in np.concatenate(([0], np.cumsum(frequencies)))[:-1])


@functools.lru_cache(maxsize=None)
def coefficient_tables() -> tuple[Table, ...]:
    """The sixteen tables of coefficients."""
    return tuple(_table(t) for t in range(NUM_TABLES))


@functools.lru_cache(maxsize=None)
def class_table() -> Table:
    """The table of row classes: symbols 0 to 8 are classes, RAW_ROW is a row stored as it is."""
    frequencies = [max(1, math.floor(PROB_SUM * p / sum(_CLASS_MASS) + 0.5)) for p in _CLASS_MASS]
    frequencies[0] += PROB_SUM - sum(frequencies)
    return Table(tuple(frequencies), _cumulative(frequencies), (0, 0, 0, 0))


@functools.lru_cache(maxsize=None)
def cost_bits() -> np.ndarray:
    """[table][|h| + MAX_LEVEL + 1 index of h, clipped]: bits of a level, escapes with their 16 bits."""
    costs = np.empty((NUM_TABLES, 2 * MAX_LEVEL + 3))
    for t, table in enumerate(coefficient_tables()):
        costs[t] = PROB_BITS - math.log2(table.frequencies[0]) + 16
        for h in range(-table.max_level, table.max_level + 1):
            costs[t, h + MAX_LEVEL + 1] = PROB_BITS - math.log2(table.frequencies[1 + zigzag(h)])
    return costs


@functools.lru_cache(maxsize=None)
def class_bits() -> np.ndarray:
    """Bits of each row class, the raw row last."""
    return PROB_BITS - np.log2(np.array(class_table().frequencies))


@functools.lru_cache(maxsize=None)
def shift_table() -> np.ndarray:
    """[table][min(|h|, 3)] shifts in 1/32 of a step."""
    return np.array([table.shifts for table in coefficient_tables()], np.int32)
