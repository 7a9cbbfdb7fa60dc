"""kdnctl against a real server: every command, every output format, documented exit codes."""

import json
import subprocess

import kdn
import kv
import pytest
import yaml
from daemon import binary, kdnctl


@pytest.fixture
def server(start):
    daemon = start()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec(), 64, "tiny")
        tokens = list(range(128))
        client.store_text(model, "a text", tokens, kv.make(kv.spec(), 128), document="doc")
        daemon.key = client.chunk_digests(model, tokens)[0].hex()
    return daemon


READ_COMMANDS = [
    ("version",), ("health",), ("status",), ("stats",), ("config", "get"), ("model", "ls"), ("chunk", "ls"),
]  # fmt: skip


@pytest.mark.parametrize("command", READ_COMMANDS, ids=" ".join)
def test_every_command_honours_the_output_format(server, command):
    document = json.loads(kdnctl(server.endpoint, *command, "-o", "json").stdout)
    assert document["schema"] == "kdn.ctl/v1"
    again = yaml.safe_load(kdnctl(server.endpoint, *command, "-o", "yaml").stdout)
    assert list(again) == list(document)
    table = kdnctl(server.endpoint, *command).stdout
    assert table and not table.startswith("{")


def test_a_chunk_travels_out_and_in_again(server, tmp_path):
    saved = tmp_path / "chunk.kdnc"
    kdnctl(server.endpoint, "chunk", "get", server.key[:10], "--out", str(saved))
    assert saved.read_bytes()[:4] == b"KDNC"
    inspected = json.loads(kdnctl(server.endpoint, "chunk", "inspect", server.key, "--verify", "-o", "json").stdout)
    assert inspected["verify"] == "ok" and inspected["num_tokens"] == 64 and inspected["documents"] == ["doc"]
    kdnctl(server.endpoint, "chunk", "rm", server.key, "--yes")
    kdnctl(server.endpoint, "chunk", "inspect", server.key, check=3)
    put = json.loads(kdnctl(server.endpoint, "chunk", "put", str(saved), "-o", "json").stdout)
    assert put == {"schema": "kdn.ctl/v1", "key": server.key, "outcome": "stored"}
    kdnctl(server.endpoint, "chunk", "inspect", server.key, "--verify")


def test_damaged_file_is_refused_with_its_reason(server, tmp_path):
    saved = tmp_path / "chunk.kdnc"
    kdnctl(server.endpoint, "chunk", "get", server.key, "--out", str(saved))
    content = bytearray(saved.read_bytes())
    content[100] ^= 1
    saved.write_bytes(content)
    refused = kdnctl(server.endpoint, "chunk", "put", str(saved), check=6)
    assert "CRC" in refused.stderr and not refused.stdout


def test_lookup_by_tokens_and_text(server, tmp_path):
    (tmp_path / "tokens.json").write_text(json.dumps(list(range(100)) + [7] * 50))
    found = json.loads(
        kdnctl(server.endpoint, "lookup", "--tokens", str(tmp_path / "tokens.json"), "-o", "json").stdout
    )
    assert found["hit_tokens"] == 64 and found["tokens"] == 150
    (tmp_path / "text").write_text("a text")
    assert json.loads(kdnctl(server.endpoint, "lookup", "--text", str(tmp_path / "text"), "-o", "json").stdout)[
        "hit_tokens"
    ] == 128
    (tmp_path / "text").write_text("another text")
    kdnctl(server.endpoint, "lookup", "--text", str(tmp_path / "text"), check=3)


def test_pin_and_delete_by_document(server):
    kdnctl(server.endpoint, "chunk", "pin", server.key)
    inspect = ("chunk", "inspect", server.key, "-o", "json")
    chunk = json.loads(kdnctl(server.endpoint, *inspect).stdout)
    assert chunk["pinned"] and chunk["pinned_until_ms"] == 0
    kdnctl(server.endpoint, "chunk", "pin", server.key, "--ttl", "1h")
    chunk = json.loads(kdnctl(server.endpoint, *inspect).stdout)
    assert chunk["pinned"] and chunk["pinned_until_ms"] > chunk["created_ms"]
    assert "pinned until" in kdnctl(server.endpoint, "chunk", "inspect", server.key).stdout
    kdnctl(server.endpoint, "chunk", "unpin", server.key)
    chunk = json.loads(kdnctl(server.endpoint, *inspect).stdout)
    assert not chunk["pinned"] and chunk["pinned_until_ms"] == 0
    dry = json.loads(kdnctl(server.endpoint, "chunk", "rm", "--document", "doc", "--dry-run", "-o", "json").stdout)
    assert dry["chunks"] == 2 and dry["texts"] == 1
    refused = kdnctl(server.endpoint, "chunk", "rm", "--document", "doc", check=2)
    assert "--yes" in refused.stderr
    kdnctl(server.endpoint, "chunk", "rm", "--document", "doc", "--yes")
    assert json.loads(kdnctl(server.endpoint, "chunk", "ls", "-o", "json").stdout)["chunks"] == []


def test_exit_codes(server):
    kdnctl(server.endpoint, "chunk", "inspect", "nothex", check=2)
    kdnctl(server.endpoint, "chunk", "inspect", "0" * 64, check=3)
    kdnctl(server.endpoint, "chunk", "get", "0" * 64, check=2)
    kdnctl("127.0.0.1:1", "version", "--client")


@pytest.mark.parametrize(
    ("endpoint", "flags", "said"),
    [
        ("127.0.0.1:1", (), "cannot connect to 127.0.0.1:1: connection refused; is kdnd running there?"),
        ("unix:/nowhere/kdn.sock", (), "there is no such socket"),
    ],
)
def test_a_server_that_is_not_there_is_named_with_the_cause(endpoint, flags, said):
    failed = kdnctl(endpoint, *flags, "health", check=4)
    assert said in failed.stderr and len(failed.stderr.splitlines()) == 1 and not failed.stdout


@pytest.mark.parametrize(
    "command",
    [
        *("status", "stats", "config get", "model ls", "flush", "compact", "drain", "undrain"),
        *("chunk ls", f"chunk inspect {'0' * 64}", f"chunk pin {'0' * 64}", f"chunk rm {'0' * 64} --yes"),
        *("lookup --text /etc/hostname", "bench store --chunks 1", "bench retrieve --chunks 1", "bench mixed --chunks 1"),
    ],
)
def test_every_command_says_that_there_is_no_server(command):
    failed = kdnctl("127.0.0.1:1", *command.split(), check=4)
    assert "is kdnd running there" in failed.stderr and not failed.stdout


def test_a_bench_too_short_for_one_transfer_reports_one(server):
    report = kdnctl(server.endpoint, *"bench retrieve --duration 1ms --rounds 1 --chunks 1 --conc 4 -o json".split())
    assert json.loads(report.stdout)["mode"] == "retrieve"


def test_tls_to_a_plain_server_is_one_line(server):
    failed = kdnctl(server.endpoint, "--tls", "health", check=4)
    assert "TLS" in failed.stderr and len(failed.stderr.splitlines()) == 1 and not failed.stdout


def test_the_hint_does_not_appear_for_a_server_that_answers(server):
    kdnctl(server.endpoint, "drain")
    assert "is kdnd running" not in kdnctl(server.endpoint, "chunk", "rm", server.key, "--yes", check=None).stderr


def test_drain_and_undrain(server):
    assert json.loads(kdnctl(server.endpoint, "drain", "-o", "json").stdout)["state"] == "draining"
    kdnctl(server.endpoint, "health", check=1)
    assert json.loads(kdnctl(server.endpoint, "undrain", "-o", "json").stdout)["state"] == "serving"
    kdnctl(server.endpoint, "health")


@pytest.mark.parametrize("mode", ["retrieve", "store", "mixed"])
def test_bench_measures_and_cleans_up(server, mode):
    report = json.loads(
        kdnctl(
            server.endpoint, "bench", mode, "--chunk-bytes", "256KiB", "--chunks", "2000", "--duration", "100ms",
            "--rounds", "1", "--conc", "2", "-o", "json", "-q",
        ).stdout
    )  # fmt: skip
    assert report["operations"] > 0 and report["gb_per_second"] > 0 and report["baseline_gb_per_second"] > 0
    assert len(json.loads(kdnctl(server.endpoint, "model", "ls", "-o", "json").stdout)["models"]) == 1


@pytest.mark.parametrize("mode", ["store", "mixed"])
def test_bench_round_ends_when_every_chunk_is_stored(server, mode):
    report = json.loads(
        kdnctl(
            server.endpoint, "bench", mode, "--chunk-bytes", "256KiB", "--chunks", "4", "--duration", "500ms",
            "--rounds", "1", "--conc", "2", "-o", "json", "-q",
        ).stdout
    )  # fmt: skip
    assert report["operations"] >= 4 and report["gb_per_second"] > 0


def test_help_and_completion():
    for arguments in (["--help"], ["chunk", "--help"], ["bench", "retrieve", "--help"]):
        shown = subprocess.run([binary("kdnctl"), *arguments], capture_output=True, text=True)
        assert shown.returncode == 0 and f"Usage: kdnctl {' '.join(arguments[:-1])}".strip() in shown.stdout


def run(*arguments):
    return subprocess.run([binary("kdnctl"), *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ch", {"chunk"}),
        ("-o json chunk in", {"inspect"}),
        ("--endpoint chunk model ", {"ls"}),
        ("-o js", {"json"}),
        ("health --for ", {"liveness", "readiness"}),
        ("completion ", {"bash", "zsh", "fish"}),
        ("chunk pin --tt", {"--ttl"}),
    ],
)
def test_completion_offers_what_may_stand_there(words, offered):
    *before, last = words.split(" ")
    script = run("completion", "bash").stdout
    line = f'COMP_WORDS=(kdnctl {" ".join(before)} "{last}"); COMP_CWORD={len(before) + 1}'
    path = binary("kdnctl").rsplit("/", 1)[0]
    found = subprocess.run(
        ["bash", "-c", f'PATH={path}:$PATH; eval "$0"; {line}; _kdnctl; echo "${{COMPREPLY[@]}}"', script],
        capture_output=True, text=True,
    )  # fmt: skip
    assert set(found.stdout.split()) == offered, found


def test_completion_offers_files_where_a_file_is_wanted(tmp_path):
    (tmp_path / "tokens.json").write_text("[]")
    assert run("__complete", "lookup", "--tokens", "").stdout == ":files\n"
    assert run("__complete", "chunk", "put", "").stdout == ":files\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bogus",), "unknown command 'bogus'; one of: version, health, status"),
        (("config", "set", "x"), "unknown command 'config set'; one of: get"),
        (("chunk",), "kdnctl chunk needs a command; one of: ls, inspect"),
        (("--timeout", "5", "health"), "'5' has no unit: write 5ms, 5s or 5m"),
        (("--timeout", "0s", "health"), "'0s' is not within 1ms to 24h"),
        (("-o", "xml", "health"), "'xml' is not one of table|json|yaml"),
        (("-o", "1", "health"), "'1' is not one of table|json|yaml"),
    ],
)
def test_wrong_words_are_named_with_what_would_be_right(arguments, said):
    refused = run(*arguments)
    assert refused.returncode == 2 and said in refused.stderr and not refused.stdout, refused


def test_version_and_help_are_found_where_they_are_looked_for():
    assert run("--version").stdout.startswith("kdnctl ")
    assert run("help", "chunk", "ls").stdout == run("chunk", "ls", "--help").stdout
    assert "--page-token" in run("--help-all").stdout and "--chunk-bytes" in run("--help-all").stdout
    assert "ENUM" not in run("--help").stdout and "INT:" not in run("--help-all").stdout
