"""The command `kdn-calibrate`."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from kdn.errors import KdnError

_EPILOG = """\
MODEL is a demonstration model's name (smollm2, gemma3-270m) or a folder in Hugging Face's format. Give texts like those
that will be stored, of several kinds: breadth of calibration matters more than its amount. Texts that are measured with
later must not be among them. At least 7 contexts of 2,048 tokens are recommended; every fourth is held out to choose
damping and steps with and to measure the levels on.

example: kdn-calibrate smollm2 docs/ chats.jsonl --object smollm2.kdno
"""


class UsageError(Exception):
    """What was asked for on the command line cannot be done."""


class _Loaded(NamedTuple):
    model: Any
    tokenizer: Any
    weights_digest: Any


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="kdn-calibrate",
        description="Makes the calibration object of profile `transform` for a model, from a few texts.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("model", metavar="MODEL", help="the model (see below)")
    made.add_argument("texts", metavar="TEXT", nargs="*", help="UTF-8 files, *.jsonl files, or directories of them")
    made.add_argument("--object", metavar="FILE", help="write the object to this file")
    made.add_argument("--server", metavar="HOST:PORT", help="put the object into this kdnd and make it the active one")
    made.add_argument("--token-file", metavar="FILE", help="holds the token for --server")
    made.add_argument("--ca-file", metavar="FILE", help="PEM file of the authority that verifies --server (TLS)")
    made.add_argument("--groups", metavar="N", type=_count(1, 64), default=1, help="layers coded together (default 1)")
    made.add_argument("--joint", action="store_true", help="one transform for K and V of a group")
    made.add_argument("--damping", metavar="X", type=float, help="use this damping (default: chosen on held-out texts)")
    made.add_argument("--no-step-search", action="store_true", help="one step for all groups")
    made.add_argument("--dtype", choices=("bfloat16", "float16"), default="bfloat16", help="of the KV stored")
    made.add_argument("--max-contexts", metavar="N", type=_count(2, 1024), default=12, help="(default 12)")
    made.add_argument("--context-tokens", metavar="N", type=_count(64, 1 << 20), default=2048, help="(default 2048)")
    made.add_argument("--continuation-tokens", metavar="N", type=_count(8, 1 << 16), default=256, help="(default 256)")
    made.add_argument("--chunk-tokens", metavar="N", type=_count(16, 1 << 20), default=256, help="(default 256)")
    made.add_argument("--queries", metavar="N", type=_count(0, 256), default=64, help="per KV head (default 64)")
    made.add_argument("--samples", metavar="N", type=_count(1, 64), default=2, help="of labels a context (default 2)")
    made.add_argument("--seed", metavar="N", type=int, default=1, help="(default 1)")
    made.add_argument("--threads", metavar="N", type=_count(1, 1024), help="of PyTorch (default: PyTorch's choice)")
    made.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the result on stdout")
    return made


def _count(low: int, high: int):
    def convert(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    return convert


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Exit status 0, 1 when the calibration fails, 2 when the command line is wrong."""
    arguments = parser().parse_args(argv)
    try:
        _check(arguments)
        result = _calibrate(arguments)
    except UsageError as error:
        print(f"kdn-calibrate: {error}", file=sys.stderr)
        return 2
    except (ValueError, OSError, ImportError, KeyError, KdnError) as error:
        print(f"kdn-calibrate: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result) if arguments.output == "json" else _table(result))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if not arguments.texts:
        raise UsageError(
            "no texts are given: name files or directories of texts like those to be stored, at least 7 contexts of "
            f"{arguments.context_tokens + arguments.continuation_tokens} tokens (about 10 kB each) in all"
        )
    if arguments.damping is not None and not 0 < arguments.damping <= 1e6:
        raise UsageError(f"--damping {arguments.damping} is not above 0")
    if not arguments.object and not arguments.server:
        raise UsageError("say where the object goes: --object FILE, --server HOST:PORT, or both")
    if arguments.object and not Path(arguments.object).absolute().parent.is_dir():
        raise UsageError(f"--object: the folder of {arguments.object} does not exist")


def _calibrate(arguments: argparse.Namespace) -> dict[str, Any]:
    # Imported late: --help and mistakes on the command line need no PyTorch.
    import torch

    from kdn import transformers as kt
    from kdn.client import encode_spec

    from . import pipeline, texts, transform_object

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    read = texts.read_texts(arguments.texts)
    say = _Progress()
    say(f"loading {arguments.model}")
    loaded = _load(arguments.model, getattr(torch, arguments.dtype))
    spec = kt.model_spec(loaded.model, loaded.tokenizer, weights_digest=loaded.weights_digest)
    fingerprint = hashlib.sha256(encode_spec(spec)).digest()
    if arguments.server:
        say(f"registering the model at {arguments.server}")  # now: a wrong address is not to be found out at the end
        with _client(arguments) as client:
            client.register_model(spec, arguments.chunk_tokens)
    contexts = texts.cut_contexts(
        read, loaded.tokenizer, arguments.context_tokens, arguments.continuation_tokens, arguments.max_contexts
    )
    if len(contexts) < pipeline.RECOMMENDED_CONTEXTS:
        say(f"only {len(contexts)} contexts; {pipeline.RECOMMENDED_CONTEXTS} or more of several kinds are recommended")
    calibration, held = pipeline.split(contexts)
    shared = texts.shared_ngrams(calibration, held)
    if shared:
        say(f"held-out texts share {shared} runs of {texts.NGRAM} tokens with the others: levels will look too good")
    options = pipeline.Options(
        groups=arguments.groups,
        joint=arguments.joint,
        chunk_tokens=arguments.chunk_tokens,
        queries=arguments.queries,
        samples=arguments.samples,
        damping=arguments.damping,
        step_search=not arguments.no_step_search,
        seed=arguments.seed,
    )
    # Rounded weights in fp32 arithmetic: what differs from a run in the stored dtype is noise, not the model.
    calibrator = pipeline.Calibrator(loaded.model.float(), spec, fingerprint, options, say)
    found = calibrator.run(contexts)
    data = transform_object.write(found.made, spec)
    if arguments.object:
        _write(Path(arguments.object), data)
    if arguments.server:
        with _client(arguments) as client:
            client.put_calibration(data, client.register_model(spec, arguments.chunk_tokens))
    return {
        "object": arguments.object,
        "server": arguments.server,
        "digest": transform_object.digest_of(data).hex(),
        "bytes": len(data),
        "fingerprint": fingerprint.hex(),
        "groups": len(found.made.groups),
        "damping": found.damping,
        "step_scales": found.step_scales,
        "contexts": [context.source for context in contexts],
        "held_out_contexts": found.held_out_contexts,
        "shared_ngrams": shared,
        "trials": found.trials,
        "levels": found.measured,
        "seconds": round(found.seconds, 1),
    }


def _load(name: str, dtype: Any) -> _Loaded:
    from kdn import models

    if name in models.names():
        return _Loaded(*models.load(name, dtype))
    folder = Path(name)
    if not folder.is_dir():
        raise UsageError(f"{name!r} is no folder and no demonstration model ({', '.join(models.names())})")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kdn import transformers as kt

    model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=True)
    return _Loaded(model, tokenizer, kt.weights_digest(folder))


def _write(path: Path, data: bytes) -> None:
    """The file appears whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=path.absolute().parent, prefix=".kdn-calibrate-", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _client(arguments: argparse.Namespace) -> Any:
    import kdn

    token = Path(arguments.token_file).read_text(encoding="utf-8").strip() if arguments.token_file else None
    tls = kdn.Tls(ca_file=arguments.ca_file) if arguments.ca_file else None
    return kdn.Client(arguments.server, token=token, tls=tls)


class _Progress:
    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, message: str) -> None:
        print(f"[{time.monotonic() - self._started:6.1f} s] {message}", file=sys.stderr, flush=True)


def _table(result: dict[str, Any]) -> str:
    lines = [
        f"object   {result['object'] or result['server']} ({result['bytes']:,} bytes)",
        f"digest   {result['digest']}",
        f"groups   {result['groups']}, damping {result['damping']}",
        "level    bytes   expected KL (held-out texts, nats a token)",
    ]
    lines += [f"{at['ratio']:4g}x  {at['real_ratio']:6.2f}x   {at['kl']:.5f}" for at in result["levels"]]
    return "\n".join(lines)
