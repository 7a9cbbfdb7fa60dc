"""From a loaded Hugging Face model to a `ModelSpec`.

Only architectures whose attention code was read and tested are described; everything else is refused by name, because a
wrong description would exchange KV that does not fit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from kdn.spec import DIGEST_BYTES, AttentionKind, DType, LayerSpec, ModelSpec, RopeSpec, RopeStyle

# Decoder-only, rotary in halves over the whole head, K and V cached per layer as computed.
SUPPORTED_MODEL_TYPES = ("gemma", "gemma2", "gemma3_text", "llama", "mistral", "qwen2", "qwen3")
# Their frequencies do not depend on the length of the request.
_STATIC_ROPE_TYPES = ("default", "linear", "llama3", "yarn")
_DTYPES = {torch.bfloat16: DType.BF16, torch.float16: DType.FP16, torch.float32: DType.FP32}
_READ_BYTES = 1 << 22

Digest = Union[bytes, str]  # 32 bytes, or their 64 hexadecimal digits


class UnsupportedModel(ValueError):
    """The model's KV cannot be described, or is not cached in a way that this module knows."""


def model_spec(
    model: Any,
    tokenizer: Any,
    *,
    weights_digest: Digest,
    tokenizer_digest: Optional[Digest] = None,
    adapter_digest: Optional[Digest] = None,
    extra: Iterable[str] = (),
) -> ModelSpec:
    """Describes everything that makes the KV of `model` valid.

    Args:
      model: a causal language model of one of `SUPPORTED_MODEL_TYPES`.
      tokenizer: its fast tokenizer; may be None when tokenizer_digest is given.
      weights_digest: SHA-256 over the weight files (`weights_digest()` computes one of a model folder).
      tokenizer_digest: overrides the digest of `tokenizer`.
      adapter_digest: SHA-256 over the adapter; required when the model has one loaded.
      extra: further "key=value" entries that make KV of this process differ.

    Raises:
      UnsupportedModel: names what is not supported.
      ValueError: a digest is malformed, or an adapter is loaded without its digest.
    """
    config = model.config
    if config.model_type not in SUPPORTED_MODEL_TYPES:
        raise UnsupportedModel(
            f"models of type {config.model_type!r} are not supported; supported: {', '.join(SUPPORTED_MODEL_TYPES)}"
        )
    if model.dtype not in _DTYPES:
        raise UnsupportedModel(f"KV of {model.dtype} is not supported; use bfloat16, float16 or float32")
    if adapter_digest is None and (
        getattr(model, "peft_config", None) or getattr(model, "_hf_peft_config_loaded", False)
    ):
        raise ValueError("the model has an adapter loaded: pass adapter_digest, the SHA-256 of its files")
    entries = set(extra)
    quantization = getattr(config, "quantization_config", None)
    if quantization is not None:
        as_dict = quantization if isinstance(quantization, dict) else quantization.to_dict()
        encoded = json.dumps(as_dict, sort_keys=True, default=str).encode()
        entries.add(f"quantization={hashlib.sha256(encoded).hexdigest()}")
    ropes, layers = _layers(model)
    return ModelSpec(
        weights_digest=_digest("weights_digest", weights_digest),
        tokenizer_digest=(
            fast_tokenizer_digest(tokenizer)
            if tokenizer_digest is None
            else _digest("tokenizer_digest", tokenizer_digest)
        ),
        dtype=_DTYPES[model.dtype],
        ropes=ropes,
        layers=layers,
        adapter_digest=None if adapter_digest is None else _digest("adapter_digest", adapter_digest),
        extra=tuple(sorted(entries)),
    )


def fast_tokenizer_digest(tokenizer: Any) -> bytes:
    """SHA-256 over the definition of a fast tokenizer (its tokenizer.json), without truncation and padding settings.

    Those are settings of calls, which the tokenizer object happens to remember.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UnsupportedModel(f"{type(tokenizer).__name__} has no fast backend: pass tokenizer_digest")
    definition = json.loads(backend.to_str())
    definition["truncation"] = definition["padding"] = None
    encoded = json.dumps(definition, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(encoded.encode("utf-8", "surrogatepass")).digest()


def weights_digest(folder: Union[str, Path]) -> bytes:
    """SHA-256 over the weight files and config.json of a model folder: over name, size and bytes of each, by name.

    Raises FileNotFoundError when the folder holds no weight files (*.safetensors, *.bin or *.gguf).
    """
    root = Path(folder)
    weights = [path for path in root.iterdir() if path.suffix in (".safetensors", ".bin", ".gguf")]
    if not weights:
        raise FileNotFoundError(f"{root} holds no *.safetensors, *.bin or *.gguf")
    config = root / "config.json"
    digest = hashlib.sha256()
    for path in sorted(weights + ([config] if config.exists() else [])):
        name = path.name.encode()
        digest.update(len(name).to_bytes(4, "little") + name + path.stat().st_size.to_bytes(8, "little"))
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(_READ_BYTES), b""):
                digest.update(block)
    return digest.digest()


def _layers(model: Any) -> tuple[tuple[RopeSpec, ...], tuple[LayerSpec, ...]]:
    """RoPEs and layers, the latter as the cache that Transformers makes for the model keeps them."""
    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cache_layers = DynamicCache(config=config).layers
    if len(cache_layers) != config.num_hidden_layers:
        raise UnsupportedModel(f"{len(cache_layers)} cached layers for {config.num_hidden_layers} attention layers")
    kinds = getattr(config, "layer_types", None) or [None] * len(cache_layers)
    ropes: list[RopeSpec] = []
    layers = []
    for index, (cached, kind) in enumerate(zip(cache_layers, kinds)):
        rope = _rope(model.base_model.rotary_emb, kind, head_dim)
        if rope not in ropes:
            ropes.append(rope)
        window = _window(cached, index)
        _check_projection(model, index, config.num_key_value_heads * head_dim)
        layers.append(
            LayerSpec(
                attention=AttentionKind.SLIDING_WINDOW if window else AttentionKind.FULL,
                window=window,
                num_kv_heads=config.num_key_value_heads,
                k_head_dim=head_dim,
                v_head_dim=head_dim,
                rope_index=ropes.index(rope),
            )
        )
    return tuple(ropes), tuple(layers)


def _window(cached: Any, index: int) -> int:
    if type(cached) is DynamicLayer:
        return 0
    if type(cached) is DynamicSlidingWindowLayer:
        window = int(cached.sliding_window)
        if window < 2:
            raise UnsupportedModel(f"layer {index} has a sliding window of {window} tokens")
        return window
    raise UnsupportedModel(f"layer {index} is cached as {type(cached).__name__}, which KDN cannot store")


def _check_projection(model: Any, index: int, channels: int) -> None:
    rows = model.base_model.layers[index].self_attn.k_proj.weight.shape[0]
    quantized = getattr(model.config, "quantization_config", None) is not None
    if rows != channels and not quantized:
        raise UnsupportedModel(f"layer {index}: K has {rows} channels where the configuration says {channels}")


def _rope(rotary: Any, kind: Optional[str], head_dim: int) -> RopeSpec:
    """The frequencies in use, read from the module: casting a model casts them, and then K differs."""
    prefix = f"{kind}_" if kind is not None and hasattr(rotary, f"{kind}_inv_freq") else ""
    rope_type = rotary.rope_type[kind] if prefix else rotary.rope_type
    if rope_type not in _STATIC_ROPE_TYPES:
        raise UnsupportedModel(f"RoPE of type {rope_type!r} depends on the length of the request")
    inv_freq: Sequence[float] = getattr(rotary, prefix + "inv_freq").float().tolist()
    if len(inv_freq) * 2 != head_dim:
        raise UnsupportedModel(f"RoPE over {len(inv_freq) * 2} of {head_dim} channels is not supported")
    return RopeSpec(
        style=RopeStyle.HALF_SPLIT,
        rotary_dim=head_dim,
        inv_freq=tuple(inv_freq),
        amplitude=float(getattr(rotary, prefix + "attention_scaling")),
    )


def _digest(name: str, value: Digest) -> bytes:
    raw = bytes.fromhex(value) if isinstance(value, str) else bytes(value)
    if len(raw) != DIGEST_BYTES or not any(raw):
        raise ValueError(f"{name} must be {DIGEST_BYTES} bytes (or their hexadecimal digits), not all zero: {value!r}")
    return raw
