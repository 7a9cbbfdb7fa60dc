"""The one exception of calls to KDN."""

from __future__ import annotations


class KdnError(RuntimeError):
    """A call failed; `code` is the canonical status name ("UNAVAILABLE", "INVALID_ARGUMENT", ...)."""

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
