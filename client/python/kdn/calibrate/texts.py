"""Texts of a calibration: reading them, cutting contexts from them, and finding what two sets share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .gather import Context

NGRAM = 13
_MAX_FILE_BYTES = 64 << 20
_MIN_CONTEXT_TOKENS = 128


class TextError(ValueError):
    """The texts given cannot serve."""


def read_texts(paths: Sequence[str]) -> list[tuple[str, str]]:
    """(name, text) of each file, and of each file in each directory, in order of their names.

    A line of a *.jsonl file that is an object gives its longest string as one text. Raises TextError on what cannot be
    read or is no UTF-8 text.
    """
    texts = []
    for path in map(Path, paths):
        if not path.exists():
            raise TextError(f"{path} does not exist")
        files = sorted(at for at in path.rglob("*") if at.is_file()) if path.is_dir() else [path]
        if not files:
            raise TextError(f"{path} holds no files")
        for file in files:
            texts.extend(_read(file))
    return texts


def _read(file: Path) -> list[tuple[str, str]]:
    if file.stat().st_size > _MAX_FILE_BYTES:
        raise TextError(f"{file} has {file.stat().st_size} bytes; at most {_MAX_FILE_BYTES} are read")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TextError(f"{file} is not UTF-8 text ({error})") from error
    if file.suffix != ".jsonl":
        return [(str(file), text)]
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            values = [value for value in json.loads(line).values() if isinstance(value, str)]
        except (ValueError, AttributeError) as error:
            raise TextError(f"{file}, line {number}: not a JSON object ({error})") from error
        if values:
            lines.append((f"{file}:{number}", max(values, key=len)))
    return lines


def cut_contexts(
    texts: Iterable[tuple[str, str]], tokenizer: Any, context_tokens: int, continuation_tokens: int, limit: int
) -> list[Context]:
    """At most `limit` contexts, one from the beginning of each text in turn, then the next of each, and so on.

    A text too short for a full context gives a shorter one when it has at least _MIN_CONTEXT_TOKENS beside the
    continuation.
    """
    size = context_tokens + continuation_tokens
    encoded = [(name, tokenizer(text)["input_ids"]) for name, text in texts]
    contexts: list[Context] = []
    for turn in range(max((-(-len(ids) // size) for _, ids in encoded), default=0)):
        for name, ids in encoded:
            part = ids[turn * size : (turn + 1) * size]
            if len(part) >= _MIN_CONTEXT_TOKENS + continuation_tokens and len(contexts) < limit:
                cut = len(part) - continuation_tokens
                contexts.append(Context(f"{name}#{turn}", part[:cut], part[cut:]))
    if not contexts:
        raise TextError(
            f"the texts are too short: no one has {_MIN_CONTEXT_TOKENS + continuation_tokens} tokens; "
            f"give texts of {size} tokens and more"
        )
    return contexts


def shared_ngrams(left: Iterable[Context], right: Iterable[Context], n: int = NGRAM) -> int:
    """How many of the distinct n-grams of tokens of `right` occur in `left`."""
    return len(_ngrams(left, n) & _ngrams(right, n))


def _ngrams(contexts: Iterable[Context], n: int) -> set[tuple[int, ...]]:
    grams = set()
    for context in contexts:
        ids = context.ids + context.continuation
        grams.update(tuple(ids[i : i + n]) for i in range(len(ids) - n + 1))
    return grams
