"""KDN for Hugging Face causal models: load the KV of a text instead of computing it.

    client = kdn.Client("127.0.0.1:9460")
    session = kdn.transformers.KdnModel(model, tokenizer, client=client, weights_digest=digest)
    prefix = session.prefill_or_load(long_text)
    answer = model.generate(**prefix.inputs("\\n\\nQuestion: ..."), max_new_tokens=24, do_sample=False)
    session.store(prefix)

The functions `prefill_or_load` and `store` do the same in one call each.
"""

from __future__ import annotations

import importlib.util

_missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
if _missing:
    raise ImportError(f"kdn.transformers needs {' and '.join(_missing)}: pip install './client/python[transformers]'")

from .cache import LayerKv, Recorder, cache_of, empty_kv, kv_bytes, kv_views, piece_tokens  # noqa: E402
from .describe import SUPPORTED_MODEL_TYPES, UnsupportedModel, fast_tokenizer_digest, model_spec, weights_digest  # noqa: E402
from .session import KdnModel, Prefix, PrefixStats, SlidingRows, prefill_or_load, store  # noqa: E402

__all__ = [
    "SUPPORTED_MODEL_TYPES",
    "KdnModel",
    "LayerKv",
    "Prefix",
    "PrefixStats",
    "Recorder",
    "SlidingRows",
    "UnsupportedModel",
    "cache_of",
    "empty_kv",
    "fast_tokenizer_digest",
    "kv_bytes",
    "kv_views",
    "model_spec",
    "piece_tokens",
    "prefill_or_load",
    "store",
    "weights_digest",
]
