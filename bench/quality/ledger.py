"""Finished results on disk, so that a run that was cut short goes on where it stopped; and what is left to do."""

from __future__ import annotations

import collections
import hashlib
import json
import pathlib
import sys
from typing import Any, Optional


class Ledger:
    """Results by everything they depend on. One line of JSON each, appended as they are finished."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                if line.endswith("}"):  # a line cut short by a kill is measured again
                    entry = json.loads(line)
                    self._known[entry["key"]] = entry

    @staticmethod
    def key(**identity: Any) -> str:
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> Optional[Any]:
        """The value, or None."""
        return self._known[key]["value"] if key in self._known else None

    def seconds(self, key: str) -> float:
        """What it took to get the value, whenever that was; 0 when there is none."""
        return self._known[key]["seconds"] if key in self._known else 0.0

    def put(self, key: str, value: Any, seconds: float) -> None:
        entry = self._known[key] = {"key": key, "value": value, "seconds": round(seconds, 3)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


class Progress:
    """Says what is finished, and how long the rest will take: per kind of work, the mean of what it took so far."""

    def __init__(self, planned: dict[str, int]):
        self._left = collections.Counter(planned)
        self._total = sum(planned.values())
        self._seconds: dict[str, float] = collections.defaultdict(float)
        self._done: collections.Counter[str] = collections.Counter()

    def skip(self, kind: str) -> None:
        self._left[kind] -= 1

    def done(self, kind: str, seconds: float, text: str) -> None:
        self._left[kind] -= 1
        self._done[kind] += 1
        self._seconds[kind] += seconds
        left = sum(self._left.values())
        rest = sum(count * self._mean(kind) for kind, count in self._left.items())
        print(f"quality: [{self._total - left}/{self._total}, {rest / 60:.1f} min left] {text}", file=sys.stderr)

    def _mean(self, kind: str) -> float:
        if self._done[kind]:
            return self._seconds[kind] / self._done[kind]
        return sum(self._seconds.values()) / sum(self._done.values())
