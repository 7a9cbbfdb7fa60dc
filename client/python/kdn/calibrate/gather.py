"""What a calibration observes of a model: KV, queries and gradients over contexts of tokens.

K is always held before RoPE. Tensors of one layer have the axes [kv_head][row][channel]; `flat` turns them into rows.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from kdn.spec import DType, ModelSpec
from kdn.transformers.cache import LayerKv, cache_of

from .rotary import rotate

STORED = {DType.BF16: torch.bfloat16, DType.FP16: torch.float16, DType.FP32: torch.float32}


@dataclasses.dataclass
class Context:
    """Tokens whose KV is observed, and the tokens that follow them."""

    source: str
    ids: list[int]
    continuation: list[int]


@dataclasses.dataclass
class Observed:
    """KV of one context as the model's dtype holds it, and the model's next-token log-probabilities behind it."""

    context: Context
    k: list[torch.Tensor]  # by layer, before RoPE (rotated back from the stored K)
    v: list[torch.Tensor]
    reference: torch.Tensor | None = None  # [token of the continuation][vocabulary], log-probabilities

    @property
    def rows(self) -> int:
        return self.k[0].shape[1]


class _RecordingCache(DynamicCache):
    """Keeps every row that a layer ever got, whatever sliding windows drop."""

    def __init__(self, config: Any):
        super().__init__(config=config)
        self.seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any):
        self.seen[layer_idx] = (key_states, value_states)
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)


def flat(x: torch.Tensor) -> torch.Tensor:
    """[head][row][channel] as [row][head x channel]."""
    return x.transpose(0, 1).reshape(x.shape[1], -1)


def unflat(rows: torch.Tensor, heads: int) -> torch.Tensor:
    return rows.reshape(rows.shape[0], heads, -1).transpose(0, 1)


class Runner:
    """Runs a model in fp32 on the CPU, KV rounded to the dtype of `spec`."""

    def __init__(self, model: Any, spec: ModelSpec):
        self.model, self.spec = model, spec
        self.stored = STORED[spec.dtype]
        model.eval()
        model.requires_grad_(False)

    def observe(self, context: Context) -> Observed:
        """KV of the context."""
        observed, _ = self._prefill(context)
        return observed

    def _prefill(self, context: Context) -> tuple[Observed, _RecordingCache]:
        cache = _RecordingCache(self.model.config)
        with torch.no_grad():
            self.model(torch.tensor([context.ids]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        positions = torch.arange(len(context.ids))
        keys, values = [], []
        for index, layer in enumerate(self.spec.layers):
            k, v = (part[0].to(self.stored) for part in cache.seen[index])
            keys.append(rotate(self.spec.ropes[layer.rope_index], k.float(), positions, back=True))
            values.append(v.float())
        return Observed(context, keys, values), cache

    def observe_queries(self, context: Context) -> tuple[Observed, list[torch.Tensor]]:
        """KV of the context, and by layer the queries [kv_head][query head of it, row][channel] before RoPE, scaled."""
        queries: dict[int, torch.Tensor] = {}
        with _query_hooks(self.model, queries):
            observed, _ = self._prefill(context)
        made = []
        for index, layer in enumerate(self.spec.layers):
            q = queries[index]
            made.append(q.reshape(layer.num_kv_heads, q.shape[0] // layer.num_kv_heads, q.shape[1], q.shape[2]))
        return observed, made

    def rotated(self, k: Sequence[torch.Tensor], v: Sequence[torch.Tensor]) -> list[LayerKv]:
        """KV as a reader holds it: K rotated, both rounded to the dtype of the spec, in fp32."""
        positions = torch.arange(k[0].shape[1])
        return [
            LayerKv(
                rotate(self.spec.ropes[layer.rope_index], k[index], positions).to(self.stored).float(),
                v[index].to(self.stored).float(),
            )
            for index, layer in enumerate(self.spec.layers)
        ]

    def log_probabilities(self, kv: Sequence[LayerKv], continuation: Sequence[int]) -> torch.Tensor:
        """[token][vocabulary] of the model that continues behind `kv` over the given tokens."""
        with torch.no_grad():
            logits = self._logits(kv, continuation)
        return torch.log_softmax(logits, -1)

    def _logits(self, kv: Sequence[LayerKv], continuation: Sequence[int]) -> torch.Tensor:
        cache = cache_of(self.model, kv)
        return self.model(torch.tensor([list(continuation)]), past_key_values=cache, use_cache=True).logits[0].float()

    def reference(self, observed: Observed) -> torch.Tensor:
        """Log-probabilities behind the KV as it is, computed once."""
        if observed.reference is None:
            kv = self.rotated(observed.k, observed.v)
            observed.reference = self.log_probabilities(kv, observed.context.continuation)
        return observed.reference

    def gradients(
        self, observed: Observed, samples: int, generator: torch.Generator
    ) -> Iterator[list[tuple[torch.Tensor, torch.Tensor, int]]]:
        """Gradients of the log-probability of sampled continuation tokens, `samples` times.

        Each yields by layer (K before RoPE, V, first visible row), both [kv_head][visible row][channel].
        """
        leaves = []
        for layer, held in zip(self.spec.layers, self.rotated(observed.k, observed.v)):
            first = max(held.k.shape[1] - (layer.window - 1), 0) if layer.window else 0
            k, v = (part[:, first:].clone().requires_grad_(True) for part in (held.k, held.v))
            leaves.append(LayerKv(k, v, first))
        logits = self._logits(leaves, observed.context.continuation)
        log_p = torch.log_softmax(logits, -1)
        flat_leaves = [part for leaf in leaves for part in (leaf.k, leaf.v)]
        for sample in range(samples):
            drawn = torch.multinomial(log_p.detach().exp(), 1, generator=generator)
            score = log_p.gather(1, drawn).sum()
            grads = torch.autograd.grad(score, flat_leaves, retain_graph=sample + 1 < samples)
            made = []
            for index, (layer, leaf) in enumerate(zip(self.spec.layers, leaves)):
                rope = self.spec.ropes[layer.rope_index]
                positions = torch.arange(leaf.first_row, leaf.end)
                # A rotation's transpose is its inverse, but for the amplitude, which multiplies both ways.
                turned = rotate(rope, grads[2 * index], positions, back=True) * rope.amplitude**2
                made.append((turned, grads[2 * index + 1], leaf.first_row))
            yield made


@contextlib.contextmanager
def _query_hooks(model: Any, queries: dict[int, torch.Tensor]) -> Iterator[None]:
    """While entered, each forward pass leaves its queries [query head][row][channel] there, softmax scale folded in."""
    handles = []
    for index, block in enumerate(model.base_model.layers):
        attention = block.self_attn
        source = getattr(attention, "q_norm", None) or attention.q_proj

        def keep(_module: Any, _inputs: Any, output: torch.Tensor, index: int = index, attention: Any = attention):
            head_dim = attention.head_dim
            rows = output[0].reshape(-1, head_dim) if output.dim() == 3 else output[0]
            if output.dim() == 3:
                rows = rows.reshape(output.shape[1], -1, head_dim).transpose(0, 1)
            elif rows.shape[0] != attention.config.num_attention_heads:
                rows = rows.transpose(0, 1)
            queries[index] = rows.detach() * attention.scaling

        handles.append(source.register_forward_hook(keep))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
