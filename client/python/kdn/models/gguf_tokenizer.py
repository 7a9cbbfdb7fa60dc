"""Rebuilds fast tokenizers from GGUF metadata (byte-level BPE of SmolLM2, SentencePiece BPE of Gemma 3)."""

from __future__ import annotations

from typing import Any

# llama.cpp token types.
_NORMAL, _CONTROL, _USER_DEFINED, _BYTE = 1, 3, 4, 6


def build_tokenizer(metadata: dict[str, Any]) -> Any:
    """Returns a `PreTrainedTokenizerFast`; raises `ValueError` for a tokenizer kind it does not know."""
    from transformers import PreTrainedTokenizerFast

    kind = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind == ("gpt2", "smollm"):
        core = _byte_level_bpe(metadata)
    elif kind == ("llama", "default") and metadata.get("tokenizer.ggml.add_space_prefix") is False:
        core = _sentencepiece_bpe(metadata)
    else:
        raise ValueError(f"unknown GGUF tokenizer: model and pre-tokenizer {kind}")

    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    core.add_special_tokens(_added_tokens(metadata, _CONTROL))
    core.add_tokens(_added_tokens(metadata, _USER_DEFINED))
    named = {}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        named[name + "_token"] = tokens[int(metadata[f"tokenizer.ggml.{key}_token_id"])]
    if metadata.get("tokenizer.ggml.add_bos_token"):
        _prepend(core, named["bos_token"], int(metadata["tokenizer.ggml.bos_token_id"]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **named)
    if "tokenizer.chat_template" in metadata:
        tokenizer.chat_template = metadata["tokenizer.chat_template"]
    return tokenizer


def _added_tokens(metadata: dict[str, Any], token_type: int) -> list[Any]:
    from tokenizers import AddedToken

    pairs = zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"])
    special = token_type == _CONTROL
    return [AddedToken(text, special=special, normalized=False) for text, kind in pairs if kind == token_type]


def _prepend(core: Any, token: str, token_id: int) -> None:
    from tokenizers import processors

    core.post_processor = processors.TemplateProcessing(
        single=f"{token}:0 $A:0", pair=f"{token}:0 $A:0 $B:1", special_tokens=[(token, token_id)]
    )


def _byte_level_bpe(metadata: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocab = {token: i for i, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    core = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    return core


def _sentencepiece_bpe(metadata: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers

    tokens = metadata["tokenizer.ggml.tokens"]
    vocab = {token: i for i, token in enumerate(tokens)}
    core = Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=_merges_from_scores(metadata, vocab),
            unk_token=tokens[int(metadata["tokenizer.ggml.unknown_token_id"])],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    core.normalizer = normalizers.Replace(" ", "\u2581")
    core.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return core


def _merges_from_scores(metadata: dict[str, Any], vocab: dict[str, int]) -> list[tuple[str, str]]:
    """SentencePiece keeps no merge list: a pair may merge when its result is a piece, best score first."""
    types = metadata["tokenizer.ggml.token_type"]
    ranked = []
    for piece, token_id in vocab.items():
        if types[token_id] != _NORMAL or len(piece) < 2:
            continue
        score = metadata["tokenizer.ggml.scores"][token_id]
        for cut in range(1, len(piece)):
            left, right = vocab.get(piece[:cut]), vocab.get(piece[cut:])
            if left is not None and right is not None and types[left] == _NORMAL and types[right] == _NORMAL:
                ranked.append((-score, left, right, piece[:cut], piece[cut:]))
    ranked.sort()
    return [(left, right) for _, _, _, left, right in ranked]
