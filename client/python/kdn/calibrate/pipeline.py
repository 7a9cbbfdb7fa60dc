"""From a model and texts to a calibration object: observe, choose, measure."""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from kdn.spec import ModelSpec

from . import codec, design, evaluate
from .gather import Context, Observed, Runner
from .layout import layer_groups
from .transform_object import Base, Group, Level, TransformObject, base_width

RATIOS = (6.0, 8.0, 11.0, 16.0, 24.0, 32.0)
RECOMMENDED_CONTEXTS = 7
# Every fourth context is held out, to choose with and to measure on.
_HOLD_OUT_EVERY = 4
_DAMPINGS = (0.03, 0.1, 0.3, 1.0)
_MAX_STEP_SCALE_OCTAVES = 2.0
_STEP_RANGE = (-512, 512)  # sixteenths of an octave around a step that costs one unit
_SIZE_STRIDE = 8
# Divergence grows with about this power of the ratio, on the models measured.
_DIVERGENCE_EXPONENT = 2.8
_SENSITIVITY_CONTEXTS = 2
# A level fits while it is within this many standard deviations: what real KV reaches in its longest tails.
_TAIL_SIGMAS = 12
_FIRST_QUERY_SHARE = 8  # queries come from behind the first eighth of a context


class CalibrationError(ValueError):
    """What was asked for cannot be done."""


@dataclasses.dataclass
class Options:
    """What the object is to be, and how much is spent on choosing it."""

    groups: int = 1
    joint: bool = False
    chunk_tokens: int = 256
    ratios: Sequence[float] = RATIOS
    queries: int = 64
    samples: int = 2  # label samples per context
    search_ratio: float = 16.0
    damping: float | None = None  # None: chosen on held-out text
    step_search: bool = True
    seed: int = 1


@dataclasses.dataclass
class Calibration:
    """The object and how it was chosen."""

    made: TransformObject
    damping: float
    step_scales: list[float]  # by group
    trials: list[dict[str, float]]
    held_out_contexts: int
    calibration_contexts: int
    measured: list[dict[str, float]]  # by level: ratio, real ratio, kl
    seconds: float


Progress = Callable[[str], None]


def split(contexts: Sequence[Context]) -> tuple[list[Context], list[Context]]:
    """(calibration, held out). Raises CalibrationError when there are fewer than two contexts."""
    if len(contexts) < 2:
        raise CalibrationError("at least two contexts are needed, one of them to measure on: give more or longer texts")
    held = [c for i, c in enumerate(contexts) if i % _HOLD_OUT_EVERY == 1]
    return [c for i, c in enumerate(contexts) if i % _HOLD_OUT_EVERY != 1], held


class _Shelf:
    """Observed contexts, on disk as the model's dtype holds them: one at a time is in memory."""

    def __init__(self, folder: str, stored: torch.dtype):
        self._folder, self._stored, self._count = folder, stored, 0

    def __len__(self) -> int:
        return self._count

    def put(self, observed: Observed) -> None:
        # K was rotated back from rounded K: fp32 keeps it exactly, V is of the stored dtype already.
        torch.save(
            (observed.context, observed.k, [v.to(self._stored) for v in observed.v], observed.reference),
            self._path(self._count),
        )
        self._count += 1

    def get(self, index: int) -> Observed:
        context, k, v, reference = torch.load(self._path(index), weights_only=False)
        return Observed(context, k, [part.float() for part in v], reference)

    def __iter__(self):
        return (self.get(index) for index in range(self._count))

    def _path(self, index: int) -> str:
        return os.path.join(self._folder, f"{index}.pt")


class Calibrator:
    """One calibration of one model. Deterministic for a seed, thread count and PyTorch build."""

    def __init__(self, model: Any, spec: ModelSpec, fingerprint: bytes, options: Options, progress: Progress):
        self._runner, self._spec, self._fingerprint = Runner(model, spec), spec, fingerprint
        self._options, self._say = options, progress
        self._generator = torch.Generator().manual_seed(options.seed)
        self._layout = layer_groups(spec, options.groups, options.chunk_tokens, options.joint)
        self._max_sigma = math.inf
        self._kinds = [design.kinds_of(options.joint, spec.layers[l].v_head_dim > 0) for l, _ in self._layout]

    def run(self, contexts: Sequence[Context]) -> Calibration:
        """Raises CalibrationError when there are too few contexts."""
        started = time.monotonic()
        calibration, held = split(contexts)
        with tempfile.TemporaryDirectory(prefix="kdn-calibrate-") as scratch:
            shelves = []
            for name in ("calibration", "held-out"):
                os.mkdir(os.path.join(scratch, name))
                shelves.append(_Shelf(os.path.join(scratch, name), self._runner.stored))
            groups = self._bank(calibration, shelves[0])
            moments = self._moments(groups, shelves[0])
            for index, context in enumerate(held, 1):
                observed = self._runner.observe(context)
                self._runner.reference(observed)
                shelves[1].put(observed)
                self._say(f"held-out context {index} of {len(held)}: {context.source}")
            return self._choose(groups, moments, shelves[1], len(calibration), started)

    def _bank(self, contexts: Sequence[Context], shelf: _Shelf) -> list[Group]:
        """Observes the contexts and draws the query bank from them."""
        drawn: list[list[torch.Tensor]] = [[] for _ in self._spec.layers]
        for index, context in enumerate(contexts, 1):
            observed, queries = self._runner.observe_queries(context)
            shelf.put(observed)
            want = self._options.queries * index // len(contexts) - self._options.queries * (index - 1) // len(contexts)
            for layer, held in enumerate(queries):
                heads, per_head, rows, _ = held.shape
                row = torch.randint(rows // _FIRST_QUERY_SHARE, rows, (heads, want), generator=self._generator)
                head = torch.randint(0, per_head, (heads, want), generator=self._generator)
                drawn[layer].append(held[torch.arange(heads)[:, None], head, row])
            self._say(f"context {index} of {len(contexts)}: {context.source}")
        bank = [torch.cat(parts, 1).to(torch.bfloat16).float().numpy() for parts in drawn]
        return [
            Group(first, count, 0, self._spec.layers[first].num_kv_heads, [], np.stack(bank[first : first + count]))
            for first, count in self._layout
        ]

    def _moments(self, groups: Sequence[Group], shelf: _Shelf) -> list[list[design.Moments]]:
        moments = [
            [design.Moments(base_width(self._spec, group, kind)) for kind in kinds]
            for group, kinds in zip(groups, self._kinds)
        ]
        for index, observed in enumerate(shelf, 1):
            classes = [evaluate.classes_of(self._spec, group, observed.k) for group in groups]
            for group, kinds, sums in zip(groups, self._kinds, moments):
                for kind, one in zip(kinds, sums):
                    rows = evaluate.base_rows(self._spec, group, kind, observed.k, observed.v)
                    one.add_rows(rows[evaluate.SINK_ROWS :])
            for gradients in self._runner.gradients(observed, self._options.samples, self._generator):
                self._add_gradients(groups, moments, classes, gradients, len(observed.context.continuation))
            self._say(f"gradients of context {index} of {len(shelf)}")
        return moments

    def _add_gradients(
        self, groups: Sequence[Group], moments: Sequence, classes: Sequence, gradients: list, tokens: int
    ) -> None:
        k, v = [at[0] for at in gradients], [at[1] for at in gradients]
        for group, kinds, sums, by_row in zip(groups, self._kinds, moments, classes):
            first = gradients[group.layer][2]
            skip = max(evaluate.SINK_ROWS - first, 0)
            # Errors of a row of class c are 2^(c / 2) times smaller.
            weights = 2.0 ** (-by_row[first + skip :] / 2)
            for kind, one in zip(kinds, sums):
                rows = evaluate.base_rows(self._spec, group, kind, k, v)[skip:]
                one.add_gradients(rows * weights[:, None].astype(np.float32), len(rows) * tokens)

    def _object(self, groups: Sequence[Group], moments: Sequence, damping: float, scales: Sequence[float]):
        """The object without its levels."""
        information = [[design.damped(one.information(), damping) for one in sums] for sums in moments]
        unit = np.mean([np.trace(f) / len(f) for by_base in information for f in by_base])
        made = []
        for group, kinds, sums, by_base, scale in zip(groups, self._kinds, moments, information, scales):
            weights = [f / (unit * scale**2) for f in by_base]
            bases: list[Base] = [design.base_of(*args, self._max_sigma) for args in zip(kinds, sums, weights)]
            made.append(dataclasses.replace(group, bases=bases))
        return TransformObject(self._fingerprint, self._options.queries, [], made)

    def _choose(self, groups: Sequence[Group], moments: Sequence, held: _Shelf, calibrated: int, started: float):
        options = self._options
        trials: list[dict[str, float]] = []
        plain = [1.0] * len(groups)
        best = None
        self._max_sigma = self._bound(self._object(groups, moments, options.damping or _DAMPINGS[0], plain), held)
        for damping in (options.damping,) if options.damping is not None else _DAMPINGS:
            made = self._object(groups, moments, damping, plain)
            found = self._measure(made, held, [options.search_ratio])[0]
            trials.append({"damping": damping, "kl": found["kl"], "ratio": found["real_ratio"]})
            self._say(f"damping {damping}: KL {found['kl']:.5f} at {found['real_ratio']:.2f}x")
            if best is None or _at_nominal(found) < best[0]:
                best = (_at_nominal(found), damping, plain, made)
        assert best is not None
        if options.step_search and len(groups) > 1:
            scales = self._step_scales(best[3], held)
            made = self._object(groups, moments, best[1], scales)
            found = self._measure(made, held, [options.search_ratio])[0]
            trials.append({"damping": best[1], "kl": found["kl"], "ratio": found["real_ratio"], "steps": 1.0})
            self._say(f"steps by group: KL {found['kl']:.5f} at {found['real_ratio']:.2f}x")
            if _at_nominal(found) < best[0]:
                best = (_at_nominal(found), best[1], scales, made)
        made = best[3]
        measured = self._measure(made, held, options.ratios)
        made.levels = [Level(at["ratio"], int(at["step"]), at["kl"]) for at in measured]
        for at in measured:
            self._say(f"level {at['ratio']:g}x: KL {at['kl']:.5f} at {at['real_ratio']:.2f}x")
        seconds = time.monotonic() - started
        return Calibration(made, best[1], list(best[2]), trials, len(held), calibrated, measured, seconds)

    def _bound(self, made: TransformObject, held: _Shelf) -> float:
        """The standard deviation whose tails still fit the levels' range at the finest ratio."""
        coder = evaluate.Coder(self._spec, made)
        prepared = [coder.prepare(observed) for observed in held]
        raw = sum(evaluate.raw_bytes(self._spec, len(parts[0].classes)) for parts in prepared)
        step = step_for(coder, prepared, raw, min(self._options.ratios))
        return codec.MAX_VALUE * float(codec.step_of(step)) / _TAIL_SIGMAS

    def _measure(self, made: TransformObject, held: _Shelf, ratios: Sequence[float]) -> list[dict[str, float]]:
        """KL and real ratio over the held-out contexts at the step that each nominal ratio takes."""
        coder = evaluate.Coder(self._spec, made)
        prepared = [coder.prepare(observed) for observed in held]
        raw = [evaluate.raw_bytes(self._spec, len(parts[0].classes)) for parts in prepared]
        made_levels = []
        for ratio in ratios:
            step = step_for(coder, prepared, sum(raw), ratio)
            coded_bytes, kl = 0.0, []
            for parts, observed in zip(prepared, held):
                coded = coder.code(observed, parts, step)
                coded_bytes += coded.bytes
                kl.append(self._divergence(observed, coded.k, coded.v))
            made_levels.append(
                {"ratio": ratio, "step": step, "real_ratio": sum(raw) / coded_bytes, "kl": float(np.mean(kl))}
            )
        return made_levels

    def _divergence(self, observed: Observed, k: Sequence[torch.Tensor], v: Sequence[torch.Tensor]) -> float:
        after = self._runner.log_probabilities(self._runner.rotated(k, v), observed.context.continuation)
        return evaluate.divergence(self._runner.reference(observed), after)

    def _step_scales(self, made: TransformObject, held: _Shelf) -> list[float]:
        """Step scale of each group: where a halved step would take the same KL off for each byte.

        Each group is coded alone, the others kept as they are. KL grows with the square of the step, and a step finer
        by an octave costs one bit for each coefficient present: equal slopes put step^2 in proportion to
        coefficients / KL.
        """
        coder = evaluate.Coder(self._spec, made)
        prepared = [coder.prepare(observed) for observed in held]
        raw = sum(evaluate.raw_bytes(self._spec, len(parts[0].classes)) for parts in prepared)
        step = step_for(coder, prepared, raw, self._options.search_ratio)
        harm = np.zeros(len(made.groups))
        coefficients = np.zeros(len(made.groups))
        for parts, observed, _ in zip(prepared, held, range(_SENSITIVITY_CONTEXTS)):
            for index, part in enumerate(parts):
                coded = coder.code(observed, [part], step)
                harm[index] += max(self._divergence(observed, coded.k, coded.v), 1e-9)
                coefficients[index] += coder.present(part, step)
            self._say(f"sensitivity of {len(parts)} groups in {observed.context.source}")
        octaves = np.log2(np.maximum(coefficients, 1) / harm) / 2
        octaves = np.clip(octaves - np.median(octaves), -_MAX_STEP_SCALE_OCTAVES, _MAX_STEP_SCALE_OCTAVES)
        return [float(2.0**at) for at in octaves]


def _at_nominal(found: dict[str, float]) -> float:
    """The divergence at exactly the nominal ratio: steps are whole sixteenths of an octave, ratios are not."""
    return found["kl"] * (found["ratio"] / found["real_ratio"]) ** _DIVERGENCE_EXPONENT


def step_for(coder: evaluate.Coder, prepared: Sequence, raw: float, ratio: float) -> int:
    """The step, in sixteenths of an octave, whose coded size comes nearest to the ratio."""

    def logarithm(step: int, stride: int) -> float:
        return math.log(raw / sum(coder.size(parts, step, stride) for parts in prepared))

    low, high = _STEP_RANGE
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if logarithm(middle, _SIZE_STRIDE) < math.log(ratio) else (low, middle)
    # Few rows take many bytes, which a sample of rows misses or counts too often: corrected by a full count.
    slope = max((logarithm(high + 8, _SIZE_STRIDE) - logarithm(high - 8, _SIZE_STRIDE)) / 16, 1e-6)
    error = (logarithm(high, 1) - math.log(ratio)) / slope
    return min(max(high - round(error), _STEP_RANGE[0]), _STEP_RANGE[1])
