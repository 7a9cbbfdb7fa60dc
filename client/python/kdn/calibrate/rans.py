"""The tile of profile `transform`, written and read symbol by symbol: the reference that other coders are checked with.

Slow by design; kernels/format/FORMAT.md has the bytes.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from . import codec, tables
from .transform_object import Group

LANES = 32
LOWER_BOUND = 1 << 16
_HEADER = struct.Struct("<hHBBHII")


class TileError(ValueError):
    """The bytes are not a tile of this object."""


@dataclasses.dataclass
class Tile:
    """What a tile says. Classes are RAW_ROW where a row's elements are in `raw`."""

    step: int
    group_index: int
    object_index: int
    classes: np.ndarray  # [row]
    levels: list[np.ndarray]  # by base, [row][coefficient]; zero in raw rows
    raw: np.ndarray  # [raw row][channel of all bases] u16 bit patterns


@dataclasses.dataclass
class _Symbol:
    table: tables.Table
    symbol: int
    escape: int | None
    bypass: int
    low: int


def _contexts(base, exponent: int) -> list[tuple[int, int]]:
    """(table, bypass bits) of the coefficients that are present."""
    t = codec.table_indices(base, exponent)
    t = t[: int(np.count_nonzero(t >= 0))]
    return list(zip(codec.table_of(t).tolist(), codec.bypass_bits(t).tolist()))


def _symbols_of(group: Group, tile: Tile) -> Iterator[_Symbol]:
    coefficient_tables = tables.coefficient_tables()
    for base, levels in zip(group.bases, tile.levels):
        for row, row_class in enumerate(tile.classes):
            if row_class == tables.RAW_ROW:
                continue
            for (index, k), q in zip(_contexts(base, tile.step - 8 * int(row_class)), levels[row].tolist()):
                table, h = coefficient_tables[index], q >> k
                fits = abs(h) <= table.max_level
                yield _Symbol(table, 1 + tables.zigzag(h) if fits else 0, None if fits else h, k, q & ((1 << k) - 1))


def write_tile(group: Group, tile: Tile) -> bytes:
    """The bytes of a tile."""
    rows = [_Symbol(tables.class_table(), int(c), None, 0, 0) for c in tile.classes]
    steps = list(_in_steps(rows)) + list(_in_steps(_symbols_of(group, tile)))
    states = [LOWER_BOUND] * LANES
    words: list[int] = []
    for step in reversed(steps):
        # Backwards, and within a step the bypass bits first: a decoder meets everything in the opposite order.
        for lane in range(len(step) - 1, -1, -1):
            if step[lane].bypass:
                if states[lane] >= 1 << (32 - step[lane].bypass):
                    words.append(states[lane] & 0xFFFF)
                    states[lane] >>= 16
                states[lane] = states[lane] << step[lane].bypass | step[lane].low
        for lane in range(len(step) - 1, -1, -1):
            frequency = step[lane].table.frequencies[step[lane].symbol]
            if states[lane] >= frequency << (32 - tables.PROB_BITS):
                words.append(states[lane] & 0xFFFF)
                states[lane] >>= 16
            quotient, rest = divmod(states[lane], frequency)
            states[lane] = (quotient << tables.PROB_BITS) + rest + step[lane].table.cumulative[step[lane].symbol]
    escapes = [one.escape for step in steps for one in step if one.escape is not None]
    header = _HEADER.pack(
        tile.step, tile.group_index, tile.object_index, 0, len(tile.raw), len(words), len(escapes)
    )
    return b"".join(
        (
            header,
            struct.pack(f"<{LANES}I", *states),
            struct.pack(f"<{len(words)}H", *reversed(words)),
            struct.pack(f"<{len(escapes)}h", *escapes),
            np.ascontiguousarray(tile.raw).astype("<u2").tobytes(),
        )
    )


def _in_steps(symbols: Iterator[_Symbol] | Sequence[_Symbol]) -> Iterator[list[_Symbol]]:
    step: list[_Symbol] = []
    for one in symbols:
        step.append(one)
        if len(step) == LANES:
            yield step
            step = []
    if step:
        yield step


class _Decoder:
    def __init__(self, states: list[int], words: Sequence[int], escapes: Sequence[int]):
        self.states, self._words, self._escapes = states, iter(words), iter(escapes)
        self.words_left, self.escapes_left = len(words), len(escapes)

    def _refill(self, lane: int) -> None:
        if self.states[lane] < LOWER_BOUND:
            self.words_left -= 1
            if self.words_left < 0:
                raise TileError("the refill words end early")
            self.states[lane] = self.states[lane] << 16 | next(self._words)

    def step(self, contexts: Sequence[tuple[tables.Table, int]]) -> list[tuple[int, int | None, int]]:
        """(symbol, escape, low bits) of one step's lanes."""
        symbols = []
        for lane, (table, _) in enumerate(contexts):
            slot = self.states[lane] & (tables.PROB_SUM - 1)
            symbol = int(np.searchsorted(table.cumulative, slot, side="right")) - 1
            base = table.frequencies[symbol] * (self.states[lane] >> tables.PROB_BITS)
            self.states[lane] = base + slot - table.cumulative[symbol]
            symbols.append(symbol)
        for lane in range(len(contexts)):
            self._refill(lane)
        made = []
        for lane, (table, bypass) in enumerate(contexts):
            escape = None
            if symbols[lane] == 0 and table is not tables.class_table():
                self.escapes_left -= 1
                if self.escapes_left < 0:
                    raise TileError("the escapes end early")
                escape = next(self._escapes)
            low = self.states[lane] & ((1 << bypass) - 1)
            self.states[lane] >>= bypass
            made.append((symbols[lane], escape, low))
        for lane, (_, bypass) in enumerate(contexts):
            if bypass:
                self._refill(lane)
        return made


def read_tile(group: Group, rows: int, data: bytes) -> Tile:
    """The tile in `data`, of `rows` rows. Raises TileError when it is not valid."""
    if len(data) < _HEADER.size + 4 * LANES:
        raise TileError(f"{len(data)} bytes are shorter than a tile's header")
    step, group_index, object_index, zero, raw_rows, word_count, escape_count = _HEADER.unpack_from(data)
    width = sum(len(base.means) for base in group.bases)
    sizes = (4 * LANES, 2 * word_count, 2 * escape_count, 2 * raw_rows * width)
    if zero or abs(step) > 1024 or len(data) != _HEADER.size + sum(sizes):
        raise TileError(f"a tile of {len(data)} bytes does not have the length its header says")
    at = np.cumsum((_HEADER.size, *sizes))
    states = np.frombuffer(data, "<u4", LANES, at[0]).tolist()
    if min(states) < LOWER_BOUND:
        raise TileError("an initial state is below its range")
    words = np.frombuffer(data, "<u2", word_count, at[1]).tolist()
    decoder = _Decoder(states, words, np.frombuffer(data, "<i2", escape_count, at[2]).tolist())
    raw = np.frombuffer(data, "<u2", raw_rows * width, at[3]).reshape(raw_rows, width)
    class_contexts = [(tables.class_table(), 0)] * rows
    classes = np.array([s for part in _cut(class_contexts) for s, _, _ in decoder.step(part)], np.int32)
    if np.count_nonzero(classes == tables.RAW_ROW) != raw_rows:
        raise TileError(f"{raw_rows} raw rows are declared, others are coded")
    levels = _read_levels(group, step, classes, decoder)
    if decoder.words_left or decoder.escapes_left or any(state != LOWER_BOUND for state in decoder.states):
        raise TileError("words or escapes are left over, or a state ends elsewhere")
    return Tile(step, group_index, object_index, classes, levels, raw)


def _cut(items: Sequence) -> Iterator[Sequence]:
    for first in range(0, len(items), LANES):
        yield items[first : first + LANES]


def _read_levels(group: Group, step: int, classes: np.ndarray, decoder: _Decoder) -> list[np.ndarray]:
    coefficient_tables = tables.coefficient_tables()
    levels = [np.zeros((len(classes), len(base.sigmas)), np.int32) for base in group.bases]
    places, contexts = [], []
    for index, base in enumerate(group.bases):
        by_class = {c: _contexts(base, step - 8 * c) for c in range(tables.MAX_CLASS + 1)}
        for row, row_class in enumerate(classes.tolist()):
            if row_class == tables.RAW_ROW:
                continue
            for j, (table, k) in enumerate(by_class[row_class]):
                places.append((index, row, j, k))
                contexts.append((coefficient_tables[table], k))
    at = 0
    for part in _cut(contexts):
        for symbol, escape, low in decoder.step(part):
            index, row, j, k = places[at]
            h = tables.unzigzag(symbol - 1) if escape is None else escape
            levels[index][row, j] = (h << k) + low
            at += 1
    return levels


def decode_rows(group: Group, tile: Tile) -> list[np.ndarray]:
    """[row][channel] fp32 of each base, zero in raw rows (whose elements are in the tile)."""
    made = []
    raw = tile.classes == tables.RAW_ROW
    exponents = tile.step - 8 * np.where(raw, 0, tile.classes)
    for base, levels in zip(group.bases, tile.levels):
        values = np.zeros(levels.shape, np.int32)
        for row_class in np.unique(tile.classes[~raw]):
            rows = np.flatnonzero(tile.classes == row_class)
            t = codec.table_indices(base, tile.step - 8 * int(row_class))
            count = int(np.count_nonzero(t >= 0))
            values[rows, :count] = codec.dequantise(levels[rows, :count], t[:count])
        rows = codec.synthesise(base, values, exponents)
        rows[raw] = 0
        made.append(rows)
    return made
