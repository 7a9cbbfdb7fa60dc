"""What the tests of kdn.transformers do with a model: texts, sessions, logits, greedy tokens, comparison of KV."""

import torch
from kdn import transformers as kt

QUESTION = "\n\nQuestion: what does this text say about copies?\nAnswer:"
NEW_TOKENS = 12


def text_of(loaded, tokens):
    with open("/usr/share/common-licenses/GPL-3", encoding="utf-8") as file:
        ids = loaded.tokenizer(file.read(), add_special_tokens=False)["input_ids"][:tokens]
    return loaded.tokenizer.decode(ids)


def session_of(loaded, client, **options):
    return kt.KdnModel(loaded.model, loaded.tokenizer, client=client, weights_digest=loaded.weights_digest, **options)


def next_logits(loaded, prefix):
    # A copy of the cache: the forward pass appends to the one it is given.
    cache = kt.cache_of(loaded.model, prefix.kv)
    inputs = prefix.inputs(QUESTION)
    with torch.no_grad():
        fresh = inputs["input_ids"][:, len(prefix.token_ids) :]
        return loaded.model(input_ids=fresh, past_key_values=cache, use_cache=True).logits


def greedy(loaded, prefix):
    inputs = prefix.inputs(QUESTION)
    out = loaded.model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
    return out[0, inputs["input_ids"].shape[1] :].tolist()


def bits(tensor):
    return tensor.contiguous().view({2: torch.int16, 4: torch.int32}[tensor.element_size()])


def assert_same_rows(computed, loaded_kv):
    for layer, (ours, theirs) in enumerate(zip(computed, loaded_kv)):
        assert ours.end == theirs.end and ours.first_row <= theirs.first_row
        skip = theirs.first_row - ours.first_row
        assert torch.equal(bits(ours.k[:, skip:]), bits(theirs.k)), f"K of layer {layer}"
        assert torch.equal(bits(ours.v[:, skip:]), bits(theirs.v)), f"V of layer {layer}"
