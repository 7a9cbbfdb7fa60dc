"""KDN, a KV-cache server for LLM engines: store KV with its tokens or text, load it back anywhere.

    import kdn

    client = kdn.Client("127.0.0.1:9460")
    model = client.register_model(spec)
    client.store(model, token_ids, kv)
    loaded = client.retrieve(model, token_ids, destination)
    loaded.tokens_hit

`kdn.transformers` does this for Hugging Face models. Submodules that need torch import it themselves; this one does not.
"""

from __future__ import annotations

from .errors import KdnError
from .spec import AttentionKind, DType, LayerSpec, ModelSpec, RopeSpec, RopeStyle

__version__ = "0.1.0"

__all__ = [
    "AttentionKind",
    "Calibration",
    "Client",
    "DType",
    "KdnError",
    "LayerSpec",
    "Model",
    "ModelSpec",
    "Operation",
    "PagedKv",
    "RetrieveResult",
    "RopeSpec",
    "RopeStyle",
    "StoreResult",
    "TextLookup",
    "Tls",
    "encode_spec",
]

_NATIVE = {
    "Calibration": "client",
    "Client": "client",
    "Model": "client",
    "TextLookup": "client",
    "Tls": "client",
    "encode_spec": "client",
    "PagedKv": "kv",
    "Operation": "operation",
    "RetrieveResult": "operation",
    "StoreResult": "operation",
}


def __getattr__(name: str):
    # The native library is loaded with the first use, so that model descriptions work without it.
    if name not in _NATIVE:
        raise AttributeError(f"module 'kdn' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_NATIVE[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
