"""Operations under way, and what they result in."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import threading
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, Optional, TypeVar

from ._native import ffi, lib
from .errors import KdnError

if TYPE_CHECKING:
    from .client import Client

MISS_REASONS = (
    "", "absent", "expired", "evicted", "corrupt", "incompatible", "timeout", "over_budget", "incomplete", "unavailable",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class StoreResult:
    """What became of a store. Rejected chunks are a result, not an error: `details` says why."""

    tokens_present: int  # tokens of the view, from its start, that the server now has
    chunks: int  # offered
    chunks_stored: int
    chunks_skipped: int  # the server had every cell: nothing was encoded or sent
    chunks_rejected: int
    bytes_sent: int  # containers
    raw_bytes: int  # KV that was encoded
    details: dict[str, Any]

    @property
    def profile(self) -> Optional[str]:
        """What chunks were coded at; None where the server had everything."""
        return self.details.get("profile")

    @property
    def level(self) -> Optional[float]:
        """Of profile "transform": the nominal ratio of the calibration object's level."""
        return self.details.get("level")

    @property
    def fallback(self) -> str:
        """Why another profile was used than the one asked for; else empty."""
        return self.details.get("fallback", "")


@dataclasses.dataclass(frozen=True)
class RetrieveResult:
    """What became of a retrieve. Misses are a result, not an error.

    The first tokens_hit tokens of the destination are loaded: received, verified and written whole. What lies beyond is
    unspecified.
    """

    tokens_hit: int
    chunks: int  # asked for
    chunks_loaded: int
    misses: dict[str, int]  # reason to count
    bytes_received: int  # coded
    bytes_written: int  # KV
    details: dict[str, Any]


def _details(completion: Any) -> dict[str, Any]:
    if completion.details.size == 0:
        return {}
    return json.loads(bytes(ffi.buffer(completion.details.data, completion.details.size)))


def result_of(completion: Any) -> Any:
    """The result, or the KdnError, of a completion."""
    details = _details(completion)
    if completion.status != lib.KDN_OK:
        code = ffi.string(lib.kdn_status_name(completion.status)).decode()
        return KdnError(code, details.get("message", "the operation failed"))
    if completion.kind == lib.KDN_OP_STORE:
        return StoreResult(
            completion.tokens, completion.chunks, completion.chunks_done, completion.chunks_skipped,
            completion.chunks_rejected, completion.coded_bytes, completion.raw_bytes, details,
        )  # fmt: skip
    misses = {name: completion.misses[i] for i, name in enumerate(MISS_REASONS) if i > 0 and completion.misses[i] > 0}
    return RetrieveResult(
        completion.tokens, completion.chunks, completion.chunks_done, misses, completion.coded_bytes,
        completion.raw_bytes, details,
    )  # fmt: skip


Result = TypeVar("Result")


class State:
    """What client and Operation share about one operation: its arrays while it runs, then its result."""

    def __init__(self, op: int, arrays: Any):
        self.op = op
        self.arrays = arrays
        self.result: Any = None
        self.complete = threading.Event()
        self._waiters: list[asyncio.Future] = []
        self._lock = threading.Lock()

    def finish(self, result: Any) -> None:
        with self._lock:
            self.result, self.arrays = result, None
            self.complete.set()
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                waiter.get_loop().call_soon_threadsafe(_resolve, waiter)

    def waiter(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future:
        """A future of `loop` that is done when the operation is."""
        future = loop.create_future()
        with self._lock:
            if not self.complete.is_set():
                self._waiters.append(future)
                return future
        future.set_result(None)
        return future


def _resolve(future: asyncio.Future) -> None:
    if not future.done():
        future.set_result(None)


class Operation(Generic[Result]):
    """A store or retrieve that was submitted. Thread-safe. Awaitable in asyncio.

    Arrays given to it are kept alive by the client until it is complete, also when the Operation itself is dropped.
    """

    def __init__(self, client: Client, state: State):
        self._client = client
        self._state = state

    def done(self) -> bool:
        """Whether the result is there."""
        if not self._state.complete.is_set():
            self._client._drain()
        return self._state.complete.is_set()

    def wait(self, timeout: Optional[float] = None) -> Result:
        """Blocks until the operation is complete and returns its result; every operation has a deadline of its own.

        Raises:
          KdnError: the operation failed; DEADLINE_EXCEEDED when `timeout` seconds passed and it still runs.
        """
        self._client._wait(self._state, timeout)
        return self._outcome()

    def wait_staged(self, timeout: Optional[float] = None) -> None:
        """Blocks until the source arrays of a store are no longer read: then they may be overwritten."""
        if self._state.complete.is_set():
            return
        with self._client._use() as native:
            self._client._check(lib.kdn_wait_staged(native, self._state.op, millis(timeout)))

    def cancel(self) -> None:
        """Ends the operation as early as possible; returns when nothing reads or writes its arrays any more."""
        if self._state.complete.is_set():
            return
        with self._client._use() as native:
            self._client._check(lib.kdn_cancel(native, self._state.op))

    def __await__(self) -> Generator[Any, None, Result]:
        loop = asyncio.get_running_loop()
        if not self._state.complete.is_set():
            self._client._watch(loop)
        yield from self._state.waiter(loop).__await__()
        return self._outcome()

    def _outcome(self) -> Result:
        if isinstance(self._state.result, KdnError):
            raise self._state.result
        return self._state.result


def millis(timeout: Optional[float]) -> int:
    """Milliseconds for the library, where a negative number means no limit."""
    return -1 if timeout is None else max(int(timeout * 1000), 0)
