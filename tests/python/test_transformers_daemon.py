"""kdn.transformers against a real kdnd that is killed between storing and loading."""

import json
import re
import subprocess
import sys
from pathlib import Path

import kdn
import pytest
import torch
from kdn import models
from kdn import transformers as kt
from model_checks import assert_same_rows, greedy, next_logits, session_of, text_of

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "e2e"))
from daemon import Daemon  # noqa: E402

MODELS = pytest.mark.parametrize("fixture", ["smollm2", "gemma3"])


@pytest.fixture
def kdnd(tmp_path):
    daemon = Daemon(tmp_path / "data", storage__sync="always")
    daemon.start()
    yield daemon
    if daemon.process.poll() is None:
        daemon.kill()


@MODELS
def test_context_survives_a_killed_server_bit_for_bit(fixture, request, kdnd):
    loaded = request.getfixturevalue(fixture)
    text = text_of(loaded, 700)
    with kdn.Client(kdnd.endpoint) as client:
        session = session_of(loaded, client)
        computed = session.prefill_or_load(text)
        stored = session.store(computed)
    assert computed.stats.tokens_hit == 0
    assert stored.tokens_present == len(computed.token_ids) and stored.bytes_sent < 0.7 * kt.kv_bytes(computed.kv)
    kdnd.restart_after_kill()
    with kdn.Client(kdnd.endpoint) as client:
        restored = session_of(loaded, client).prefill_or_load(text)
    assert restored.stats.error is None and restored.stats.tokens_hit == len(computed.token_ids)
    assert_same_rows(computed.kv, restored.kv)
    assert torch.equal(next_logits(loaded, computed), next_logits(loaded, restored))
    assert greedy(loaded, computed) == greedy(loaded, restored)


@MODELS
def test_longer_text_resumes_at_a_chunk_boundary_and_adds_its_own_chunks(fixture, request, kdnd):
    loaded = request.getfixturevalue(fixture)
    text = text_of(loaded, 800)
    with kdn.Client(kdnd.endpoint) as client:
        session = session_of(loaded, client)
        session.store(session.prefill(text[: len(text) * 3 // 4]))
        resumed = session.prefill_or_load(text)
        assert resumed.stats.tokens_hit == 512
        stored = session.store(resumed)
        restored = session.prefill_or_load(text)
    computed = session.prefill(text)
    assert (stored.chunks_skipped, stored.chunks_rejected) == (2, 0)
    assert restored.stats.tokens_hit == len(restored.token_ids)
    assert_same_rows(computed.kv, resumed.kv)
    assert torch.equal(next_logits(loaded, computed), next_logits(loaded, restored))


def test_rows_of_sliding_layers_left_out_at_first_are_added_by_a_later_store(gemma3, kdnd):
    text = text_of(gemma3, 1100)
    with kdn.Client(kdnd.endpoint) as client:
        sparse = session_of(gemma3, client, sliding_rows=kt.SlidingRows.END)
        computed = sparse.prefill(text)
        sparse.store(computed)
        shorter = computed.token_ids[:600]
        assert sparse.prefill_or_load(text).stats.tokens_hit == len(computed.token_ids)
        assert sparse.prefill_or_load(shorter).stats.tokens_hit == 0
        session_of(gemma3, client, sliding_rows=kt.SlidingRows.ALL).store(computed)
        resumed = sparse.prefill_or_load(shorter)
    assert resumed.stats.tokens_hit == 512
    assert_same_rows(sparse.prefill(shorter).kv, resumed.kv)


def test_dead_server_costs_the_prefill_only(smollm2, kdnd):
    text = text_of(smollm2, 300)
    with kdn.Client(kdnd.endpoint) as client:
        session = session_of(smollm2, client)
        kdnd.kill()
        prefix = session.prefill_or_load(text)
        assert prefix.stats.tokens_hit == 0 and prefix.stats.error.startswith("UNAVAILABLE")
        assert greedy(smollm2, prefix) == greedy(smollm2, session.prefill(text))
        with pytest.raises(kdn.KdnError):
            session.store(prefix)


def test_other_chunk_length_for_a_registered_model_is_refused(smollm2, kdnd):
    with kdn.Client(kdnd.endpoint) as client:
        session_of(smollm2, client)
        with pytest.raises(kdn.KdnError, match="FAILED_PRECONDITION"):
            session_of(smollm2, client, chunk_tokens=128)


def demo(step, endpoint):
    command = [sys.executable, "-m", "kdn.demo", step, "--endpoint", endpoint, "--tokens", "600", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "client" / "python")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.model
def test_demonstration_gives_the_same_answer_in_another_process(kdnd):
    computed = demo("prefill", kdnd.endpoint)
    kdnd.restart_after_kill()
    loaded = demo("load", kdnd.endpoint)
    assert loaded["tokens_hit"] == loaded["tokens"] == computed["tokens"]
    assert loaded["answer_token_ids"] == computed["answer_token_ids"]
    assert 0 < computed["sent_bytes"] < computed["raw_bytes"]


def test_program_of_the_readme_runs(smollm2, kdnd):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (folder,) = models.cache_dir().glob(f"smollm2-{smollm2.weights_digest[:16]}-v*")
    for given, here in (("path/to/model", str(folder)), ("127.0.0.1:9460", kdnd.endpoint), (".read()", ".read()[:3000]")):
        assert given in program
        program = program.replace(given, here)
    names = {}
    exec(program, names)
    with kdn.Client(kdnd.endpoint) as client:
        assert client.admin("ListModels")["models"][0]["display_name"].startswith("smollm2")
    assert names["prefix"].stats.error is None
    assert names["session"].prefill_or_load(names["long_text"]).stats.tokens_hit == len(names["prefix"].token_ids)
