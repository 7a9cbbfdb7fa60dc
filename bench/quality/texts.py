"""Texts to measure on: contexts from disjoint sources, none of which shares a 13-gram with another or with calibration.

Two sets. `main` comes from --data: topic conversations (LongChat) and retrieved passages (MuSiQue), of which only one
half is used here, so that the other half may calibrate. `unseen` comes from every Debian: licences, and Python's
documentation, which nobody should calibrate on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any, Callable, Optional

GRAM_WORDS = 13
SETS = ("main", "unseen")
# How many contexts of each kind make a set. Where a kind has fewer, the next one gives more.
QUOTAS = {"main": {"chat": 2, "qa": 6}, "unseen": {"licence": 2, "pydoc": 2}}
TOPICS_PER_CONTEXT = 6  # of 300 to 550 tokens each
FIRST_QUESTION = 50  # questions before it are left to calibration, as are the even ones of the sorted topics
RECALL_QUESTIONS = 10  # the last ones: filler between planted facts
LICENCES = pathlib.Path("/usr/share/common-licenses")
LICENCE_NAMES = ("GPL-3", "MPL-2.0", "GFDL-1.3", "LGPL-2.1", "Apache-2.0")
PYDOC_STRIDE = 40_000  # characters between the starts of two contexts
CHARACTERS_PER_TOKEN = 8  # more than any tokenizer here needs: a text is cut there before it is compared


class NoData(Exception):
    """The folder that --data names lacks what is wanted."""


@dataclasses.dataclass(frozen=True)
class Text:
    """A candidate: where it comes from, and its characters."""

    name: str
    set: str
    source: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def grams(text: str) -> set[int]:
    """Hashes of the runs of 13 words, regardless of case and punctuation."""
    words = re.findall(r"\w+", text.lower())
    return {hash(tuple(words[i : i + GRAM_WORDS])) for i in range(len(words) - GRAM_WORDS + 1)}


class Chooser:
    """Takes candidates in order and refuses those that share a 13-gram with what was taken, or with calibration."""

    def __init__(self, calibration: dict[str, str]):
        self._known = {f"calibration text {name}": grams(text) for name, text in calibration.items()}
        self.taken: list[Text] = []
        self.refused: list[dict[str, Any]] = []

    def take(self, text: Text) -> bool:
        own = grams(text.text)
        for name, others in self._known.items():
            if shared := len(own & others):
                self.refused.append({"context": text.name, "shares_13_grams_with": name, "count": shared})
                return False
        self._known[text.name] = own
        self.taken.append(text)
        return True


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What to choose: `limit` contexts of each set at most, of `tokens` tokens each, and texts to plant facts in."""

    sets: list[str]
    data: Optional[pathlib.Path]
    tokens: int
    limit: Optional[int]
    recalled: int


def choose(wanted: Wanted, fits: Callable[[Text], bool], calibration: dict[str, str]) -> Chooser:
    """Contexts that `fits` says are long enough, then fillers for recall: prose, passages that no context uses, or
    Python's documentation where there is no data. Raises NoData when something is lacking."""
    chooser = Chooser(calibration)
    for name in wanted.sets:
        found = quota = 0
        for kind, share in QUOTAS[name].items():
            quota = min(quota + share, sum(QUOTAS[name].values()) if wanted.limit is None else wanted.limit)
            pool = (_cut(text, wanted.tokens) for text in _POOLS[kind](wanted.data))
            found += _take(chooser, pool, quota - found, fits)
        if found < quota:
            raise NoData(f"set {name!r} wants {quota} contexts, {found} are there; refused: {chooser.refused}")
    fillers = _questions(wanted.data)[-RECALL_QUESTIONS:] if wanted.data else reversed([*_pydoc(None)])
    named = (dataclasses.replace(_cut(text, wanted.tokens), set="recall") for text in fillers)
    if (got := _take(chooser, named, wanted.recalled, lambda text: True)) < wanted.recalled:
        raise NoData(f"{wanted.recalled} texts to plant facts in are wanted, {got} are there")
    return chooser


def _cut(text: Text, tokens: int) -> Text:
    return dataclasses.replace(text, text=text.text[: tokens * CHARACTERS_PER_TOKEN])


def _take(chooser: Chooser, pool: Iterator[Text], wanted: int, fits: Callable[[Text], bool]) -> int:
    got = 0
    while got < wanted:
        candidate = next(pool, None)
        if candidate is None:
            break
        if fits(candidate) and chooser.take(candidate):
            got += 1
    return got


def calibration_texts(paths: list[pathlib.Path]) -> dict[str, str]:
    """The texts of files, and of all files in folders; of JSON, every string in it."""
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    return {file.name: _plain(file) for file in files if file.is_file()}


def _plain(file: pathlib.Path) -> str:
    text = file.read_text(encoding="utf-8", errors="replace")
    if file.suffix == ".jsonl":
        return "\n".join(part for line in text.splitlines() if line.strip() for part in _strings(json.loads(line)))
    return "\n".join(_strings(json.loads(text))) if file.suffix == ".json" else text


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _data_file(data: Optional[pathlib.Path], *parts: str) -> pathlib.Path:
    if data is None:
        raise NoData("the set 'main' needs --data DIR (or measure --sets unseen, which every Debian has)")
    path = data.joinpath(*parts)
    if not path.is_file():
        raise NoData(f"{path} is not there; --data names a folder with longctx/longchat.jsonl and qa/musique_100.json")
    return path


def _chat(data: Optional[pathlib.Path]) -> Iterator[Text]:
    """Topic conversations; the file's long conversations repeat the same ones in other orders."""
    topics: dict[str, str] = {}
    for line in _data_file(data, "longctx", "longchat.jsonl").read_text().splitlines():
        record = json.loads(line)
        parts = re.split(r"USER: I would like to discuss the topic of ", record["prompt"])
        for topic, part in zip(record["label"], parts[-len(record["label"]) :]):
            # Without the opening and the closing words, which all topics share.
            body = part.split("\n USER: ", 1)[-1].split(" USER: Great, this is the end of our discussion")[0]
            topics.setdefault(topic, f"{topic}\n\n USER: {body.strip()}")
    yield from _chat_contexts({topic: topics[topic] for topic in sorted(topics)[1::2]})


def _chat_contexts(topics: dict[str, str]) -> Iterator[Text]:
    """Topics in order, but for those that share a 13-gram (a turn of phrase) with a topic of a context before."""
    left, before, number = dict(topics), set(), 0
    while True:
        chosen = [topic for topic, text in left.items() if not before & grams(text)][:TOPICS_PER_CONTEXT]
        if len(chosen) < TOPICS_PER_CONTEXT:
            return
        text = "\n\n".join(left.pop(topic) for topic in chosen)
        before |= grams(text)
        yield Text(f"chat-{number}", "main", "LongChat: " + "; ".join(chosen), text)
        number += 1


def _questions(data: Optional[pathlib.Path]) -> list[Text]:
    questions = json.loads(_data_file(data, "qa", "musique_100.json").read_text())
    return [
        Text(f"qa-{i}", "main", f"MuSiQue: passages of question {i}", "\n".join(c["text"] for c in q["ctxs"]))
        for i, q in enumerate(questions)
    ]


def _qa(data: Optional[pathlib.Path]) -> Iterator[Text]:
    yield from _questions(data)[FIRST_QUESTION:-RECALL_QUESTIONS]


def _licences(_: Optional[pathlib.Path]) -> Iterator[Text]:
    for name in LICENCE_NAMES:
        path = LICENCES / name
        if path.is_file():
            yield Text(f"licence-{name}", "unseen", str(path), path.read_text())


def _pydoc(_: Optional[pathlib.Path]) -> Iterator[Text]:
    from pydoc_data import topics

    text = "\n\n".join(topics.topics[name] for name in sorted(topics.topics))
    for number, start in enumerate(range(0, len(text), PYDOC_STRIDE)):
        yield Text(
            f"pydoc-{number}", "unseen", f"pydoc_data.topics from character {start}", text[start : start + PYDOC_STRIDE]
        )


_POOLS: dict[str, Callable[[Optional[pathlib.Path]], Iterator[Text]]] = {
    "chat": _chat, "qa": _qa, "licence": _licences, "pydoc": _pydoc,
}  # fmt: skip
