"""What an object does to a context: its rows as a reader decodes them, and the bytes they take."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from kdn.spec import ModelSpec

from . import codec, tables
from .gather import Observed, flat, unflat
from .importance import group_importance, layer_importance, row_classes
from .transform_object import BASE_K, BASE_KV, BASE_V, Base, Group, TransformObject

CHUNK_TOKENS = 256
TILE_HEADER_BYTES = 16 + 4 * 32
# A chunk's container beside its tiles: the fixed header and what the directory takes for each section.
CONTAINER_BYTES = 256
SECTION_BYTES = 48
SINK_ROWS = 1


def base_rows(spec: ModelSpec, group: Group, kind: int, k: Sequence, v: Sequence) -> np.ndarray:
    """[row][channel] of a base of a kind, in its channel order."""
    heads = slice(group.head_begin, group.head_begin + group.head_count)
    parts = []
    for layer in range(group.layer, group.layer + group.layer_count):
        if kind in (BASE_K, BASE_KV):
            parts.append(flat(k[layer][heads]))
        if kind in (BASE_V, BASE_KV):
            parts.append(flat(v[layer][heads]))
    return torch.cat(parts, 1).numpy()


def _put_rows(spec: ModelSpec, group: Group, base: Base, rows: np.ndarray, k: Sequence, v: Sequence) -> None:
    heads = slice(group.head_begin, group.head_begin + group.head_count)
    at = 0
    for layer in range(group.layer, group.layer + group.layer_count):
        for target, wanted in ((k, (BASE_K, BASE_KV)), (v, (BASE_V, BASE_KV))):
            if base.kind in wanted:
                width = target[layer].shape[2] * group.head_count
                part = torch.from_numpy(np.ascontiguousarray(rows[:, at : at + width]))
                target[layer][heads] = unflat(part, group.head_count)
                at += width


def classes_of(spec: ModelSpec, group: Group, k: Sequence[torch.Tensor], by_class: bool = True) -> np.ndarray:
    """Class of each row of a group by the group's own queries."""
    rows = k[group.layer].shape[1]
    if not by_class or group.queries.shape[2] == 0:
        return np.zeros(rows, np.int32)
    heads = slice(group.head_begin, group.head_begin + group.head_count)
    importance = [
        layer_importance(spec, group.layer + i, k[group.layer + i][heads], torch.from_numpy(group.queries[i]))
        for i in range(group.layer_count)
    ]
    return row_classes(group_importance(importance))


@dataclasses.dataclass
class Prepared:
    """One group of one context, ready to be coded at any step."""

    group: Group
    coefficients: list[np.ndarray]  # by base, [row][coefficient]
    classes: np.ndarray


@dataclasses.dataclass
class CodedContext:
    """Bytes of a context's containers, and its KV as decoded."""

    bytes: float
    k: list[torch.Tensor]
    v: list[torch.Tensor]
    raw_rows: int


class Coder:
    """Codes contexts with one object; coefficients and classes of a context are computed once."""

    def __init__(self, spec: ModelSpec, made: TransformObject, sink_rows: int = SINK_ROWS):
        self.spec, self.made, self.sink_rows = spec, made, sink_rows
        self._analyses = [[codec.analysis_of(base) for base in group.bases] for group in made.groups]

    def prepare(self, observed: Observed) -> list[Prepared]:
        prepared = []
        for group, analyses in zip(self.made.groups, self._analyses):
            y = [
                codec.coefficients(base, analysis, base_rows(self.spec, group, base.kind, observed.k, observed.v))
                for base, analysis in zip(group.bases, analyses)
            ]
            prepared.append(Prepared(group, y, classes_of(self.spec, group, observed.k)))
        return prepared

    def _quantise(self, prepared: Prepared, step: int, rows: np.ndarray) -> tuple[list[codec.Coded], np.ndarray]:
        """Rows of a group by base, and their classes: the calibrated one, or the finest at which the row fits."""
        classes = prepared.classes[rows].copy()
        pairs = list(zip(prepared.group.bases, prepared.coefficients))
        coded = [codec.quantise(base, y[rows], step - 8 * classes) for base, y in pairs]
        while True:
            misfits = np.flatnonzero(~np.logical_and.reduce([one.fits for one in coded]) & (classes > 0))
            if not len(misfits):
                return coded, classes
            classes[misfits] -= 1
            for one, (base, y) in zip(coded, pairs):
                again = codec.quantise(base, y[rows[misfits]], step - 8 * classes[misfits])
                one.levels[misfits], one.values[misfits] = again.levels, again.values
                one.bits[misfits], one.fits[misfits] = again.bits, again.fits

    def raw_row_bytes(self, group: Group) -> int:
        return 2 * sum(len(base.means) for base in group.bases)

    def size(self, prepared: Sequence[Prepared], step: int, stride: int = 1) -> float:
        """Bytes of the context at a step, estimated from every stride-th row."""
        total = 0.0
        for part in prepared:
            rows = np.arange(self.sink_rows, len(part.classes), stride)
            coded, classes = self._quantise(part, step, rows)
            bits = tables.class_bits()[classes] + sum(one.bits for one in coded)
            total += bits.sum() / 8 * (len(part.classes) - self.sink_rows) / len(rows)
            total += self.sink_rows * self.raw_row_bytes(part.group)
            total += -(-len(part.classes) // CHUNK_TOKENS) * (TILE_HEADER_BYTES + SECTION_BYTES)
        return total + -(-len(prepared[0].classes) // CHUNK_TOKENS) * CONTAINER_BYTES

    def present(self, part: Prepared, step: int) -> float:
        """Coefficients of all rows of a group that are coded at a step."""
        total = 0.0
        for row_class, rows in zip(*np.unique(part.classes, return_counts=True)):
            for base in part.group.bases:
                total += rows * np.count_nonzero(codec.table_indices(base, step - 8 * int(row_class)) >= 0)
        return total

    def code(self, observed: Observed, prepared: Sequence[Prepared], step: int) -> CodedContext:
        """The context as it is read back."""
        k, v = [part.clone() for part in observed.k], [part.clone() for part in observed.v]
        total, raw = 0.0, 0
        for part in prepared:
            rows = np.arange(len(part.classes))
            coded, classes = self._quantise(part, step, rows)
            is_raw = rows < self.sink_rows
            for one in coded:
                is_raw = is_raw | ~one.fits
            bits = np.where(is_raw, tables.class_bits()[tables.RAW_ROW], tables.class_bits()[classes])
            for base, one in zip(part.group.bases, coded):
                original = base_rows(self.spec, part.group, base.kind, observed.k, observed.v)
                decoded = codec.synthesise(base, one.values, step - 8 * classes)
                _put_rows(self.spec, part.group, base, np.where(is_raw[:, None], original, decoded), k, v)
                bits = bits + np.where(is_raw, 0, one.bits)
            raw += int(is_raw.sum())
            total += bits.sum() / 8 + is_raw.sum() * self.raw_row_bytes(part.group)
            total += -(-len(rows) // CHUNK_TOKENS) * (TILE_HEADER_BYTES + SECTION_BYTES)
        total += -(-len(prepared[0].classes) // CHUNK_TOKENS) * CONTAINER_BYTES
        return CodedContext(total, k, v, raw)


def raw_bytes(spec: ModelSpec, rows: int) -> int:
    """Bytes of the rows of a context as the model holds them."""
    return rows * spec.token_bytes()


def divergence(reference: torch.Tensor, other: torch.Tensor) -> float:
    """Mean KL divergence over the tokens, in nats."""
    return float((reference.exp() * (reference - other)).sum(-1).mean())
