"""Facts planted at even distances through a context of prose, and asked for once its KV was loaded."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Sequence

from engine import Engine
from kdn.transformers.cache import LayerKv
from texts import Text

# As unlike each other as names can be: small models mix up those that share words, with or without compression.
CITIES = (
    "Ankara", "Athens", "Berlin", "Bogota", "Boston", "Cairo", "Dakar", "Denver", "Dublin", "Hanoi", "Havana",
    "Helsinki", "Jakarta", "Lagos", "Lima", "Lisbon", "Madrid", "Manila", "Mumbai", "Nairobi", "Osaka", "Oslo", "Prague",
    "Quito", "Riga", "Seoul", "Sydney", "Toronto", "Tunis", "Vienna", "Warsaw", "Zurich",
)  # fmt: skip
CODE_DIGITS = 4
FACT_TOKENS = 20  # more than a fact has
ROOM_TOKENS = 96  # behind the last stretch, for a sentence that goes on there


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked behind the context, and the fact's own words as the right answer."""

    position: int  # of the fact's first token
    prompt: list[int]
    answer: list[int]


@dataclasses.dataclass(frozen=True)
class Planted:
    """A context with its facts, in order of position."""

    text: Text
    ids: list[int]
    questions: list[Question]


def plant(engine: Engine, filler: Text, tokens: int, facts: int) -> Planted:
    """`tokens` tokens of filler sentences, with a fact in the middle of each of `facts` equal stretches, or where the
    sentence that stands there ends. Raises ValueError when the filler is too short or its sentences too long."""
    rng = random.Random(filler.sha256)
    names = rng.sample(CITIES, facts)
    codes = ["".join(rng.choice("0123456789") for _ in range(CODE_DIGITS)) for _ in names]
    ids, questions = engine.ids(""), []
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", filler.text):
        planted = len(questions)
        if planted < facts and len(ids) >= (planted + 0.5) * (tokens - ROOM_TOKENS) / facts:
            questions.append(_question(engine, len(ids), names[planted], codes[planted]))
            ids += engine.ids(f" The access code for {names[planted]} is {codes[planted]}.", special=False)
        ids += engine.ids(" " + sentence, special=False)
    if len(ids) < tokens or len(questions) < facts or questions[-1].position + FACT_TOKENS > tokens:
        raise ValueError(f"{filler.name}: {tokens} of {len(ids)} tokens of filler do not hold {facts} facts")
    return Planted(filler, ids[:tokens], questions)


def _question(engine: Engine, position: int, name: str, code: str) -> Question:
    prompt = f"\n\nQuestion: What is the access code for {name}?\nAnswer: The access code for {name} is"
    return Question(position, engine.ids(prompt, special=False), engine.ids(f" {code}", special=False))


def answers(engine: Engine, kv: Sequence[LayerKv], questions: Sequence[Question]) -> list[float]:
    """Log-probability, in nats, of each right answer, all its tokens together."""
    wide, result = engine.widened(kv), []
    for question in questions:
        asked = [*question.prompt, *question.answer[:-1]]
        logs = engine.log_probabilities(wide, asked, last=len(question.answer))
        result.append(sum(float(row[token]) for row, token in zip(logs, question.answer)))
    return result
