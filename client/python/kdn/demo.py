"""The quickstart's demonstration: one question about one long text, computed or loaded.

    python -m kdn.demo prefill ...   computes the KV of the text, answers, and stores the KV with its text
    python -m kdn.demo load ...      loads it from KDN, answers
    python -m kdn.demo cold ...      answers without KDN, by plain `model.generate`

Each prints one line of JSON on stdout (`--table`: a readable list instead). Time to first token runs from holding the
text, model loaded and warm, to the first token of the answer: tokenising, lookup, transfer and prefill are in it.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import time
from typing import Any, Optional

# Before PyTorch is imported: spinning OpenMP threads make generation many times slower on a machine that is not idle.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

DEFAULT_TEXT = "/usr/share/common-licenses/GPL-3"
DEFAULT_QUESTION = "What is the GNU General Public License?"
DEFAULT_ENDPOINT = "127.0.0.1:9460"
DEFAULT_TOKENS = 2000
ANSWER_TOKENS = 24
_MODEL_NAMES = {"smollm2": "SmolLM2-135M-Instruct", "gemma3-270m": "gemma-3-270m"}  # shown by kdnctl model ls


def main(arguments: Optional[list[str]] = None) -> int:
    """Runs one step; returns the exit code: 0, 1 when it failed, 2 on wrong usage (by argparse)."""
    options = _parse(arguments)
    try:
        report = run(options)
    except Exception as error:  # The line a user reads; --debug shows where it came from.
        if options.debug:
            raise
        print(f"kdn.demo: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    if options.table:
        for name, value in report.items():
            print(f"{name:24} {value}")
    else:
        print(json.dumps(report))
    return 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Loads the model, runs the step that `options.step` names, and returns its report."""
    import torch
    import transformers

    from kdn import models

    transformers.utils.logging.disable_progress_bar()
    if options.threads:
        torch.set_num_threads(options.threads)
    begin = time.perf_counter()
    loaded = models.load(options.model)
    text = _read_text(loaded.tokenizer, options.text, options.tokens)
    if options.save_text:
        pathlib.Path(options.save_text).write_text(text, encoding="utf-8")
    continuation = f"\n\nQuestion: {options.question}\nAnswer:"
    _warm_up(loaded)
    report = {"step": options.step, "model": options.model, "load_model_seconds": _since(begin)}
    report.update(_STEPS[options.step](loaded, text, continuation, options))
    return report


def _prefill(loaded: Any, text: str, continuation: str, options: argparse.Namespace) -> dict[str, Any]:
    session = _session(loaded, options)
    begin = time.perf_counter()
    prefix = session.prefill(text)
    report = _answer(loaded, prefix.inputs(continuation), len(prefix.token_ids), begin)
    begin = time.perf_counter()
    stored = session.store(prefix)
    if stored.tokens_present < len(prefix.token_ids):
        raise RuntimeError(f"kdnd kept {stored.tokens_present} of {len(prefix.token_ids)} tokens: {stored.details}")
    return {
        **_prefix_report(prefix),
        **report,
        "store_seconds": _since(begin),
        "sent_bytes": stored.bytes_sent,
    }


def _load(loaded: Any, text: str, continuation: str, options: argparse.Namespace) -> dict[str, Any]:
    session = _session(loaded, options)
    begin = time.perf_counter()
    prefix = session.prefill_or_load(text)
    report = _answer(loaded, prefix.inputs(continuation), len(prefix.token_ids), begin)
    if prefix.stats.error is not None:
        raise RuntimeError(f"KDN could not be used: {prefix.stats.error}")
    return {**_prefix_report(prefix), **report}


def _cold(loaded: Any, text: str, continuation: str, options: argparse.Namespace) -> dict[str, Any]:
    import torch

    begin = time.perf_counter()
    text_ids = loaded.tokenizer(text)["input_ids"]
    more_ids = loaded.tokenizer(continuation, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([text_ids + more_ids])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return {"tokens": len(text_ids), **_answer(loaded, inputs, len(text_ids), begin)}


_STEPS = {"prefill": _prefill, "load": _load, "cold": _cold}


def _session(loaded: Any, options: argparse.Namespace) -> Any:
    import kdn
    from kdn.transformers import KdnModel

    client = kdn.Client(options.endpoint, dead_after=5.0)
    name = _MODEL_NAMES.get(options.model, options.model)
    return KdnModel(loaded.model, loaded.tokenizer, client=client, weights_digest=loaded.weights_digest, name=name)


def _prefix_report(prefix: Any) -> dict[str, Any]:
    from kdn.transformers import kv_bytes

    stats = prefix.stats
    return {
        "tokens": stats.tokens,
        "tokens_hit": stats.tokens_hit,
        "raw_bytes": kv_bytes(prefix.kv),
        "received_bytes": stats.received_bytes,
        "load_seconds": round(stats.load_seconds, 4),
        "prefill_seconds": round(stats.prefill_seconds, 4),
    }


def _answer(loaded: Any, inputs: dict[str, Any], text_tokens: int, begin: float) -> dict[str, Any]:
    """Generates greedily, noting when the first token came out."""
    timer = _FirstToken()
    out = loaded.model.generate(**inputs, max_new_tokens=ANSWER_TOKENS, do_sample=False, streamer=timer)
    prompt_tokens = inputs["input_ids"].shape[1]
    answer = out[0, prompt_tokens:].tolist()
    return {
        "question_tokens": prompt_tokens - text_tokens,
        "ttft_seconds": round(timer.at - begin, 4),
        "answer_seconds": _since(begin),
        "answer_token_ids": answer,
        "answer": loaded.tokenizer.decode(answer, skip_special_tokens=True).strip(),
    }


class _FirstToken:
    """A streamer for `generate`, which hands it the prompt first and then each token."""

    def __init__(self) -> None:
        self.at = 0.0
        self._puts = 0

    def put(self, value: Any) -> None:
        self._puts += 1
        if self._puts == 2:
            self.at = time.perf_counter()

    def end(self) -> None:
        pass


def _warm_up(loaded: Any) -> None:
    """A few tokens of something else: the first pass of a process pays for lazy imports and code generation."""
    _cold(loaded, "Warm up.", " Go on.", argparse.Namespace())


def _read_text(tokenizer: Any, path: str, tokens: int) -> str:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise ValueError(f"{path} is empty")
    return text if len(ids) <= tokens else tokenizer.decode(ids[:tokens])


def _since(begin: float) -> float:
    return round(time.perf_counter() - begin, 4)


def _parse(arguments: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kdn.demo", description="One step of KDN's demonstration.")
    parser.add_argument("step", choices=sorted(_STEPS), help="compute and store, load and answer, or do without KDN")
    parser.add_argument("--endpoint", default=DEFAULT_ENDPOINT, help="where kdnd listens (default: %(default)s)")
    parser.add_argument("--model", default="smollm2", help="smollm2 (default) or gemma3-270m")
    parser.add_argument("--text", default=DEFAULT_TEXT, metavar="FILE", help="UTF-8 text (default: %(default)s)")
    parser.add_argument(
        "--tokens", type=int, default=DEFAULT_TOKENS, help="cut the text to these (default: %(default)s)"
    )
    parser.add_argument("--save-text", metavar="FILE", help="write the text as it was used (cut to --tokens) there")
    parser.add_argument("--question", default=DEFAULT_QUESTION, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="PyTorch threads (default: its own choice)")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one line of JSON (the default)")
    output.add_argument("--table", action="store_true", help="one line per figure instead of JSON")
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
