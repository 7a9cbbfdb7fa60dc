"""Reads a GGUF file into a Hugging Face configuration, tokenizer and state dict.

Covers the two architectures of the demonstration models: `llama` and `gemma3`. A file that needs anything else
(another architecture, RoPE scaling, an unknown tokenizer or tensor) is refused with a `ValueError` that names it.
"""

from __future__ import annotations

import re
from typing import Any

_LLAMA_TENSORS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GEMMA3_TENSORS = dict(
    _LLAMA_TENSORS,
    ffn_norm="pre_feedforward_layernorm",
    post_attention_norm="post_attention_layernorm",
    post_ffw_norm="post_feedforward_layernorm",
    attn_q_norm="self_attn.q_norm",
    attn_k_norm="self_attn.k_norm",
)
_ARCHITECTURES = {"llama": _LLAMA_TENSORS, "gemma3": _GEMMA3_TENSORS}

# Gemma 3 files do not say these: the pattern and the local base frequency are constants of the architecture.
_GEMMA3_LAYERS_PER_GLOBAL = 6
_GEMMA3_LOCAL_ROPE_BASE = 10000.0


class GgufFile:
    """One open GGUF file; `metadata` maps its keys to Python values."""

    def __init__(self, path: str):
        import gguf

        self._reader = gguf.GGUFReader(path)
        self.metadata: dict[str, Any] = {key: field.contents() for key, field in self._reader.fields.items()}
        self.architecture = str(self.metadata.get("general.architecture"))
        if self.architecture not in _ARCHITECTURES:
            raise ValueError(f"{path}: architecture {self.architecture!r} is not one of {sorted(_ARCHITECTURES)}")
        scaling = [key for key in self.metadata if key.startswith(f"{self.architecture}.rope.scaling")]
        if scaling:
            raise ValueError(f"{path}: RoPE scaling is not supported ({', '.join(scaling)})")

    def _key(self, name: str) -> Any:
        return self.metadata[f"{self.architecture}.{name}"]

    def config(self) -> Any:
        """The `LlamaConfig` or `Gemma3TextConfig` that the file's metadata describes."""
        heads = int(self._key("attention.head_count"))
        common = dict(
            vocab_size=len(self.metadata["tokenizer.ggml.tokens"]),
            hidden_size=int(self._key("embedding_length")),
            intermediate_size=int(self._key("feed_forward_length")),
            num_hidden_layers=int(self._key("block_count")),
            num_attention_heads=heads,
            num_key_value_heads=int(self._key("attention.head_count_kv")),
            max_position_embeddings=int(self._key("context_length")),
            # GGUF keeps fp32; the decimal value that was meant has at most 7 digits.
            rms_norm_eps=float(f"{float(self._key('attention.layer_norm_rms_epsilon')):.6g}"),
            tie_word_embeddings=not any(t.name == "output.weight" for t in self._reader.tensors),
            bos_token_id=int(self.metadata["tokenizer.ggml.bos_token_id"]),
            eos_token_id=int(self.metadata["tokenizer.ggml.eos_token_id"]),
            pad_token_id=int(self.metadata["tokenizer.ggml.padding_token_id"]),
        )
        theta = float(self._key("rope.freq_base"))
        if self.architecture == "llama":
            from transformers import LlamaConfig

            head_dim = int(self._key("rope.dimension_count"))
            if head_dim * heads != common["hidden_size"]:
                raise ValueError(f"rotary dimension {head_dim} x {heads} heads is not {common['hidden_size']}")
            return LlamaConfig(
                head_dim=head_dim, rope_parameters={"rope_type": "default", "rope_theta": theta}, **common
            )
        from transformers import Gemma3TextConfig

        layers = common["num_hidden_layers"]
        return Gemma3TextConfig(
            head_dim=int(self._key("attention.key_length")),
            query_pre_attn_scalar=int(self._key("attention.key_length")),
            sliding_window=int(self._key("attention.sliding_window")),
            layer_types=[
                "full_attention" if (i + 1) % _GEMMA3_LAYERS_PER_GLOBAL == 0 else "sliding_attention"
                for i in range(layers)
            ],
            rope_parameters={
                "full_attention": {"rope_type": "default", "rope_theta": theta},
                "sliding_attention": {"rope_type": "default", "rope_theta": _GEMMA3_LOCAL_ROPE_BASE},
            },
            **common,
        )

    def state_dict(self) -> dict[str, Any]:
        """All weights, dequantised to fp32 torch tensors under Hugging Face names."""
        import gguf
        import torch

        heads = {"attn_q": int(self._key("attention.head_count")), "attn_k": int(self._key("attention.head_count_kv"))}
        weights: dict[str, Any] = {}
        for tensor in self._reader.tensors:
            data = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            name, part = self._hugging_face_name(tensor.name)
            if self.architecture == "llama" and part in heads:
                data = _unpermute_rotary_rows(data, heads[part])
            if self.architecture == "gemma3" and name.endswith("norm.weight"):
                # GGUF stores 1 + w, Hugging Face stores w.
                data = data - 1.0
            weights[name] = torch.from_numpy(data.copy())
        return weights

    def _hugging_face_name(self, name: str) -> tuple[str, str]:
        top = {
            "token_embd.weight": "model.embed_tokens.weight",
            "output_norm.weight": "model.norm.weight",
            "output.weight": "lm_head.weight",
        }
        if name in top:
            return top[name], ""
        match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
        parts = _ARCHITECTURES[self.architecture]
        if match is None or match.group(2) not in parts:
            raise ValueError(f"unknown tensor {name!r} for architecture {self.architecture!r}")
        return f"model.layers.{match.group(1)}.{parts[match.group(2)]}.weight", match.group(2)

    def tokenizer(self) -> Any:
        """The file's tokenizer as a fast Hugging Face tokenizer."""
        from .gguf_tokenizer import build_tokenizer

        return build_tokenizer(self.metadata)


def _unpermute_rotary_rows(weight: Any, heads: int) -> Any:
    """Undoes GGUF's pairing of rotary rows: [head][pair][2] back to [head][2][pair] (rows of q_proj, k_proj)."""
    rows, columns = weight.shape
    pairs = rows // heads // 2
    return weight.reshape(heads, pairs, 2, columns).swapaxes(1, 2).reshape(rows, columns)
