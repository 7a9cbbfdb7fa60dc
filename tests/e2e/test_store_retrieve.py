"""What is stored comes back, bit for bit, and nothing else does."""

import kdn
import kv
import numpy as np
import pytest


def store_and_load(client, model, tokens, data):
    stored = client.store(model, tokens, data)
    loaded = kv.empty(model.spec, len(tokens))
    return stored, client.retrieve(model, tokens, loaded), loaded


@pytest.mark.parametrize("profile", ["raw", "lossless"])
def test_round_trip_is_bit_exact(start, profile):
    daemon = start()
    with kv.connect(daemon.endpoint, profile=profile) as client:
        model = client.register_model(kv.spec(), 64)
        tokens = list(range(300))
        data = kv.make(model.spec, 300)
        stored, got, loaded = store_and_load(client, model, tokens, data)
        assert stored.tokens_present == 300 and stored.chunks_stored == 5
        assert got.tokens_hit == 300 and not got.misses
        assert kv.equal(loaded, data)


def test_lossless_is_smaller_than_raw(start):
    daemon = start()
    sizes = {}
    for profile in ("raw", "lossless"):
        with kv.connect(daemon.endpoint, profile=profile) as client:
            model = client.register_model(kv.spec(layers=2, kv_heads=2, head_dim=64, name=profile))
            sizes[profile] = client.store(model, list(range(512)), kv.make(model.spec, 512)).bytes_sent
    assert sizes["lossless"] < 0.75 * sizes["raw"]


def test_only_the_shared_prefix_is_loaded(start):
    daemon = start()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec(), 64)
        tokens = list(range(256))
        data = kv.make(model.spec, 256)
        client.store(model, tokens, data)
        other = tokens[:150] + [9999] + tokens[151:]
        assert client.lookup(model, other) == 128
        loaded = kv.empty(model.spec, 256)
        got = client.retrieve(model, other, loaded)
        assert got.tokens_hit == 128
        assert got.misses == {"absent": 2}
        assert kv.equal(loaded, data, 128)


def test_storing_again_sends_nothing(start):
    daemon = start()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec(), 64)
        tokens, data = list(range(128)), kv.make(kv.spec(), 128)
        client.store(model, tokens, data)
        again = client.store(model, tokens, data)
        assert again.chunks_skipped == 2 and again.bytes_sent == 0


def test_text_is_found_by_its_exact_bytes(start):
    daemon = start()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec(), 64)
        tokens, data = list(range(100)), kv.make(kv.spec(), 100)
        client.store_text(model, "caf\u00e9", tokens, data)
        found = client.lookup_text(model, "caf\u00e9")
        assert found.token_ids == tokens and found.hit_tokens == 100
        assert client.lookup_text(model, "cafe\u0301") is None
        loaded = kv.empty(model.spec, 100)
        assert client.retrieve_text(model, "caf\u00e9", loaded).tokens_hit == 100
        assert kv.equal(loaded, data)


def test_strided_and_paged_memory(start):
    daemon = start()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec(layers=2), 32)
        tokens, data = list(range(96)), kv.make(kv.spec(layers=2), 96)
        transposed = [tuple(np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(1, 2, 0) for x in pair) for pair in data]
        client.store(model, tokens, transposed)
        blocks = [5, 0, 3, 1, 7, 2]
        pages = [tuple(np.zeros((8, 2, 16, 32), np.uint16) for _ in range(2)) for _ in data]
        got = client.retrieve(model, tokens, kdn.PagedKv(pages, blocks, 16, 96))
        assert got.tokens_hit == 96
        for pair, paged in zip(data, pages):
            for plain, held in zip(pair, paged):
                gathered = np.concatenate([held[b] for b in blocks], axis=1)
                assert np.array_equal(gathered, plain)
        assert not any(held[b].any() for paged in pages for held in paged for b in (4, 6)), "foreign blocks were written"


@pytest.mark.parametrize("stored_ranks,read_ranks", [(4, 2), (4, 1), (1, 4), (2, 4)])
def test_ranks_of_any_size_share_chunks(start, stored_ranks, read_ranks):
    daemon = start()
    spec = kv.spec(layers=3, kv_heads=8, head_dim=32)
    tokens, data = list(range(100)), kv.make(spec, 100)

    def part(ranks, rank):
        return slice(rank * 8 // ranks, (rank + 1) * 8 // ranks)

    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(spec, 64)
        for rank in range(stored_ranks):
            held = [tuple(x[part(stored_ranks, rank)] for x in pair) for pair in data]
            client.store(model, tokens, held, head_begin=part(stored_ranks, rank).start)
            if rank + 1 < stored_ranks:
                assert client.lookup(model, tokens) == 0, "a chunk without all its cells is no hit for all heads"
        for rank in range(read_ranks):
            heads = part(read_ranks, rank)
            loaded = [tuple(np.zeros_like(x[heads]) for x in pair) for pair in data]
            assert client.retrieve(model, tokens, loaded, head_begin=heads.start).tokens_hit == 100
            assert all(np.array_equal(x[heads], y) for a, b in zip(data, loaded) for x, y in zip(a, b))
        whole = client.store(model, tokens, data)
        assert whole.chunks_skipped == 2, "what ranks stored is not stored again whole"


def test_sliding_layers_hold_only_their_window(start):
    daemon = start()
    spec = kv.spec(layers=4, window_layers=(0, 1, 2), window=80)
    tokens, data = list(range(320)), kv.make(spec, 320)
    held = [(k[:, 241:], v[:, 241:], 241) if i < 3 else (k, v, 0) for i, (k, v) in enumerate(data)]
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(spec, 64)
        client.store(model, tokens, held)
        assert client.lookup(model, tokens) == 320
        assert client.lookup(model, tokens[:256]) == 0, "a reader of 256 tokens needs rows that are not there"
        loaded = [(np.zeros_like(k), np.zeros_like(v), first) for k, v, first in held]
        assert client.retrieve(model, tokens, loaded).tokens_hit == 320
        assert all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(held, loaded))


def test_awaiting_operations(start):
    import asyncio

    daemon = start()

    async def many():
        with kv.connect(daemon.endpoint) as client:
            model = client.register_model(kv.spec(), 64)
            texts = [[i * 1000 + t for t in range(64)] for i in range(16)]
            data = [kv.make(model.spec, 64, seed) for seed in range(16)]
            await asyncio.gather(*(client.store_async(model, t, d) for t, d in zip(texts, data)))
            loaded = [kv.empty(model.spec, 64) for _ in texts]
            results = await asyncio.gather(*(client.retrieve_async(model, t, x) for t, x in zip(texts, loaded)))
            assert [r.tokens_hit for r in results] == [64] * 16
            assert all(kv.equal(a, b) for a, b in zip(loaded, data))

    asyncio.run(many())


def test_tenants_of_one_token_file_do_not_see_each_other(start, tmp_path):
    import hashlib

    lines = [f"{name} {hashlib.sha256(f'secret-{name}'.encode()).hexdigest()}" for name in ("red", "blue")]
    (tmp_path / "tokens").write_text("\n".join(lines) + "\n")
    daemon = start(auth__mode="token", auth__tokens_file=str(tmp_path / "tokens"))
    tokens, data = list(range(64)), kv.make(kv.spec(), 64)
    with kv.connect(daemon.endpoint, token="secret-red") as red, kv.connect(daemon.endpoint, token="secret-blue") as blue:
        model = red.register_model(kv.spec(), 64)
        red.store(model, tokens, data)
        assert red.lookup(model, tokens) == 64
        same = blue.register_model(kv.spec(), 64)
        assert blue.lookup(same, tokens) == 0
        assert blue.admin("ListChunks")["chunks"] == []
    with kv.connect(daemon.endpoint, token="wrong") as stranger:
        with pytest.raises(kdn.KdnError) as error:
            stranger.register_model(kv.spec(), 64)
        assert error.value.code == "UNAUTHENTICATED"
