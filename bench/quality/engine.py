"""The model in fp32: prefill to KV of the spec's dtype, and log-probabilities of what follows behind a KV."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Optional

import kdn
import torch
from kdn import models
from kdn.client import encode_spec
from kdn.transformers.cache import LayerKv, Recorder, cache_of, piece_tokens
from kdn.transformers.describe import model_spec
from transformers import DynamicCache

CHUNK_TOKENS = 256
COMPARE_ROWS = 32  # rows of logits compared at a time: a vocabulary is up to 1 MiB a row
_PREFILL = 1  # part of the cached files' names: raise it when `prefill` computes something else


@dataclasses.dataclass(frozen=True)
class Score:
    """A continuation's distributions behind another KV, against those behind the KV as computed."""

    tokens: int
    kl: float  # mean over tokens, nats
    kl_max: float
    top1: float  # share of tokens with the same most likely successor
    nll_reference: float  # mean over tokens, nats, of the true continuation
    nll: float


class Engine:
    """One demonstration model. Prefills are kept in `cache`."""

    def __init__(self, name: str, cache: pathlib.Path):
        loaded = models.load(name, torch.float32)
        self.name, self.tokenizer, self.weights_digest = name, loaded.tokenizer, loaded.weights_digest
        self._model = loaded.model
        spec = model_spec(loaded.model, loaded.tokenizer, weights_digest=loaded.weights_digest)
        self.spec = dataclasses.replace(spec, dtype=kdn.DType.BF16)
        self.fingerprint = hashlib.sha256(encode_spec(self.spec)).hexdigest()
        self._cache = cache

    def ids(self, text: str, special: bool = True) -> list[int]:
        return self.tokenizer(text, add_special_tokens=special)["input_ids"]

    def prefill(self, ids: Sequence[int]) -> list[LayerKv]:
        """KV of all rows, computed in fp32 in pieces as kdn.transformers does, then rounded to bf16."""
        path = self._cache / f"{self.name}-{self.fingerprint[:16]}-{digest_of(ids)[:16]}-v{_PREFILL}.pt"
        if path.exists():
            return [LayerKv(k, v) for k, v in torch.load(path)]
        cache, recorder = DynamicCache(config=self._model.config), Recorder(self.spec)
        step, tensor = piece_tokens(self.spec, CHUNK_TOKENS), torch.tensor([list(ids)])
        for begin in range(0, len(ids), step):
            piece = tensor[:, begin : begin + step]
            self._model(input_ids=piece, past_key_values=cache, use_cache=True, logits_to_keep=1)
            recorder.record(cache)
        kv = [LayerKv(layer.k.bfloat16(), layer.v.bfloat16()) for layer in recorder.kv(cache)]
        self._cache.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        torch.save([(layer.k, layer.v) for layer in kv], unfinished)
        unfinished.rename(path)
        return kv

    def widened(self, kv: Sequence[LayerKv]) -> list[LayerKv]:
        """The same values in the model's dtype, so that several questions can share one copy."""
        return [LayerKv(layer.k.float(), layer.v.float(), layer.first_row) for layer in kv]

    def log_probabilities(self, kv: Sequence[LayerKv], ids: Sequence[int], last: int = 0) -> torch.Tensor:
        """[tokens][vocabulary]: row i is the distribution of what follows ids[i]. Only of the `last` ones, if not 0."""
        cache = cache_of(self._model, kv)
        output = self._model(torch.tensor([list(ids)]), past_key_values=cache, use_cache=True, logits_to_keep=last)
        return torch.log_softmax(output.logits[0].float(), -1)


def compare(reference: torch.Tensor, other: torch.Tensor, targets: Sequence[int]) -> Score:
    """Both [tokens][vocabulary], natural logarithms; targets are the true successors."""
    divergences, same = [], 0
    for begin in range(0, len(targets), COMPARE_ROWS):
        p, q = reference[begin : begin + COMPARE_ROWS], other[begin : begin + COMPARE_ROWS]
        divergences.append((p.exp() * (p - q)).double().sum(-1))
        same += int((p.argmax(-1) == q.argmax(-1)).sum())
    divergence, column = torch.cat(divergences), torch.tensor(targets)[:, None]
    return Score(
        tokens=len(targets), kl=float(divergence.mean()), kl_max=float(divergence.max()), top1=same / len(targets),
        nll_reference=-float(reference.gather(1, column).double().mean()),
        nll=-float(other.gather(1, column).double().mean()),
    )  # fmt: skip


def digest_of(ids: Sequence[int]) -> str:
    return hashlib.sha256(b"".join(token.to_bytes(4, "little") for token in ids)).hexdigest()


def set_threads(threads: Optional[int]) -> None:
    torch.set_grad_enabled(False)
    if threads:
        torch.set_num_threads(threads)
