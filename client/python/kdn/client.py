"""The client: stores an engine's KV on a kdnd under the identity of its tokens, and loads it back."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Optional

from ._native import ffi, lib
from .errors import KdnError
from .kv import integers, view_of
from .operation import Operation, RetrieveResult, State, StoreResult, millis, result_of
from .spec import ModelSpec

_POLL_BATCH = 64
_logger = logging.getLogger("kdn")


@dataclasses.dataclass(frozen=True)
class Tls:
    """Files in PEM. Without a CA file the system's authorities are trusted; certificate and key make it mTLS."""

    ca_file: Optional[str] = None
    cert_file: Optional[str] = None
    key_file: Optional[str] = None
    server_name: Optional[str] = None


class Model:
    """A registered model. Immutable, thread-safe, usable with every client of the same server and tenant."""

    def __init__(self, handle: Any, spec: ModelSpec):
        self._handle = ffi.gc(handle, lib.kdn_model_free)
        self.spec = spec
        raw = ffi.new("uint8_t[32]")
        lib.kdn_model_fingerprint(self._handle, raw)
        self.fingerprint: bytes = bytes(ffi.buffer(raw))
        self.chunk_tokens: int = lib.kdn_model_chunk_tokens(self._handle)
        self.created: bool = bool(lib.kdn_model_created(self._handle))
        self.token_bytes: int = lib.kdn_model_token_bytes(self._handle)


@dataclasses.dataclass(frozen=True)
class TextLookup:
    """A text stored before."""

    token_ids: list[int]
    hit_tokens: int  # of them, those a retrieve would load now
    document: str
    extra_keys: list[str]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A calibration object that the server has."""

    digest: bytes  # SHA-256 of its bytes
    fingerprint: bytes  # of its model
    kind: str  # "transform" or "lossless"
    object_bytes: int
    created_ms: int  # since 1970
    display_name: str
    active: bool  # what clients encode with unless told otherwise
    created: bool = False  # of put_calibration: the server did not have it before


def _calibration(fields: dict[str, Any]) -> Calibration:
    raw = {key: bytes.fromhex(fields[key]) for key in ("digest", "fingerprint")}
    return Calibration(**{**fields, **raw})


def _take_bytes(holder: Any) -> bytes:
    try:
        return bytes(ffi.buffer(holder.data, holder.size)) if holder.size else b""
    finally:
        lib.kdn_bytes_free(holder)


def _strings(keep: list[Any], values: Sequence[str]) -> Any:
    pointers = [ffi.new("char[]", value.encode()) for value in values]
    array = ffi.new("char*[]", pointers)
    keep.extend([*pointers, array])
    return array


def encode_spec(spec: ModelSpec) -> bytes:
    """The canonical encoding of a spec, whose SHA-256 is its fingerprint. Raises KdnError on a spec that is not valid."""
    keep: list[Any] = []

    def array(kind: str, values: Sequence[Any]) -> Any:
        made = ffi.new(f"{kind}[]", list(values))
        keep.append(made)
        return made

    ropes = [
        (int(r.style), r.rotary_dim, r.rotary_offset, r.amplitude, array("float", r.inv_freq)) for r in spec.ropes
    ]
    layers = [
        (int(l.attention), l.window, l.num_kv_heads, l.k_head_dim, l.v_head_dim, l.rope_index) for l in spec.layers
    ]
    native = ffi.new("kdn_model_spec*")
    for field, digest in (
        (native.weights_digest, spec.weights_digest),
        (native.tokenizer_digest, spec.tokenizer_digest),
        (native.adapter_digest, spec.adapter_digest or bytes(32)),
    ):
        if len(digest) != 32:
            raise KdnError("INVALID_ARGUMENT", f"a digest has {len(digest)} bytes: SHA-256 has 32")
        ffi.memmove(field, digest, 32)
    native.dtype = int(spec.dtype)
    native.ropes, native.num_ropes = array("kdn_rope_spec", ropes), len(ropes)
    native.layers, native.num_layers = array("kdn_layer_spec", layers), len(layers)
    native.k_scales, native.num_k_scales = array("float", spec.k_scales), len(spec.k_scales)
    native.v_scales, native.num_v_scales = array("float", spec.v_scales), len(spec.v_scales)
    native.extra, native.num_extra = _strings(keep, spec.extra), len(spec.extra)
    canonical = ffi.new("kdn_bytes*")
    _check(lib.kdn_spec_encode(native, canonical))
    return _take_bytes(canonical)


def _check(status: int) -> None:
    if status != lib.KDN_OK:
        code = ffi.string(lib.kdn_status_name(status)).decode()
        raise KdnError(code, ffi.string(lib.kdn_last_error()).decode(errors="replace"))


class _Span:
    """A kdn_span and what it points to."""

    def __init__(self, token_ids: Sequence[int], first_token: int, extra_keys: Sequence[str]):
        self.keep: list[Any] = []
        ids = integers(token_ids, "token_ids")
        tokens = ffi.new("uint32_t[]", ids)
        self.native = ffi.new("kdn_span*")
        lib.kdn_span_init(self.native)
        self.native.token_ids = tokens
        self.native.num_tokens = len(ids)
        self.native.first_token = first_token
        if extra_keys:
            self.native.extra_keys = _strings(self.keep, extra_keys)
            self.native.num_extra_keys = len(extra_keys)
        self.keep.append(tokens)


class Client:
    """A connection to one kdnd. Thread-safe. Reaches the server with the first call, not before.

    A server that does not answer costs at most 250 ms once; afterwards calls fail at once with UNAVAILABLE until it
    answers again. In a forked child every call raises UNAVAILABLE; a child may open a client of its
    own if its parent had made no call yet (gRPC does not survive a fork): else start processes with "spawn".

    `kv`, where a method takes it: one (k, v), (k, v, first_row), or object with these attributes, a layer; k and v are
    NumPy arrays or torch tensors of shape [kv_heads, rows, channels], any strides, rows being tokens first_row,
    first_row + 1, ... of the call (first_row > 0 where a sliding-window layer holds only its newest rows). Or a PagedKv.
    NumPy has no bfloat16 and no fp8: unsigned integers of that width carry the bits.
    """

    def __init__(
        self,
        endpoint: str = "127.0.0.1:9460",
        *,
        token: Optional[str] = None,
        tls: Optional[Tls] = None,
        call_timeout: float = 5.0,
        transfer_timeout: float = 30.0,
        dead_after: float = 0.25,
        profile: str = "lossless",
        channels: int = 1,
        codec_threads: int = 0,
    ):
        """Checks the arguments; raises KdnError when one is not valid.

        Args:
          endpoint: "host:port" or "unix:/path".
          token: bearer token, blanks and newlines around it ignored; needs TLS unless the endpoint is this machine.
          call_timeout, transfer_timeout: seconds; of small calls, and of store and retrieve.
          dead_after: seconds that a server which does not answer may cost, once.
          profile: how stored tiles are coded: "raw", "lossless" (what is loaded is what was stored, bit for bit),
            "int8" (half the bytes of bf16 or fp16 KV, each value within half a step of 1/127 of its channel's or token's
            largest; tiles with NaN or infinities, and fp8 KV, are stored losslessly; fp32 KV is refused), or
            "q4" (3.8 times smaller than bf16: K before its rotary embedding, 4 bits an element after a Hadamard
            transform; positions 0 to 3 are kept at 16 bits, tiles of V with NaN or infinities losslessly, while in K
            these spread to the channel they rotate with; fp32 is refused), or
            "transform" (8 times smaller and more, by the model's active calibration object: see put_calibration; without
            one "q4" is used and StoreResult.fallback says so).
          channels: TCP connections.
          codec_threads: threads that encode and decode; 0 = min(2, cores).
        """
        keep: list[Any] = []

        def text(value: Optional[str]) -> Any:
            if value is None:
                return ffi.NULL
            keep.append(ffi.new("char[]", value.encode()))
            return keep[-1]

        options = ffi.new("kdn_client_options*")
        lib.kdn_client_options_init(options)
        options.endpoint, options.profile = text(endpoint), text(profile)
        options.token = text(None if token is None else token.strip())
        if tls is not None:
            options.tls = 1
            options.tls_ca_file, options.tls_cert_file = text(tls.ca_file), text(tls.cert_file)
            options.tls_key_file, options.tls_server_name = text(tls.key_file), text(tls.server_name)
        options.call_timeout_ms = int(call_timeout * 1000)
        options.transfer_timeout_ms = int(transfer_timeout * 1000)
        options.dead_after_ms = int(dead_after * 1000)
        options.channels, options.codec_threads = channels, codec_threads
        opened = ffi.new("kdn_client**")
        _check(lib.kdn_client_open(options, opened))
        self._native: Optional[Any] = opened[0]
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._left = threading.Condition(self._lock)
        self._fallback_logged = False
        self._users = 0  # calls that are inside the library
        self._live: dict[int, State] = {}  # what was submitted and is not complete
        self._watched: dict[asyncio.AbstractEventLoop, int] = {}  # to a descriptor of ours, closed in the loop

    def close(self) -> None:
        """Cancels and waits for everything under way; what waits for it gets CANCELLED. Idempotent."""
        if os.getpid() != self._process:  # a child's: the lock may be held by a thread that it does not have
            self._native = None
            return
        with self._lock:
            native, self._native = self._native, None
            live, watched = list(self._live.values()), self._watched
            self._watched = {}
        if native is None:
            return
        for state in live:
            lib.kdn_cancel(native, state.op)
        with self._lock:
            while self._users > 0:
                self._left.wait()
        self._take_completions(native)
        for loop, descriptor in watched.items():
            _unwatch(loop, descriptor)
        lib.kdn_client_close(native)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_native", None) is not None:
            self.close()

    def register_model(self, spec: ModelSpec, chunk_tokens: int = 0, name: str = "") -> Model:
        """Registers a model, idempotently. chunk_tokens 0 = what the server has pinned for it, else its default.

        Raises:
          KdnError: FAILED_PRECONDITION when another chunk length is pinned.
        """
        canonical = encode_spec(spec)
        handle = ffi.new("kdn_model**")
        with self._use() as native:
            self._check(
                lib.kdn_model_register(native, canonical, len(canonical), chunk_tokens, name.encode(), handle)
            )
        return Model(handle[0], spec)

    def lookup(
        self, model: Model, token_ids: Sequence[int], *, first_token: int = 0, extra_keys: Sequence[str] = ()
    ) -> int:
        """How many of token_ids, from first_token on, a retrieve would load now. Arguments as for store_async."""
        span = _Span(token_ids, first_token, extra_keys)
        result = ffi.new("kdn_lookup_result*")
        with self._use() as native:
            self._check(lib.kdn_lookup(native, model._handle, span.native, 0, 0, 0, result))
        return result.hit_tokens

    def lookup_text(self, model: Model, text: str, policy: str = "default") -> Optional[TextLookup]:
        """What is known of a text stored before; None when nothing is."""
        utf8 = text.encode()
        found = ffi.new("kdn_text**")
        with self._use() as native:
            status = lib.kdn_lookup_text(native, model._handle, utf8, len(utf8), policy.encode(), 0, found)
            if status == lib.KDN_NOT_FOUND:
                return None
            self._check(status)
        try:
            count = ffi.new("size_t*")
            ids = lib.kdn_text_token_ids(found[0], count)
            keys = [
                ffi.string(lib.kdn_text_extra_key(found[0], i)).decode()
                for i in range(lib.kdn_text_num_extra_keys(found[0]))
            ]
            document = ffi.string(lib.kdn_text_document(found[0])).decode()
            return TextLookup(ffi.unpack(ids, count[0]), lib.kdn_text_hit_tokens(found[0]), document, keys)
        finally:
            lib.kdn_text_free(found[0])

    def store_async(
        self,
        model: Model,
        token_ids: Sequence[int],
        kv: Any,
        *,
        first_token: int = 0,
        head_begin: int = 0,
        extra_keys: Sequence[str] = (),
        profile: Optional[str] = None,
        level: float = 0.0,
        document: str = "",
        ttl: float = 0.0,
        timeout: float = 0.0,
        text: Optional[str] = None,
        policy: str = "default",
    ) -> Operation[StoreResult]:
        """Starts storing the KV of token_ids[first_token:]; what the server has with no more loss is not sent.

        Args:
          token_ids: [tokens] integers, from the text's first token on: a list, NumPy array or tensor of one dimension.
          kv: see the class: [kv_heads, rows, channels] a layer or a PagedKv, over tokens first_token, first_token + 1,
            ... of token_ids up to a chunk boundary or the last one. Read until the operation is staged.
          first_token: index of kv's token 0: a multiple of the chunk length.
          head_begin: first KV head of kv (a tensor-parallel rank's); the arrays' shape says how many.
          extra_keys: further identity: image hashes, cache salt.
          profile: as for the constructor.
          level: profile "transform": how many times smaller, nominally; the nearest level of the calibration object that
            is at least that. 0 = 8. The result's error is INVALID_ARGUMENT, naming the levels, when there is none.
          document: a name for deletion by document.
          ttl: seconds after which it expires; 0 = the server's default.
          timeout: seconds; 0 = the client's transfer_timeout.
          text: remember as well that this text stands for token_ids, under the tokenizer's special-token `policy`.

        Raises:
          ValueError, TypeError: arrays or token_ids that do not fit the model, each other, or the block table.
          KdnError: other arguments are not valid. What happens later is the operation's result.
        """
        span = _Span(token_ids, first_token, extra_keys)
        view = view_of(model.spec, kv, head_begin, writable=False)
        options = ffi.new("kdn_store_options*")
        lib.kdn_store_options_init(options)
        keep = [ffi.new("char[]", document.encode()), ffi.new("char[]", policy.encode())]
        options.document, options.text_policy = keep
        options.timeout_ms, options.ttl_ms = int(timeout * 1000), int(ttl * 1000)
        options.level = level
        if profile is not None:
            keep.append(ffi.new("char[]", profile.encode()))
            options.profile = keep[-1]
        if text is not None:
            utf8 = text.encode()
            keep.append(ffi.from_buffer("char[]", utf8))
            options.text_utf8, options.text_utf8_size = keep[-1], len(utf8)
        op = ffi.new("kdn_op*")
        return self._submit(
            op, view, lambda native: lib.kdn_submit_store(native, model._handle, span.native, view.view, options, op)
        )

    def store(self, model: Model, token_ids: Sequence[int], kv: Any, **options: Any) -> StoreResult:
        """`store_async` with its arguments and shapes, then waits for the result."""
        return self.store_async(model, token_ids, kv, **options).wait()

    def store_text(
        self, model: Model, text: str, token_ids: Sequence[int], kv: Any, policy: str = "default", **options: Any
    ) -> StoreResult:
        """`store` with its arguments and shapes, and remembers that `text` stands for token_ids."""
        return self.store(model, token_ids, kv, text=text, policy=policy, **options)

    def retrieve_async(
        self,
        model: Model,
        token_ids: Sequence[int],
        kv: Any,
        *,
        first_token: int = 0,
        head_begin: int = 0,
        extra_keys: Sequence[str] = (),
        timeout: float = 0.0,
        lossiest: Optional[str] = None,
    ) -> Operation[RetrieveResult]:
        """Starts loading the KV of token_ids[first_token:] into the arrays of `kv`, which are written until it is complete.

        Arguments, shapes and errors as for store_async: the arrays end at a chunk boundary or with token_ids. NumPy
        arrays must be writable, and no two elements may share memory.

        lossiest: chunks stored only at a lossier profile are misses ("incompatible"), never loaded unasked; None = the
        client's profile.
        """
        span = _Span(token_ids, first_token, extra_keys)
        view = view_of(model.spec, kv, head_begin, writable=True)
        options = ffi.new("kdn_retrieve_options*")
        lib.kdn_retrieve_options_init(options)
        options.timeout_ms = int(timeout * 1000)
        keep = [ffi.new("char[]", lossiest.encode())] if lossiest is not None else []
        options.lossiest = keep[0] if keep else ffi.NULL
        op = ffi.new("kdn_op*")
        return self._submit(
            op, view, lambda native: lib.kdn_submit_retrieve(native, model._handle, span.native, view.view, options, op)
        )

    def retrieve(self, model: Model, token_ids: Sequence[int], kv: Any, **options: Any) -> RetrieveResult:
        """`retrieve_async` with its arguments and shapes, then waits for the result."""
        return self.retrieve_async(model, token_ids, kv, **options).wait()

    def retrieve_text(
        self, model: Model, text: str, kv: Any, policy: str = "default", **options: Any
    ) -> Optional[RetrieveResult]:
        """Loads the KV of a text stored before; None when the text is unknown.

        kv: shapes as for retrieve_async, over the tokens that `lookup_text` says the text has, or its first whole chunks.
        """
        found = self.lookup_text(model, text, policy)
        if found is None:
            return None
        return self.retrieve(model, found.token_ids, kv, extra_keys=found.extra_keys, **options)

    def fetch_container(self, model: Model, chunk_digest: bytes, timeout: float = 0.0) -> bytes:
        """The chunk of that digest (32 bytes) as a verified container. Raises KdnError NOT_FOUND on a miss."""
        container = ffi.new("kdn_bytes*")
        with self._use() as native:
            self._check(lib.kdn_fetch_container(native, model._handle, chunk_digest, int(timeout * 1000), container))
        return _take_bytes(container)

    def put_calibration(
        self, data: bytes, model: Optional[Model] = None, *, activate: bool = True, name: str = "", timeout: float = 0.0
    ) -> Calibration:
        """Stores a calibration object on the server, where it stays until it is deleted. Idempotent.

        Args:
          data: the object's bytes, at most 64 MiB.
          model: whose it is; None = the registered model whose fingerprint the object carries (kind "transform").
          activate: make it the one that clients encode with, also where the server had it already.
          name: for display, at most 256 bytes.
          timeout: seconds; 0 = the client's transfer_timeout.

        Raises:
          KdnError: INVALID_ARGUMENT for bytes that are no object, or of another model; NOT_FOUND when the model is not
            registered; RESOURCE_EXHAUSTED beyond the server's limits on objects.
        """
        answer = ffi.new("kdn_bytes*")
        handle = ffi.NULL if model is None else model._handle
        with self._use() as native:
            self._check(
                lib.kdn_calibration_put(
                    native, handle, data, len(data), name.encode(), int(activate), int(timeout * 1000), answer
                )
            )
        return _calibration(json.loads(_take_bytes(answer)))

    def get_calibration(self, digest: bytes, model: Optional[Model] = None, timeout: float = 0.0) -> bytes:
        """The calibration object of that digest (32 bytes), from this client's cache or the server, verified.

        model: whose it is; None = of whichever model has it. Raises KdnError NOT_FOUND when the server does not have it.
        """
        if len(digest) != 32:
            raise KdnError("INVALID_ARGUMENT", f"the digest has {len(digest)} bytes: SHA-256 has 32")
        found = ffi.new("kdn_bytes*")
        handle = ffi.NULL if model is None else model._handle
        with self._use() as native:
            self._check(lib.kdn_calibration_get(native, handle, digest, int(timeout * 1000), found))
        return _take_bytes(found)

    def list_calibrations(self, model: Model) -> list[Calibration]:
        """The model's calibration objects, newest first. Raises KdnError NOT_FOUND when the model is not registered."""
        answer = ffi.new("kdn_bytes*")
        with self._use() as native:
            self._check(lib.kdn_calibration_list(native, model._handle, 0, answer))
        return [_calibration(fields) for fields in json.loads(_take_bytes(answer))]

    def activate_calibration(self, model: Model, digest: bytes) -> None:
        """Makes a stored object the one that clients encode with. Raises KdnError NOT_FOUND when it is not stored."""
        if len(digest) != 32:
            raise KdnError("INVALID_ARGUMENT", f"the digest has {len(digest)} bytes: SHA-256 has 32")
        with self._use() as native:
            self._check(lib.kdn_calibration_activate(native, model._handle, digest, 0))

    def delete_calibration(self, model: Model, digest: bytes, *, force: bool = False) -> None:
        """Deletes an object; chunks that refer to it are misses ("incompatible") for whoever does not have it cached.

        Raises:
          KdnError: FAILED_PRECONDITION for the active one without force; NOT_FOUND when it is not stored.
        """
        if len(digest) != 32:
            raise KdnError("INVALID_ARGUMENT", f"the digest has {len(digest)} bytes: SHA-256 has 32")
        with self._use() as native:
            self._check(lib.kdn_calibration_delete(native, model._handle, digest, int(force), 0))

    def chunk_digests(self, model: Model, token_ids: Sequence[int], *, extra_keys: Sequence[str] = ()) -> list[bytes]:
        """The digests (32 bytes each) of the prefix chunks of token_ids ([tokens] integers). No call."""
        span = _Span(token_ids, 0, extra_keys)
        digests = ffi.new("kdn_bytes*")
        self._check(lib.kdn_chunk_digests(model._handle, span.native, digests))
        raw = _take_bytes(digests)
        return [raw[at : at + 32] for at in range(0, len(raw), 32)]

    def admin(self, method: str, timeout: float = 0.0, **request: Any) -> dict[str, Any]:
        """A call of the Admin service (proto/kdn/v1/admin.proto) by name, or "Health": fields in and out."""
        response = ffi.new("kdn_bytes*")
        body = json.dumps(request).encode()
        with self._use() as native:
            self._check(lib.kdn_admin(native, method.encode(), body, int(timeout * 1000), response))
        return json.loads(_take_bytes(response))

    def counters(self) -> dict[str, Any]:
        """What this client has done since it was opened."""
        text = ffi.new("kdn_bytes*")
        with self._use() as native:
            self._check(lib.kdn_client_counters(native, text))
        return json.loads(_take_bytes(text))

    @contextlib.contextmanager
    def _use(self) -> Iterator[Any]:
        """The library's client, which is not freed before the block is left."""
        if os.getpid() != self._process:
            raise KdnError("UNAVAILABLE", "the client was opened before a fork")
        with self._lock:
            native = self._native
            if native is None:
                raise KdnError("UNAVAILABLE", "the client is closed")
            self._users += 1
        try:
            yield native
        finally:
            with self._lock:
                self._users -= 1
                self._left.notify_all()

    def _check(self, status: int) -> None:
        _check(status)

    def _submit(self, op: Any, view: Any, submit: Any) -> Operation[Any]:
        self._drain()
        with self._use() as native:
            # Whoever polls this operation's completion finds its state, and close() sees it: the lock is held until
            # it is filed.
            with self._lock:
                if self._native is None:
                    raise KdnError("UNAVAILABLE", "the client is closed")
                self._check(submit(native))
                state = self._live[op[0]] = State(op[0], view)
        return Operation(self, state)

    def _finish(self, completion: Any) -> None:
        """Takes over a completion that poll or wait handed out."""
        result = result_of(completion)
        with self._lock:
            state = self._live.pop(completion.op)
            fell_back = isinstance(result, StoreResult) and bool(result.fallback) and not self._fallback_logged
            self._fallback_logged |= fell_back
        if fell_back:
            _logger.warning("%s", result.fallback)
        lib.kdn_completion_clear(completion)
        state.finish(result)

    def _drain(self) -> None:
        with self._use() as native:
            self._take_completions(native)

    def _take_completions(self, native: Any) -> None:
        completions = ffi.new("kdn_completion[]", _POLL_BATCH)
        while True:
            count = lib.kdn_poll(native, completions, _POLL_BATCH)
            for i in range(count):
                self._finish(ffi.addressof(completions, i))
            if count < _POLL_BATCH:
                return

    def _wait(self, state: State, timeout: Optional[float]) -> None:
        if state.complete.is_set():
            return
        completion = ffi.new("kdn_completion*")
        with self._use() as native:
            status = lib.kdn_wait(native, state.op, millis(timeout), completion)
            if status != lib.KDN_NOT_FOUND:
                self._check(status)
                self._finish(completion)
                return
        # Another thread was handed the completion and files it any moment.
        state.complete.wait(timeout)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Makes `loop`, which runs this, file completions as they come."""
        with self._use() as native, self._lock:
            if loop in self._watched:
                return
            # Of our own, so that its number names nothing else before the loop has let go of it.
            descriptor = self._watched[loop] = os.dup(lib.kdn_completion_fd(native))
        client = weakref.ref(self)

        def file_completions() -> None:
            watched = client()
            if watched is not None:
                with contextlib.suppress(KdnError):  # closed: close() files them
                    watched._drain()

        loop.add_reader(descriptor, file_completions)


def _unwatch(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    def let_go() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)

    try:
        loop.call_soon_threadsafe(let_go)
    except RuntimeError:  # the loop is closed
        os.close(descriptor)
