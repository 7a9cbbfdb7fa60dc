"""Clients that are closed while others use them, and many clients in one event loop."""

import asyncio
import gc
import threading
import weakref

import kdn
import kv
import pytest

TOKENS = list(range(512))


@pytest.fixture
def stored(start):
    """(endpoint, spec, KV of TOKENS that is stored there)."""
    daemon, spec = start(), kv.spec()
    data = kv.make(spec, len(TOKENS))
    with kv.connect(daemon.endpoint) as client:
        client.store(client.register_model(spec), TOKENS, data)
    return daemon.endpoint, spec, data


def test_calls_end_with_an_error_when_another_thread_closes_the_client(stored):
    endpoint, spec, _ = stored
    for _ in range(10):
        client = kv.connect(endpoint)
        model = client.register_model(spec)
        ends, calling = [], threading.Barrier(5)

        def call(repeat, client=client, ends=ends, calling=calling):
            repeat()
            calling.wait()
            try:
                while True:
                    repeat()
            except kdn.KdnError as error:
                ends.append(error.code)

        def retrieve(client=client, model=model):
            client.retrieve(model, TOKENS, kv.empty(spec, len(TOKENS)))

        def lookup(client=client, model=model):
            client.lookup(model, TOKENS)

        threads = [threading.Thread(target=call, args=(repeat,)) for repeat in (retrieve, retrieve, lookup, lookup)]
        for thread in threads:
            thread.start()
        calling.wait()
        client.close()
        for thread in threads:
            thread.join()
        assert len(ends) == 4 and set(ends) <= {"UNAVAILABLE", "CANCELLED"}


def test_clients_one_after_the_other_in_one_event_loop(stored):
    endpoint, spec, data = stored

    async def load():
        for _ in range(3):
            with kv.connect(endpoint) as client:
                loaded = kv.empty(spec, len(TOKENS))
                model = client.register_model(spec)
                result = await asyncio.wait_for(client.retrieve_async(model, TOKENS, loaded), 60)
                assert result.tokens_hit == len(TOKENS) and kv.equal(loaded, data)

    asyncio.run(load())


def test_what_is_awaited_when_the_client_is_closed_ends(stored):
    endpoint, spec, _ = stored

    async def wait(operation):
        return await operation

    async def close_while_waiting():
        client = kv.connect(endpoint)
        model = client.register_model(spec)
        operation = client.retrieve_async(model, TOKENS, kv.empty(spec, len(TOKENS)))
        waiting = asyncio.ensure_future(wait(operation))
        await asyncio.sleep(0)
        client.close()
        try:
            assert (await asyncio.wait_for(waiting, 60)).tokens_hit == len(TOKENS)
        except kdn.KdnError as error:
            assert error.code == "CANCELLED"
        assert operation.done()

    asyncio.run(close_while_waiting())


def test_a_dropped_client_is_freed_while_its_event_loop_runs(stored):
    endpoint, spec, _ = stored

    async def use_and_drop():
        client = kv.connect(endpoint)
        model = client.register_model(spec)
        await client.retrieve_async(model, TOKENS, kv.empty(spec, len(TOKENS)))
        dropped = weakref.ref(client)
        del client
        gc.collect()
        assert dropped() is None

    asyncio.run(use_and_drop())
