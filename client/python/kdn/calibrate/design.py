"""From what was observed to transforms: statistics of a base, and the damped Fisher-weighted transform of them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from .codec import UNITS_PER_STEP, analysis_of
from .transform_object import BASE_K, BASE_KV, Base

_MATRIX_MAX = 127
_SIGMA_MAX = 127
# Directions that never vary keep this share of the mean variance, so that no sigma is zero.
_VARIANCE_FLOOR = 1e-9


@dataclasses.dataclass
class Moments:
    """Sums over rows of the channels of one base, fp64."""

    width: int
    rows: int = 0
    gradient_rows: float = 0.0
    total: np.ndarray = dataclasses.field(init=False)
    squares: np.ndarray = dataclasses.field(init=False)
    fisher: np.ndarray = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.total = np.zeros(self.width)
        self.squares = np.zeros((self.width, self.width))
        self.fisher = np.zeros((self.width, self.width))

    def add_rows(self, rows: np.ndarray) -> None:
        self.rows += len(rows)
        self.total += rows.sum(0, dtype=np.float64)
        self.squares += (rows.T @ rows).astype(np.float64)

    def add_gradients(self, gradients: np.ndarray, rows: float) -> None:
        """Gradients [row][channel], weighted; `rows` says for how many rows' worth they count."""
        self.gradient_rows += rows
        self.fisher += (gradients.T @ gradients).astype(np.float64)

    def mean(self) -> np.ndarray:
        return self.total / max(self.rows, 1)

    def covariance(self) -> np.ndarray:
        mean = self.mean()
        return self.squares / max(self.rows, 1) - np.outer(mean, mean)

    def information(self) -> np.ndarray:
        return self.fisher / max(self.gradient_rows, 1e-300)


def _square_root(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric square root of a positive matrix, and its inverse."""
    values, vectors = np.linalg.eigh(matrix)
    roots = np.sqrt(np.maximum(values, values.max() * 1e-12))
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T


def damped(information: np.ndarray, damping: float) -> np.ndarray:
    """F + damping * mean eigenvalue * I."""
    level = np.trace(information) / len(information)
    if not level > 0:
        return np.eye(len(information)) * 1e-30
    return information + damping * level * np.eye(len(information))


def base_of(kind: int, moments: Moments, weights: np.ndarray, max_sigma: float = math.inf) -> Base:
    """The transform for rows of the given moments when errors weigh `weights` (KL = error' weights error).

    One whole step of any coefficient then costs the same, whichever base it is in; but a coefficient whose standard
    deviation is above `max_sigma` is scaled down to it, so that its levels stay in the format's range.
    """
    root, inverse = _square_root(weights)
    covariance = moments.covariance()
    floor = _VARIANCE_FLOOR * max(np.trace(covariance) / len(covariance), 1e-30)
    covariance += floor * np.eye(len(covariance))
    values, vectors = np.linalg.eigh(root @ covariance @ root)
    order = np.argsort(-values, kind="stable")
    gains = np.maximum(np.sqrt(np.maximum(values[order], 0)) / max_sigma, 1)
    synthesis = inverse @ vectors[:, order] * gains
    scales = (np.abs(synthesis).max(1) / (UNITS_PER_STEP * _MATRIX_MAX)).astype(np.float32)
    matrix = np.rint(synthesis / (UNITS_PER_STEP * scales.astype(np.float64)[:, None])).astype(np.int8)
    rough = Base(kind, moments.mean().astype(np.float32), scales, np.zeros(len(values), np.int8), matrix)
    # The rounded matrix mixes coefficients a little differently: sigmas are those of its own inverse.
    analysis = analysis_of(rough).astype(np.float64)
    variances = np.einsum("ji,ik,jk->j", analysis, covariance, analysis, optimize=True)
    sigmas = np.clip(np.rint(2 * np.log2(np.maximum(variances, 1e-60))), -_SIGMA_MAX, _SIGMA_MAX).astype(np.int8)
    order = np.argsort(-sigmas.astype(np.int16), kind="stable")
    return Base(kind, rough.means, scales, sigmas[order], np.ascontiguousarray(matrix[:, order]))


def kinds_of(joint: bool, has_v: bool) -> list[int]:
    if not has_v:
        return [BASE_K]
    return [BASE_KV] if joint else [BASE_K, BASE_KV - 1]
