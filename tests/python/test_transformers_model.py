"""kdn.transformers: specs of models, and KV taken out of caches and put back."""

import copy
import dataclasses

import pytest
import torch
import transformers as hf
from kdn import transformers as kt
from kdn.spec import AttentionKind, DType, RopeStyle

DIGEST = "11" * 32

TINY = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
}


def tiny(config_class, dtype=torch.float32, **changes):
    torch.manual_seed(7)
    config = config_class(**{**TINY, "pad_token_id": 0, **changes})
    return hf.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def spec_of(model, **changes):
    return kt.model_spec(model, None, **{"weights_digest": DIGEST, "tokenizer_digest": DIGEST, **changes})


def test_llama_spec_says_one_rope_and_full_attention(smollm2):
    spec = kt.model_spec(smollm2.model, smollm2.tokenizer, weights_digest=smollm2.weights_digest)
    assert spec.dtype is DType.BF16 and len(spec.layers) == 30 and len(spec.ropes) == 1
    layer, rope = spec.layers[0], spec.ropes[0]
    assert (layer.attention, layer.window) == (AttentionKind.FULL, 0)
    assert (layer.num_kv_heads, layer.k_head_dim, layer.v_head_dim) == (3, 64, 64)
    assert (rope.style, rope.rotary_dim, rope.amplitude) == (RopeStyle.HALF_SPLIT, 64, 1.0)
    assert rope.inv_freq == pytest.approx([100000.0 ** (-2 * i / 64) for i in range(32)], rel=1e-6)
    assert spec.weights_digest.hex() == smollm2.weights_digest
    assert spec.token_bytes() == 30 * 2 * 3 * 64 * 2


def test_gemma3_spec_says_windows_and_both_ropes(gemma3):
    spec = kt.model_spec(gemma3.model, gemma3.tokenizer, weights_digest=gemma3.weights_digest)
    sliding = [layer for layer in spec.layers if layer.attention is AttentionKind.SLIDING_WINDOW]
    full = [layer for layer in spec.layers if layer.attention is AttentionKind.FULL]
    assert (len(sliding), len(full)) == (15, 3)
    assert {layer.window for layer in sliding} == {512} and {layer.window for layer in full} == {0}
    assert {layer.k_head_dim for layer in spec.layers} == {256}
    base = {1 / spec.ropes[layer.rope_index].inv_freq[64] for layer in (sliding[0], full[0])}
    assert sorted(base) == pytest.approx([100.0, 1000.0], rel=1e-5)


def test_tokenizer_digest_ignores_settings_of_calls(smollm2):
    tokenizer = copy.deepcopy(smollm2.tokenizer)
    before = kt.fast_tokenizer_digest(tokenizer)
    tokenizer("a b c d", truncation=True, max_length=2, padding="max_length")
    assert kt.fast_tokenizer_digest(tokenizer) == before
    tokenizer.add_tokens(["<kdn>"])
    assert kt.fast_tokenizer_digest(tokenizer) != before


def test_casting_a_model_changes_its_spec():
    exact, cast = tiny(hf.LlamaConfig), tiny(hf.LlamaConfig).to(torch.bfloat16)
    born = tiny(hf.LlamaConfig, dtype=torch.bfloat16)
    assert spec_of(exact).dtype is DType.FP32 and spec_of(cast).dtype is DType.BF16
    assert spec_of(born).ropes == spec_of(exact).ropes
    assert spec_of(cast).ropes != spec_of(exact).ropes


@pytest.mark.parametrize("rope_type", ["dynamic", "longrope"])
def test_rope_that_depends_on_the_request_is_refused(rope_type):
    model = tiny(hf.LlamaConfig)
    model.model.rotary_emb.rope_type = rope_type
    with pytest.raises(kt.UnsupportedModel, match=f"{rope_type}.*length of the request"):
        spec_of(model)


def test_unknown_architecture_is_refused_by_name():
    model = hf.AutoModelForCausalLM.from_config(hf.GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=32))
    with pytest.raises(kt.UnsupportedModel, match="'gpt2' are not supported; supported: .*llama"):
        spec_of(model)


def test_adapter_needs_its_digest():
    model = tiny(hf.LlamaConfig)
    model.peft_config = {"default": object()}
    with pytest.raises(ValueError, match="adapter_digest"):
        spec_of(model)
    assert spec_of(model, adapter_digest="22" * 32).adapter_digest == bytes.fromhex("22" * 32)


@pytest.mark.parametrize("digest", ["", "12", "zz" * 32, "00" * 32, b"short"])
def test_malformed_digest_is_refused(digest):
    with pytest.raises(ValueError):
        spec_of(tiny(hf.LlamaConfig), weights_digest=digest)


def test_weights_digest_covers_names_bytes_and_configuration(tmp_path):
    with pytest.raises(FileNotFoundError, match="safetensors"):
        kt.weights_digest(tmp_path)
    tiny(hf.LlamaConfig).save_pretrained(tmp_path)
    first = kt.weights_digest(tmp_path)
    assert first == kt.weights_digest(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config + "\n")
    assert kt.weights_digest(tmp_path) != first


FAMILIES = {
    "llama": (hf.LlamaConfig, {}),
    "mistral": (hf.MistralConfig, {"sliding_window": 24}),
    "qwen2": (hf.Qwen2Config, {}),
    "qwen3": (hf.Qwen3Config, {}),
    "gemma": (hf.GemmaConfig, {}),
    "gemma2": (hf.Gemma2Config, {"sliding_window": 24}),
    "gemma3_text": (
        hf.Gemma3TextConfig,
        {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]},
    ),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_supported_family_continues_from_restored_kv(family, dtype):
    config_class, changes = FAMILIES[family]
    model = tiny(config_class, dtype=dtype, **changes)
    spec = spec_of(model)
    ids = torch.randint(1, 64, (1, 50), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        cache = model(input_ids=ids[:, :40], use_cache=True).past_key_values
        kv = kt.empty_kv(spec, 40)
        for held, memory in zip(kt.kv_views(cache), kv):
            assert (held.first_row, held.k.shape, held.k.dtype) == (memory.first_row, memory.k.shape, memory.k.dtype)
            memory.k.copy_(held.k)
            memory.v.copy_(held.v)
        restored = kt.cache_of(model, kv)
        for step in (slice(40, 45), slice(45, 46), slice(46, 50)):
            expected = model(input_ids=ids[:, step], past_key_values=cache).logits
            assert torch.equal(model(input_ids=ids[:, step], past_key_values=restored).logits, expected)
    assert restored.get_seq_length() == 50


def test_the_supported_families_are_the_tested_ones():
    assert sorted(FAMILIES) == sorted(kt.SUPPORTED_MODEL_TYPES)


def test_pieces_divide_chunks_and_fit_windows():
    full = spec_of(tiny(hf.LlamaConfig))
    assert kt.piece_tokens(full, 256) == 256

    def windowed(window):
        return dataclasses.replace(full, layers=(dataclasses.replace(full.layers[0], window=window),))

    assert [kt.piece_tokens(windowed(w), 256) for w in (512, 257, 256, 128, 24, 2)] == [256, 256, 128, 64, 16, 1]


def test_cache_of_several_sequences_is_refused():
    model = tiny(hf.LlamaConfig)
    with torch.no_grad():
        cache = model(input_ids=torch.ones((2, 8), dtype=torch.int64), use_cache=True).past_key_values
    with pytest.raises(ValueError, match="batch of 2 sequences"):
        kt.kv_views(cache)


def test_empty_and_foreign_caches_are_refused():
    model = tiny(hf.LlamaConfig)
    with pytest.raises(ValueError, match="layer 0 of the cache is empty"):
        kt.kv_views(hf.DynamicCache(config=model.config))
    with pytest.raises(kt.UnsupportedModel, match="StaticCache"):
        kt.kv_views(hf.StaticCache(config=model.config, max_cache_len=16))


def test_kv_that_does_not_fit_is_refused():
    model = tiny(*[FAMILIES["gemma3_text"][0]], **FAMILIES["gemma3_text"][1])
    spec = spec_of(model)
    kv = kt.empty_kv(spec, 40)
    with pytest.raises(ValueError, match="1 layers of KV for a model of 2"):
        kt.cache_of(model, kv[:1])
    with pytest.raises(ValueError, match="layer 1 ends at position 32"):
        kt.cache_of(model, [kv[0], kt.empty_kv(spec, 32)[1]])
    cut = kt.LayerKv(kv[0].k[:, 1:], kv[0].v[:, 1:], kv[0].first_row + 1)
    with pytest.raises(ValueError, match="layer 0 lacks rows 17 to 18"):
        kt.cache_of(model, [cut, kv[1]])
