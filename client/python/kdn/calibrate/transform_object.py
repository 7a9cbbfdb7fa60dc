"""The calibration object of profile `transform`: its values, writing it and reading it back.

The bytes are those of kernels/format/FORMAT.md; the reader refuses whatever the writer would not have written.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct

import numpy as np

from kdn.spec import ModelSpec

MAGIC = b"KDNO"
VERSION = 1
KIND = 2
MAX_BYTES = 64 << 20
MAX_GROUPS = 4096
MAX_WIDTH = 4096
MAX_LEVELS = 16
MAX_QUERIES = 256
MAX_STEP = 1024
UNKNOWN_KL = 0xFFFFFFFF
BASE_K, BASE_V, BASE_KV = 0, 1, 2
_MIN_SCALE, _MAX_SCALE = 2.0**-100, 2.0**60


class ObjectError(ValueError):
    """The bytes are not a transform object of this model."""


@dataclasses.dataclass
class Base:
    """One transform: synthesis is mean + scale * (matrix @ value) * step."""

    kind: int
    means: np.ndarray  # [channel] fp32
    scales: np.ndarray  # [channel] fp32
    sigmas: np.ndarray  # [coefficient] int8, quarter octaves, descending
    matrix: np.ndarray  # [channel][coefficient] int8


@dataclasses.dataclass
class Group:
    """Layers and heads coded together."""

    layer: int
    layer_count: int
    head_begin: int
    head_count: int
    bases: list[Base]
    queries: np.ndarray  # [layer][head][query][k channel], fp32 values that bf16 holds


@dataclasses.dataclass
class Level:
    """A quality level: nominal ratio, step in sixteenths of an octave, expected KL divergence in nats or None."""

    ratio: float
    step: int
    kl: float | None = None


@dataclasses.dataclass
class TransformObject:
    """Everything that the profile needs to know of a model."""

    fingerprint: bytes
    queries_per_head: int
    levels: list[Level]
    groups: list[Group]


def base_width(spec: ModelSpec, group: Group, kind: int) -> int:
    """Channels of a base."""
    layers = spec.layers[group.layer : group.layer + group.layer_count]
    k = sum(group.head_count * layer.k_head_dim for layer in layers)
    v = sum(group.head_count * layer.v_head_dim for layer in layers)
    return {BASE_K: k, BASE_V: v, BASE_KV: k + v}[kind]


def digest_of(data: bytes) -> bytes:
    """What a container names the object by."""
    return hashlib.sha256(data).digest()


def to_bf16(values: np.ndarray) -> np.ndarray:
    """The bf16 bit patterns nearest to fp32 values, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(patterns: np.ndarray) -> np.ndarray:
    return (patterns.astype(np.uint32) << 16).view(np.float32)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def write(made: TransformObject, spec: ModelSpec) -> bytes:
    """The bytes of a valid object. Raises ObjectError when it breaks a rule of the format."""
    parts = [
        struct.pack("<4sHBB", MAGIC, VERSION, KIND, 0),
        made.fingerprint,
        struct.pack("<HHHH", len(made.groups), len(made.levels), made.queries_per_head, 0),
    ]
    for level in made.levels:
        kl = UNKNOWN_KL if level.kl is None else min(max(round(level.kl * 1e6), 0), UNKNOWN_KL - 1)
        parts.append(struct.pack("<HhI8x", round(level.ratio * 10), level.step, kl))
    for group in made.groups:
        parts.append(
            struct.pack(
                "<HBBHH8x", group.layer, group.layer_count, len(group.bases), group.head_begin, group.head_count
            )
        )
        for base in group.bases:
            body = struct.pack("<BBH12x", base.kind, 0, len(base.sigmas))
            body += base.means.astype("<f4").tobytes() + base.scales.astype("<f4").tobytes()
            parts.append(_padded(body + base.sigmas.tobytes() + np.ascontiguousarray(base.matrix).tobytes()))
        parts.append(_padded(to_bf16(group.queries).astype("<u2").tobytes()))
    data = b"".join(parts)
    read(data, spec, made.fingerprint)
    return data


class _Cursor:
    def __init__(self, data: bytes):
        self._data = memoryview(data)
        self._at = 0

    def take(self, size: int, what: str) -> memoryview:
        if size > len(self._data) - self._at:
            raise ObjectError(f"the object ends within {what}")
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def zeros(self, size: int, what: str) -> None:
        if any(self.take(size, what)):
            raise ObjectError(f"{what} is not zero")

    def align(self, what: str) -> None:
        self.zeros(-self._at % 16, what)

    def unpack(self, layout: str, what: str) -> tuple:
        return struct.unpack(layout, self.take(struct.calcsize(layout), what))

    def at_end(self) -> bool:
        return self._at == len(self._data)


def read(data: bytes, spec: ModelSpec, fingerprint: bytes) -> TransformObject:
    """The object in `data`. Raises ObjectError saying what is wrong."""
    if len(data) > MAX_BYTES:
        raise ObjectError(f"{len(data)} bytes are more than an object may have ({MAX_BYTES})")
    cursor = _Cursor(data)
    magic, version, kind, shape = cursor.unpack("<4sHBB", "the header")
    if (magic, version, kind, shape) != (MAGIC, VERSION, KIND, 0):
        raise ObjectError(f"not a transform object of version {VERSION}: {magic!r}, {version}, {kind}, {shape}")
    named = bytes(cursor.take(32, "the fingerprint"))
    if named != fingerprint:
        raise ObjectError(f"the object is of another model: {named.hex()[:16]}, not {fingerprint.hex()[:16]}")
    groups, levels, queries, zero = cursor.unpack("<HHHH", "the header")
    if not (1 <= groups <= MAX_GROUPS and 1 <= levels <= MAX_LEVELS and queries <= MAX_QUERIES and zero == 0):
        raise ObjectError(f"{groups} groups, {levels} levels, {queries} queries are out of range")
    made = TransformObject(named, queries, [_read_level(cursor) for _ in range(levels)], [])
    ratios = [level.ratio for level in made.levels]
    if any(low >= high for low, high in zip(ratios, ratios[1:])):
        raise ObjectError("levels are not in ascending order of their ratios")
    taken: set[tuple[int, int]] = set()
    for _ in range(groups):
        group = _read_group(cursor, spec, queries)
        if made.groups:
            last = made.groups[-1]
            if (last.layer, last.head_begin) >= (group.layer, group.head_begin):
                raise ObjectError(f"the group at layer {group.layer} is out of order")
        cells = {
            (group.layer + i, group.head_begin + h) for i in range(group.layer_count) for h in range(group.head_count)
        }
        if taken & cells:
            raise ObjectError(f"the group at layer {group.layer} overlaps another")
        taken |= cells
        made.groups.append(group)
    if not cursor.at_end():
        raise ObjectError("bytes follow the last group")
    return made


def _read_level(cursor: _Cursor) -> Level:
    ratio, step, kl = cursor.unpack("<HhI", "the levels")
    cursor.zeros(8, "a level's padding")
    if ratio == 0 or abs(step) > MAX_STEP:
        raise ObjectError(f"a level has ratio {ratio / 10} and step {step}")
    return Level(ratio / 10, step, None if kl == UNKNOWN_KL else kl / 1e6)


def _read_group(cursor: _Cursor, spec: ModelSpec, queries: int) -> Group:
    layer, layer_count, bases, head_begin, head_count = cursor.unpack("<HBBHH", "a group")
    cursor.zeros(8, "a group's padding")
    if layer_count == 0 or layer + layer_count > len(spec.layers) or not 1 <= bases <= 2:
        raise ObjectError(f"a group of {bases} bases covers layers {layer} to {layer + layer_count}")
    layers = spec.layers[layer : layer + layer_count]
    alike = {(at.attention, at.window, at.num_kv_heads, at.k_head_dim, at.v_head_dim) for at in layers}
    if len(alike) != 1 or head_count == 0 or head_begin + head_count > layers[0].num_kv_heads:
        raise ObjectError(f"the group at layer {layer} joins layers or heads that differ")
    group = Group(layer, layer_count, head_begin, head_count, [], np.empty(0))
    for _ in range(bases):
        group.bases.append(_read_base(cursor, spec, group))
    kinds = [base.kind for base in group.bases]
    if kinds not in ([[BASE_K, BASE_V], [BASE_KV]] if layers[0].v_head_dim else [[BASE_K]]):
        raise ObjectError(f"the group at layer {layer} has bases of kinds {kinds}")
    shape = (layer_count, head_count, queries, layers[0].k_head_dim)
    raw = np.frombuffer(cursor.take(2 * int(np.prod(shape)), "queries"), "<u2")
    group.queries = from_bf16(raw).reshape(shape)
    if not np.isfinite(group.queries).all():
        raise ObjectError(f"the group at layer {layer} has queries that are not finite")
    cursor.align("the padding behind queries")
    return group


def _read_base(cursor: _Cursor, spec: ModelSpec, group: Group) -> Base:
    where = f"a base of the group at layer {group.layer}"
    kind, zero, rank = cursor.unpack("<BBH", where)
    cursor.zeros(12, f"padding of {where}")
    if kind > BASE_KV or zero:
        raise ObjectError(f"{where} is of kind {kind}")
    width = base_width(spec, group, kind)
    if width > MAX_WIDTH or width % 16 or not 1 <= rank <= width:
        raise ObjectError(f"{where} has {width} channels and {rank} coefficients")
    means = np.frombuffer(cursor.take(4 * width, where), "<f4")
    scales = np.frombuffer(cursor.take(4 * width, where), "<f4")
    sigmas = np.frombuffer(cursor.take(rank, where), np.int8)
    matrix = np.frombuffer(cursor.take(rank * width, where), np.int8).reshape(width, rank)
    cursor.align(f"padding of {where}")
    in_range = (scales == 0) | ((scales >= _MIN_SCALE) & (scales <= _MAX_SCALE))
    if not np.isfinite(means).all() or not in_range.all() or np.signbit(scales).any():
        raise ObjectError(f"{where} has means or scales out of range")
    if (np.diff(sigmas.astype(np.int16)) > 0).any() or (matrix == -128).any():
        raise ObjectError(f"{where} has sigmas that ascend, or a matrix entry of -128")
    return Base(kind, means, scales, sigmas, matrix)
