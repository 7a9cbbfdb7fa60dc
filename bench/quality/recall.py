"""Facts planted at even distances through a context of prose, and asked for once its KV was loaded."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Sequence

from engine import Engine
from kdn.transformers.cache import LayerKv
from texts import Text

ADJECTIVES = ("Amber", "Brisk", "Copper", "Dusty", "Eager", "Frozen", "Golden", "Hidden")
NOUNS = ("Falcon", "Harbor", "Lantern", "Meadow", "Orchard", "Pelican", "Quarry", "Tunnel")
CODE_DIGITS = 4


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
    """`tokens` tokens of filler sentences, with a fact in the middle of each of `facts` equal stretches. Raises
    ValueError when the filler is too short."""
    rng = random.Random(filler.sha256)
    names = rng.sample([f"{a} {n}" for a in ADJECTIVES for n in NOUNS], facts)
    codes = ["".join(rng.choice("0123456789") for _ in range(CODE_DIGITS)) for _ in names]
    ids, questions = engine.ids(""), []
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", filler.text):
        planted = len(questions)
        if planted < facts and len(ids) >= (planted + 0.5) * tokens / facts:
            questions.append(_question(engine, len(ids), names[planted], codes[planted]))
            ids += engine.ids(f" The access code of the {names[planted]} is {codes[planted]}.", special=False)
        ids += engine.ids(" " + sentence, special=False)
    if len(ids) < tokens or len(questions) < facts or questions[-1].position + 2 * CODE_DIGITS + 16 > tokens:
        raise ValueError(f"{filler.name}: {len(ids)} tokens of filler hold {len(questions)} of {facts} facts")
    return Planted(filler, ids[:tokens], questions)


def _question(engine: Engine, position: int, name: str, code: str) -> Question:
    prompt = f"\n\nQuestion: What is the access code of the {name}?\nAnswer: The access code of the {name} is"
    return Question(position, engine.ids(prompt, special=False), engine.ids(f" {code}", special=False))


def answers(engine: Engine, kv: Sequence[LayerKv], questions: Sequence[Question]) -> list[float]:
    """Log-probability, in nats, of each right answer, all its tokens together."""
    wide, result = engine.widened(kv), []
    for question in questions:
        logs = engine.log_probabilities(wide, [*question.prompt, *question.answer[:-1]])[len(question.prompt) - 1 :]
        result.append(sum(float(row[token]) for row, token in zip(logs, question.answer)))
    return result
