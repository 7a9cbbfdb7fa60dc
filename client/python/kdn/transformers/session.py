"""Loads the KV of a text from KDN, or computes it, so that `model.generate` continues behind it."""

from __future__ import annotations

import dataclasses
import enum
import os
import time
from collections.abc import Sequence
from typing import Any, Optional, Protocol, Union

import torch
from transformers import DynamicCache

from kdn.errors import KdnError
from kdn.spec import ModelSpec

from .cache import LayerKv, Recorder, cache_of, empty_kv, kv_bytes, kv_views, piece_tokens
from .describe import Digest, model_spec

DEFAULT_CHUNK_TOKENS = 256
# A retrieve that finds less than its lookup promised (evicted in between) is tried again for the shorter prefix.
_MAX_LOAD_ATTEMPTS = 3
_MAX_NAME_BYTES = 256  # the server's limit
# What a registration fails with when the caller or the configuration is wrong. Anything else may pass by itself.
_REFUSALS = ("FAILED_PRECONDITION", "INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED")


class SlidingRows(enum.Enum):
    """Which rows of sliding-window layers are stored."""

    ALL = "all"  # any chunk boundary can be continued from
    END = "end"  # the end of the text and its last chunk boundary can: fewer bytes for long texts


class Model(Protocol):
    """A model registered at a server."""

    fingerprint: bytes
    chunk_tokens: int


class Client(Protocol):
    """The part of `kdn.Client` used here. `kv` is one LayerKv a layer, whose rows are positions of the text."""

    def register_model(self, spec: ModelSpec, chunk_tokens: int = ..., name: str = ...) -> Model: ...

    def lookup(self, model: Model, token_ids: Sequence[int]) -> int: ...

    def lookup_text(self, model: Model, text: str, policy: str = ...) -> Any: ...

    def retrieve(self, model: Model, token_ids: Sequence[int], kv: Sequence[LayerKv]) -> Any: ...

    def store(self, model: Model, token_ids: Sequence[int], kv: Sequence[LayerKv]) -> Any: ...

    def store_text(
        self, model: Model, text: str, token_ids: Sequence[int], kv: Sequence[LayerKv], policy: str = ...
    ) -> Any: ...


@dataclasses.dataclass
class PrefixStats:
    """Where the KV of a prefix came from."""

    tokens: int = 0
    tokens_hit: int = 0  # loaded from KDN; the others were computed
    loaded_bytes: int = 0  # KV as the model sees it
    received_bytes: int = 0  # the same, coded, as it travelled
    load_seconds: float = 0.0  # lookup and transfer
    prefill_seconds: float = 0.0
    error: Optional[str] = None  # why KDN was left out, when a call failed


@dataclasses.dataclass
class Prefix:
    """A text whose KV is in `cache`, ready for the model to continue behind it.

    `cache` grows as the model generates with it; `kv` stays what it was. It holds more rows than `cache` on
    sliding-window layers where earlier ones were recorded for storing.
    """

    cache: DynamicCache
    token_ids: list[int]
    text: Optional[str]
    kv: list[LayerKv]
    stats: PrefixStats
    session: KdnModel

    def inputs(self, continuation: Union[str, Sequence[int]]) -> dict[str, Any]:
        """Arguments for `model.generate` or `model(...)`: the prefix, the continuation behind it, and the cache.

        The continuation must be at least one token: the logits of the prefix's own last token are not part of its KV.
        A text is tokenised without special tokens.
        """
        if isinstance(continuation, str):
            continuation = self.session.tokenizer(continuation, add_special_tokens=False)["input_ids"]
        if not len(continuation):
            raise ValueError("the continuation is empty: at least one token must follow the prefix")
        device = self.cache.layers[0].keys.device
        ids = torch.tensor([[*self.token_ids, *continuation]], device=device)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "past_key_values": self.cache}


class KdnModel:
    """A Hugging Face model, its tokenizer, and its registration at a KDN server. Not thread-safe, as the model is not.

    Exactness: a prefill runs in pieces at fixed positions (`piece_tokens`), so that each row is computed by the same
    operations on the same shapes whether the rows before it were computed or loaded. KV loaded from KDN is bit for bit
    what was stored; on the same machine, PyTorch build and thread count, logits and greedy tokens behind it then equal
    those of the run that computed it. A prefill in one pass (plain `model.generate`) rounds differently in the last
    bit, as any other batching of the same computation does.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        client: Client,
        weights_digest: Digest,
        chunk_tokens: int = DEFAULT_CHUNK_TOKENS,
        add_special_tokens: bool = True,
        sliding_rows: SlidingRows = SlidingRows.ALL,
        name: str = "",
        **spec_options: Any,
    ):
        """Registers the model. When KDN cannot be reached now, each later call tries again: the engine starts without it.

        Args:
          model, tokenizer, weights_digest, spec_options: as `model_spec` takes them.
          client: a `kdn.Client`.
          chunk_tokens: tokens in a chunk; every process must use the same for one model. 0 = what the server has pinned
            for it, else the server's default (until the server is reached, DEFAULT_CHUNK_TOKENS).
          add_special_tokens: whether texts are tokenised with the tokenizer's special tokens.
          sliding_rows: what is stored of sliding-window layers.
          name: of the model, for people who read `kdnctl model ls`; empty = the name its configuration carries.

        Raises:
          UnsupportedModel: see `model_spec`.
          KdnError: the server refuses the registration: another chunk length is pinned, or the client is not allowed.
        """
        self.spec = model_spec(model, tokenizer, weights_digest=weights_digest, **spec_options)
        self._model = model
        self.tokenizer = tokenizer
        self._client = client
        self._sliding_rows = sliding_rows
        self._add_special_tokens = add_special_tokens
        self._policy = "default" if add_special_tokens else "none"
        self._name = name or _name_of(model)
        self.chunk_tokens = chunk_tokens or DEFAULT_CHUNK_TOKENS
        self._wanted_chunk_tokens = chunk_tokens
        self._registered: Optional[Model] = None
        try:
            self._model_at_server()
        except KdnError as error:
            if error.code in _REFUSALS:
                raise

    def prefill_or_load(self, text: Union[str, Sequence[int]]) -> Prefix:
        """The KV of `text`: the longest prefix that KDN holds is loaded, the rest is computed.

        A text that was stored as such is found by its bytes; any other, and token ids, by the longest prefix of whole
        chunks. When KDN fails, everything is computed, and `stats.error` says why.

        Args:
          text: a str, or token ids. One sequence: a batch raises ValueError.
        """
        token_ids = self._token_ids(text)
        stats = PrefixStats(tokens=len(token_ids))
        begin = time.perf_counter()
        loaded: Optional[list[LayerKv]] = None
        try:
            loaded = self._load(text, token_ids, stats)
        except KdnError as error:
            stats.error = str(error)
        stats.load_seconds = time.perf_counter() - begin
        return self._complete(text, token_ids, loaded, stats)

    def prefill(self, text: Union[str, Sequence[int]]) -> Prefix:
        """The KV of `text`, computed in the pieces of `prefill_or_load` without asking KDN."""
        token_ids = self._token_ids(text)
        return self._complete(text, token_ids, None, PrefixStats(tokens=len(token_ids)))

    def prefix_of(self, cache: DynamicCache, token_ids: Sequence[int], text: Optional[str] = None) -> Prefix:
        """What an existing cache holds as a `Prefix`, for storing (a conversation after `generate`, say).

        Args:
          cache: holds the KV of the first tokens of token_ids; `generate` leaves it one token short of its output.
          token_ids: the tokens, all of them from position 0 on.
          text: what they were made from; only when the cache holds all of them.

        Raises:
          ValueError: the cache is longer than token_ids, or shorter with a text given.
          UnsupportedModel: see `kv_views`.
        """
        kv, ids = kv_views(cache), self._token_ids(token_ids)
        tokens = kv[0].end
        if tokens > len(ids) or (text is not None and tokens != len(ids)):
            raise ValueError(f"the cache holds {tokens} tokens where {len(ids)} are named")
        return Prefix(cache, ids[:tokens], text, kv, PrefixStats(tokens=tokens), self)

    def store(self, prefix: Prefix) -> Any:
        """Stores what KDN lacks of `prefix`, under its tokens, and under its text where it has one.

        Returns the client's result (`kdn.StoreResult`): chunks that the server rejected are said there. Raises KdnError
        when the call as a whole failed.
        """
        kv = prefix.kv
        if self._sliding_rows is SlidingRows.END:
            kv = self._end_rows(kv, len(prefix.token_ids))
        kv = [LayerKv(layer.k.cpu(), layer.v.cpu(), layer.first_row) for layer in kv]
        registered = self._model_at_server()
        if prefix.text is None:
            return self._client.store(registered, prefix.token_ids, kv)
        return self._client.store_text(registered, prefix.text, prefix.token_ids, kv, policy=self._policy)

    def _model_at_server(self) -> Model:
        """The registration, made now when that was not possible before."""
        if self._registered is None:
            self._registered = self._client.register_model(
                self.spec, chunk_tokens=self._wanted_chunk_tokens, name=self._name
            )
            self.chunk_tokens = self._registered.chunk_tokens
        return self._registered

    def _lookup_text(self, text: str, token_ids: list[int]) -> int:
        """Tokens that can be loaded of a text stored under its bytes; 0 when unknown, or known under other tokens."""
        found = self._client.lookup_text(self._model_at_server(), text, policy=self._policy)
        if found is None or list(found.token_ids) != token_ids:
            return 0
        return found.hit_tokens

    def _token_ids(self, text: Union[str, Sequence[int]]) -> list[int]:
        if isinstance(text, str):
            ids = self.tokenizer(text, add_special_tokens=self._add_special_tokens)["input_ids"]
        else:
            ids = text.tolist() if hasattr(text, "tolist") else list(text)
        if not ids:
            raise ValueError("the text has no tokens")
        if not isinstance(ids[0], int):
            raise ValueError("one text or one sequence of token ids is wanted, not a batch")
        return ids

    def _load(self, text: Any, token_ids: list[int], stats: PrefixStats) -> Optional[list[LayerKv]]:
        hit = 0
        if isinstance(text, str):
            hit = self._lookup_text(text, token_ids)
        if hit == 0:
            hit = self._client.lookup(self._model_at_server(), token_ids)
        for _ in range(_MAX_LOAD_ATTEMPTS):
            if hit == 0:
                return None
            kv = empty_kv(self.spec, hit)
            result = self._client.retrieve(self._model_at_server(), token_ids[:hit], kv)
            stats.received_bytes += result.bytes_received
            if result.tokens_hit == hit:
                stats.tokens_hit = hit
                stats.loaded_bytes = kv_bytes(kv)
                return kv
            hit = result.tokens_hit
        return None

    def _complete(self, text: Any, token_ids: list[int], loaded: Optional[list[LayerKv]], stats: PrefixStats) -> Prefix:
        """Computes what `loaded` lacks."""
        begin = time.perf_counter()
        recorder = Recorder(self.spec)
        if loaded is None:
            cache = DynamicCache(config=self._model.config)
        else:
            cache = cache_of(self._model, loaded)
            recorder.record(cache)
        position, piece = stats.tokens_hit, piece_tokens(self.spec, self.chunk_tokens)
        ids = torch.tensor([token_ids], device=self._model.device)
        with torch.no_grad():
            while position < len(token_ids):
                end = min(position - position % piece + piece, len(token_ids))
                self._model(input_ids=ids[:, position:end], past_key_values=cache, use_cache=True, logits_to_keep=1)
                recorder.record(cache)
                position = end
        stats.prefill_seconds = time.perf_counter() - begin
        prefix_text = text if isinstance(text, str) else None
        return Prefix(cache, token_ids, prefix_text, recorder.kv(cache), stats, self)

    def _end_rows(self, kv: Sequence[LayerKv], tokens: int) -> list[LayerKv]:
        boundary = tokens - tokens % self.chunk_tokens
        trimmed = []
        for layer, held in zip(self.spec.layers, kv):
            skip = max(boundary - (layer.window - 1) - held.first_row, 0) if layer.window else 0
            trimmed.append(LayerKv(held.k[:, skip:], held.v[:, skip:], held.first_row + skip))
        return trimmed


def _name_of(model: Any) -> str:
    """What the model was loaded by: "organisation/model", or the last part of a path."""
    loaded_by = getattr(model.config, "_name_or_path", "") or ""
    name = os.path.basename(loaded_by.rstrip("/")) if os.path.isabs(loaded_by) else loaded_by
    return name.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")


def prefill_or_load(
    model: Any,
    tokenizer: Any,
    text: Union[str, Sequence[int]],
    *,
    client: Client,
    weights_digest: Digest,
    **options: Any,
) -> Prefix:
    """`KdnModel(model, tokenizer, ...).prefill_or_load(text)`: registers the model at each call."""
    session = KdnModel(model, tokenizer, client=client, weights_digest=weights_digest, **options)
    return session.prefill_or_load(text)


def store(prefix: Prefix) -> Any:
    """Stores what KDN lacks of a prefix: see `KdnModel.store`."""
    return prefix.session.store(prefix)
