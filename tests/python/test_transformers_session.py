"""kdn.transformers: a context loaded from KDN continues exactly as one that was computed."""

import pytest
import torch
import transformers as hf
from fake_kdn import FakeKdn
from kdn import KdnError
from kdn import transformers as kt
from model_checks import NEW_TOKENS, QUESTION, assert_same_rows, greedy, next_logits, session_of, text_of

MODELS = pytest.mark.parametrize("fixture", ["smollm2", "gemma3"])


@MODELS
def test_loaded_context_gives_equal_kv_logits_and_tokens(fixture, request):
    loaded = request.getfixturevalue(fixture)
    client, text = FakeKdn(), text_of(loaded, 700)
    computed = session_of(loaded, client).prefill_or_load(text)
    session_of(loaded, client).store(computed)
    restored = session_of(loaded, client).prefill_or_load(text)

    assert computed.stats.tokens_hit == 0
    assert restored.stats.tokens_hit == restored.stats.tokens == len(computed.token_ids)
    assert_same_rows(computed.kv, restored.kv)
    assert torch.equal(next_logits(loaded, computed), next_logits(loaded, restored))
    assert greedy(loaded, computed) == greedy(loaded, restored)


@MODELS
def test_longer_text_loads_the_whole_chunks_it_shares_and_computes_the_rest_to_the_same_bits(fixture, request):
    loaded = request.getfixturevalue(fixture)
    client, text = FakeKdn(), text_of(loaded, 900)
    session = session_of(loaded, client)
    session.store(session.prefill_or_load(text))
    longer = text + " And here the text goes on, for a good deal longer than the text that was stored before." * 10

    resumed = session.prefill_or_load(longer)
    computed = session.prefill(longer)
    shared = sum(a == b for a, b in zip(resumed.token_ids, session.prefill(text).token_ids))
    assert resumed.stats.tokens_hit == shared - shared % session.chunk_tokens == 768
    assert_same_rows(computed.kv, resumed.kv)
    assert torch.equal(next_logits(loaded, computed), next_logits(loaded, resumed))
    assert greedy(loaded, computed) == greedy(loaded, resumed)


@MODELS
def test_what_a_resumed_prefill_adds_can_be_stored_and_loaded(fixture, request):
    loaded = request.getfixturevalue(fixture)
    client = FakeKdn()
    session = session_of(loaded, client)
    longer = text_of(loaded, 900)
    session.store(session.prefill(longer[: len(longer) // 2]))
    resumed = session.prefill_or_load(longer)
    session.store(resumed)
    restored = session.prefill_or_load(longer)
    assert 0 < resumed.stats.tokens_hit < len(resumed.token_ids) == restored.stats.tokens_hit
    assert torch.equal(next_logits(loaded, resumed), next_logits(loaded, restored))


def test_end_rows_are_fewer_and_serve_the_end_and_the_last_chunk_boundary_only(gemma3):
    text = text_of(gemma3, 1100)
    clients = {rows: FakeKdn() for rows in kt.SlidingRows}
    for rows, client in clients.items():
        session = session_of(gemma3, client, sliding_rows=rows)
        session.store(session.prefill(text))
    held = {
        rows: sum(part.k.numel() for chunk in client.chunks.values() for part in chunk)
        for rows, client in clients.items()
    }
    assert held[kt.SlidingRows.END] < 0.7 * held[kt.SlidingRows.ALL]

    ids = session.prefill_or_load(text).token_ids
    boundary = len(ids) - len(ids) % 256
    hits = {rows: session_of(gemma3, client).prefill_or_load for rows, client in clients.items()}
    for prefill_or_load in hits.values():
        assert prefill_or_load(text).stats.tokens_hit == len(ids)
        assert prefill_or_load([*ids, 1, 2]).stats.tokens_hit == boundary
    shorter = ids[: boundary - 100]
    assert hits[kt.SlidingRows.ALL](shorter).stats.tokens_hit == boundary - 256
    assert hits[kt.SlidingRows.END](shorter).stats.tokens_hit == 0


@MODELS
def test_chunk_lost_between_lookup_and_retrieve_shortens_the_prefix(fixture, request):
    loaded = request.getfixturevalue(fixture)
    client, text = FakeKdn(), text_of(loaded, 900)
    session = session_of(loaded, client)
    computed = session.prefill(text)
    session.store(computed)
    client.dropped = {2}
    resumed = session.prefill_or_load(text)
    assert resumed.stats.tokens_hit == 512
    assert torch.equal(next_logits(loaded, computed), next_logits(loaded, resumed))


def test_failing_server_costs_nothing_but_the_prefill(smollm2):
    client, text = FakeKdn(), text_of(smollm2, 300)
    session = session_of(smollm2, client)
    client.failure = "connection refused"
    prefix = session.prefill_or_load(text)
    assert prefix.stats.tokens_hit == 0 and "connection refused" in prefix.stats.error
    assert greedy(smollm2, prefix) == greedy(smollm2, session.prefill(text))


def test_text_known_under_other_tokens_is_not_used_by_its_bytes(smollm2):
    client, text = FakeKdn(), text_of(smollm2, 300)
    session = session_of(smollm2, client)
    session.store(session.prefill(text))
    client.texts = {key: ids[:-1] for key, ids in client.texts.items()}
    assert session.prefill_or_load(text).stats.tokens_hit == session.prefill(text).stats.tokens


def test_conversation_is_stored_from_the_cache_that_generate_left(smollm2):
    client, text = FakeKdn(), text_of(smollm2, 600)
    session = session_of(smollm2, client)
    prefix = session.prefill(text)
    out = smollm2.model.generate(**prefix.inputs(QUESTION), max_new_tokens=NEW_TOKENS, do_sample=False)[0].tolist()
    session.store(session.prefix_of(prefix.cache, out))
    restored = session.prefill_or_load(out[:-1])
    assert restored.stats.tokens_hit == len(out) - 1
    assert_same_rows(kt.kv_views(prefix.cache), restored.kv)


def test_functions_do_it_in_one_call_each(smollm2):
    client, text = FakeKdn(), text_of(smollm2, 300)
    arguments = {"client": client, "weights_digest": smollm2.weights_digest}
    kt.store(kt.prefill_or_load(smollm2.model, smollm2.tokenizer, text, **arguments))
    again = kt.prefill_or_load(smollm2.model, smollm2.tokenizer, text, **arguments)
    assert again.stats.tokens_hit == len(again.token_ids)


def test_batch_is_refused(smollm2):
    session = session_of(smollm2, FakeKdn())
    with pytest.raises(ValueError, match="not a batch"):
        session.prefill_or_load(torch.ones((2, 8), dtype=torch.int64))
    with pytest.raises(ValueError, match="not a batch"):
        session.prefill_or_load(["one text", "another"])


def test_empty_text_and_empty_continuation_are_refused(smollm2):
    session = session_of(smollm2, FakeKdn())
    with pytest.raises(ValueError, match="no tokens"):
        session.prefill_or_load("")
    with pytest.raises(ValueError, match="at least one token"):
        session.prefill("Some text.").inputs("")


IDS = [token % 60 for token in range(1, 81)]


def tiny_session(client, **options):
    torch.manual_seed(7)
    config = hf.LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, pad_token_id=0,
    )  # fmt: skip
    model = hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.config._name_or_path = "/models/tiny-llama/"
    digests = {"weights_digest": "11" * 32, "tokenizer_digest": "22" * 32}
    return kt.KdnModel(model, None, client=client, **digests, **{"chunk_tokens": 32, **options})


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL"])
def test_engine_starts_while_the_server_is_away_and_uses_it_once_it_is_back(code):
    client = FakeKdn()
    client.failure, client.code = "connection refused", code
    session = tiny_session(client)
    prefix = session.prefill_or_load(IDS)
    assert prefix.stats.tokens_hit == 0 and prefix.stats.error == f"{code}: connection refused"
    with pytest.raises(KdnError, match="connection refused"):
        session.store(prefix)

    client.failure = None
    session.store(prefix)
    again = session.prefill_or_load(IDS)
    assert again.stats.error is None and again.stats.tokens_hit == len(IDS)
    assert client.calls.count("register_model") == 4


def test_chunk_length_left_to_the_server_is_taken_over_when_it_is_reached():
    client = FakeKdn()
    client.failure, client.pinned = "connection refused", 16
    session = tiny_session(client, chunk_tokens=0)
    prefix = session.prefill_or_load(IDS)
    client.failure = None
    session.store(prefix)
    assert session.chunk_tokens == 16


@pytest.mark.parametrize("code", ["FAILED_PRECONDITION", "UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT"])
def test_registration_that_the_server_refuses_is_raised_at_once(code):
    client = FakeKdn()
    client.failure, client.code = "not like this", code
    with pytest.raises(KdnError, match=code):
        tiny_session(client)


def test_registered_name_is_the_given_one_or_that_of_the_model():
    client = FakeKdn()
    tiny_session(client, name="Tiny")
    tiny_session(client)
    assert client.names == ["Tiny", "tiny-llama"]
