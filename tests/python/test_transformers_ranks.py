"""Tensor-parallel ranks share the chunks of real KV: what some number of ranks stored, another number reads."""

import sys
from pathlib import Path

import kdn
import pytest
import torch
import transformers as hf
from kdn import transformers as kt
from model_checks import assert_same_rows, text_of

sys.path.append(str(Path(__file__).resolve().parents[1] / "e2e"))
from daemon import Daemon  # noqa: E402

CHUNK_TOKENS = 64


def random_model():
    """A Llama with 8 KV heads and random weights: shapes only, its KV means nothing."""
    torch.manual_seed(5)
    config = hf.LlamaConfig(
        vocab_size=512, hidden_size=256, intermediate_size=256, num_hidden_layers=3,
        num_attention_heads=16, num_key_value_heads=8,
    )  # fmt: skip
    return hf.LlamaForCausalLM(config).to(torch.bfloat16).eval()


def kv_of(model, token_ids):
    """The model's rows of every layer: k and v shaped [kv_heads, tokens, channels]."""
    with torch.no_grad():
        return kt.kv_views(model(input_ids=torch.tensor([token_ids]), use_cache=True).past_key_values)


def heads_of(kv, heads):
    return [layer._replace(k=layer.k[heads], v=layer.v[heads]) for layer in kv]


def share(ranks, rank, kv_heads):
    return slice(rank * kv_heads // ranks, (rank + 1) * kv_heads // ranks)


def check_sharing(endpoint, spec, token_ids, kv, ranks):
    stored_ranks, read_ranks = ranks
    kv_heads = spec.layers[0].num_kv_heads
    with kdn.Client(endpoint, dead_after=20.0, transfer_timeout=60.0) as client:
        model = client.register_model(spec, CHUNK_TOKENS)
        for rank in range(stored_ranks):
            heads = share(stored_ranks, rank, kv_heads)
            client.store(model, token_ids, heads_of(kv, heads), head_begin=heads.start)
        again = client.store(model, token_ids, kv)
        assert again.chunks_skipped == -(-len(token_ids) // CHUNK_TOKENS), "what ranks stored is not sent again"
        for rank in range(read_ranks):
            heads = share(read_ranks, rank, kv_heads)
            loaded = heads_of(kt.empty_kv(spec, len(token_ids)), heads)
            assert client.retrieve(model, token_ids, loaded, head_begin=heads.start).tokens_hit == len(token_ids)
            assert_same_rows(heads_of(kv, heads), loaded)


@pytest.fixture
def endpoint(tmp_path):
    with Daemon(tmp_path / "data") as daemon:
        yield daemon.endpoint


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [(4, 2), (4, 1), (2, 4), (1, 4)], ids=str)
def test_ranks_share_the_kv_of_a_model_with_eight_heads(endpoint, ranks):
    model = random_model()
    spec = kt.model_spec(model, None, weights_digest="11" * 32, tokenizer_digest="22" * 32)
    token_ids = torch.randint(0, 512, (200,), generator=torch.Generator().manual_seed(7)).tolist()
    check_sharing(endpoint, spec, token_ids, kv_of(model, token_ids), ranks)


@pytest.mark.parametrize("ranks", [(3, 1), (1, 3)], ids=str)
def test_ranks_share_the_kv_of_a_real_model(endpoint, smollm2, ranks):
    spec = kt.model_spec(smollm2.model, smollm2.tokenizer, weights_digest=smollm2.weights_digest)
    token_ids = smollm2.tokenizer(text_of(smollm2, 200))["input_ids"]
    check_sharing(endpoint, spec, token_ids, kv_of(smollm2.model, token_ids), ranks)
