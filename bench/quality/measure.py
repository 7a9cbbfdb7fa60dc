"""Measures what each profile costs in bytes and in the model's predictions. bench/run quality starts it.

Writes one JSON document: models, contexts, profiles that are not in this build, and a result per (model, profile,
context), which bench/harness/quality.py sums up.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import sys
import time
from typing import Any, Callable, Optional

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "client" / "python"), str(pathlib.Path(__file__).parent)]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Before PyTorch is imported: threads that spin while they wait take the cores from kdnd and from each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import recall  # noqa: E402
import texts  # noqa: E402
from engine import Engine, compare, digest_of, set_threads  # noqa: E402
from ledger import Ledger, Progress  # noqa: E402
from round_trip import NotInThisBuild, Profile, Receipt, Server, simulated  # noqa: E402

CALIBRATED = ("transform",)  # profiles whose results depend on --objects
_METHOD = 1  # part of every result's key: raise it when the same inputs would give other figures


@dataclasses.dataclass(frozen=True)
class Context:
    """Tokens of one text: what is stored, and what truly follows it."""

    text: texts.Text
    ids: list[int]
    fed: list[int]  # of the continuation, the tokens whose successors are scored
    targets: list[int]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--cache", required=True, type=pathlib.Path)
    parser.add_argument("--build", required=True, nargs="+", type=pathlib.Path, help="programs that results depend on")
    parser.add_argument("--models", required=True)
    parser.add_argument("--profiles", required=True)
    parser.add_argument("--sets", required=True)
    parser.add_argument("--context-tokens", required=True, type=int)
    parser.add_argument("--continuation", required=True, type=int)
    parser.add_argument("--recall-contexts", required=True, type=int)
    parser.add_argument("--recall-facts", required=True, type=int)
    parser.add_argument("--contexts", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--objects", nargs="*", default=[], type=pathlib.Path)
    parser.add_argument("--calibration-texts", nargs="*", default=[], type=pathlib.Path)
    return parser.parse_args()


class Run:
    """All measurements of one call."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.ledger = Ledger(args.cache / "results.jsonl")
        self.server = Server(args.endpoint)
        self.build = hashlib.sha256(b"".join(path.read_bytes() for path in args.build)).hexdigest()
        self.calibration: list[str] = []  # digests of the model's objects
        self.wall_s: collections.Counter[str] = collections.Counter()
        self.absent: list[dict[str, str]] = []
        self.asked = [Profile.parse(text) for text in args.profiles.split(",")]
        self.profiles: list[Profile] = []  # of them, those that there are for the model under way
        self.document: dict[str, Any] = {
            "models": {}, "contexts": [], "refused": [], "absent": self.absent, "results": [], "recall": [],
        }  # fmt: skip
        recalled = args.recall_contexts
        wanted = sum(sum(texts.QUOTAS[s].values()) for s in args.sets.split(","))
        per_model = min(wanted, (args.contexts or wanted) * len(args.sets.split(",")))
        names = args.models.split(",")
        self.progress = Progress({
            f"{name} {kind}": count * repeat
            for name in names
            for kind, count, repeat in (
                ("prefill", per_model + recalled, 1), ("score", per_model, len(self.asked)),
                ("recall", recalled, len(self.asked) + 1),
            )
        })  # fmt: skip

    def _is_there(self, engine: Engine, profile: Profile) -> bool:
        if profile.simulated:
            return True
        try:
            self.server.check(engine, profile)
        except NotInThisBuild as error:
            self.absent.append({"model": engine.name, "profile": profile.label, "why": str(error)})
            print(f"quality: {engine.name} {profile.label}: not in this build: {error}", file=sys.stderr)
            return False
        return True

    def measure(self) -> dict[str, Any]:
        for name in self.args.models.split(","):
            engine = Engine(name, self.args.cache / "kv")
            objects = self.server.put_objects(engine, self.args.objects)
            self.document["models"][name] = {
                "weights_sha256": engine.weights_digest, "fingerprint": engine.fingerprint, "objects": objects,
            }  # fmt: skip
            self.calibration = [one["sha256"] for one in objects]
            self.profiles = [profile for profile in self.asked if self._is_there(engine, profile)]
            for text in self._texts(engine):
                if text.set == "recall":
                    self._recall(engine, recall.plant(engine, text, self.args.context_tokens, self.args.recall_facts))
                else:
                    self._context(engine, self._split(engine, text))
        self.document["wall_s"] = {kind: round(seconds, 1) for kind, seconds in self.wall_s.items()}
        return self.document

    def _texts(self, engine: Engine) -> list[texts.Text]:
        args, tokens = self.args, self.args.context_tokens + self.args.continuation + 1
        chooser = texts.choose(
            texts.Wanted(args.sets.split(","), args.data, tokens, args.contexts, args.recall_contexts),
            lambda text: len(engine.ids(text.text)) >= tokens,
            texts.calibration_texts(args.calibration_texts),
        )
        for refused in chooser.refused:
            print(f"quality: refused: {refused}", file=sys.stderr)
        self.document["refused"] += [{"model": engine.name, **refused} for refused in chooser.refused]
        return chooser.taken

    def _split(self, engine: Engine, text: texts.Text) -> Context:
        end = self.args.context_tokens
        ids = engine.ids(text.text)[: end + self.args.continuation + 1]
        return Context(text, ids[:end], ids[end:-1], ids[end + 1 :])

    def _describe(self, engine: Engine, text: texts.Text, ids: list[int]) -> None:
        self.document["contexts"].append({
            "model": engine.name, "name": text.name, "set": text.set, "source": text.source,
            "text_sha256": text.sha256, "tokens_sha256": digest_of(ids),
        })  # fmt: skip

    def _context(self, engine: Engine, context: Context) -> None:
        self._describe(engine, context.text, [*context.ids, *context.fed])
        kv = Lazily(lambda: self._prefill(engine, context.text.name, context.ids))
        reference = Lazily(lambda: engine.log_probabilities(kv.value, context.fed))
        for profile in self.profiles:
            key = self._key(engine, profile, tokens=digest_of(context.ids), targets=digest_of(context.targets))

            def score(prefilled: Any, profile: Profile = profile) -> tuple[dict[str, Any], str]:
                loaded, receipt = self._coded(engine, profile, context.ids, prefilled)
                result = compare(reference.value, engine.log_probabilities(loaded, context.fed), context.targets)
                ratio = receipt.raw_bytes / receipt.stored_bytes
                return (
                    {**dataclasses.asdict(receipt), **dataclasses.asdict(result)},
                    f"{engine.name} {context.text.name} {profile.label}: {ratio:.3f}x, KL {result.kl:.5f}",
                )

            value = self._once(key, f"{engine.name} score", kv, score)
            self.document["results"].append({
                "model": engine.name, "set": context.text.set, "context": context.text.name, "profile": profile.label,
                "simulated": profile.simulated, **value,
            })  # fmt: skip
        self._prefilled(engine, context.ids, kv)

    def _recall(self, engine: Engine, planted: recall.Planted) -> None:
        self._describe(engine, planted.text, planted.ids)
        kv = Lazily(lambda: self._prefill(engine, planted.text.name, planted.ids))
        for profile in (None, *self.profiles):
            key = self._key(engine, profile, tokens=digest_of(planted.ids), facts=len(planted.questions))

            label = profile.label if profile else "uncompressed"

            def ask(kv: Any, profile: Optional[Profile] = profile, label: str = label) -> tuple[list[float], str]:
                loaded = self._coded(engine, profile, planted.ids, kv)[0] if profile else kv
                logs = recall.answers(engine, loaded, planted.questions)
                return logs, f"{engine.name} {planted.text.name} {label}: {sum(logs) / len(logs):.3f} nat an answer"

            value = self._once(key, f"{engine.name} recall", kv, ask)
            self.document["recall"].append({
                "model": engine.name, "context": planted.text.name, "profile": label,
                "positions": [question.position for question in planted.questions], "log_probability": value,
            })  # fmt: skip
        self._prefilled(engine, planted.ids, kv)

    def _coded(self, engine: Engine, profile: Profile, ids: list[int], kv: Any) -> tuple[Any, Receipt]:
        if profile.simulated:
            return simulated(profile, kv)
        return self.server.round_trip(engine, profile, ids, kv)

    def _prefill(self, engine: Engine, name: str, ids: list[int]) -> Any:
        begin = time.perf_counter()
        kv = engine.prefill(ids)
        seconds, key = time.perf_counter() - begin, self._prefill_key(engine, ids)
        if self.ledger.get(key) is None:  # else they were read back
            self.ledger.put(key, len(ids), seconds)
        self.progress.done(f"{engine.name} prefill", seconds, f"{engine.name} {name}: KV of {len(ids)} tokens")
        return kv

    def _prefill_key(self, engine: Engine, ids: list[int]) -> str:
        return self._key(engine, None, prefill=digest_of(ids))

    def _key(self, engine: Engine, profile: Optional[Profile], **what: Any) -> str:
        label = profile.label if profile else None
        if profile is not None and not profile.simulated:
            what["build"] = self.build
            if profile.name in CALIBRATED:
                what["objects"] = self.calibration
        return Ledger.key(method=_METHOD, model=engine.fingerprint, profile=label, **{"build": None, **what})

    def _once(self, key: str, kind: str, kv: Lazily, work: Callable[[Any], Any]) -> Any:
        """The result under `key`: as found, or as `work` makes it of the KV (and of what to say about it)."""
        value = self.ledger.get(key)
        if value is None:
            prefilled = kv.value  # whose time is counted by itself
            begin = time.perf_counter()
            value, text = work(prefilled)
            self.ledger.put(key, value, time.perf_counter() - begin)
            self.progress.done(kind, self.ledger.seconds(key), text)
        else:
            self.progress.skip(kind)
        self.wall_s[kind] += self.ledger.seconds(key)
        return value

    def _prefilled(self, engine: Engine, ids: list[int], kv: Lazily) -> None:
        kind = f"{engine.name} prefill"
        self.wall_s[kind] += self.ledger.seconds(self._prefill_key(engine, ids))
        if not kv.made:
            self.progress.skip(kind)


class Lazily:
    """A value that is made when it is first wanted."""

    def __init__(self, make: Callable[[], Any]):
        self._make = make
        self.made = False

    @functools.cached_property
    def value(self) -> Any:
        self.made = True
        return self._make()


def main() -> int:
    args = parse()
    set_threads(args.threads)
    with contextlib.suppress(KeyboardInterrupt):
        try:
            document = Run(args).measure()
        except (texts.NoData, ValueError) as error:
            print(f"quality: {error}", file=sys.stderr)
            return 2
        args.out.write_text(json.dumps(document))
        return 0
    print("quality: stopped; finished results are kept, the same command goes on from them", file=sys.stderr)
    return 130


if __name__ == "__main__":
    sys.exit(main())
