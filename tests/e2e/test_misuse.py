"""Bad input, wrong configuration, second daemons: a clear error, and nothing lost."""

import os
import pathlib
import subprocess
import sys
import urllib.request

import kdn
import kv
import pytest
from daemon import Daemon, DaemonFailed, binary


def test_second_daemon_on_one_directory_is_refused(start, tmp_path):
    first = start()
    with pytest.raises(DaemonFailed) as refused:
        Daemon(first.data).start()
    assert refused.value.code == 1
    assert str(first.data) in refused.value.log and str(first.process.pid) in refused.value.log
    with kv.connect(first.endpoint) as client:
        assert client.admin("Health")["status"] == "SERVING"


def run_kdnd(*arguments):
    return subprocess.run([binary("kdnd"), *arguments], capture_output=True, text=True, timeout=60)


def test_unknown_key_is_named_with_a_suggestion(tmp_path):
    config = tmp_path / "kdnd.yaml"
    config.write_text("storage:\n  pth: /tmp/x\n")
    done = run_kdnd("--config", str(config), "--check-config")
    assert done.returncode == 2
    assert "storage.pth" in done.stderr and "did you mean 'path'" in done.stderr and "kdnd.yaml:2" in done.stderr


def test_good_configuration_is_accepted_and_printed_with_origins(tmp_path):
    config = tmp_path / "kdnd.yaml"
    config.write_text("storage:\n  sync: always\n")
    assert run_kdnd("--config", str(config), "--check-config").returncode == 0
    printed = run_kdnd("--config", str(config), "--print-config")
    assert printed.returncode == 0 and "kdnd.yaml:2" in printed.stdout and "always" in printed.stdout


def test_open_listener_without_authentication_is_refused():
    done = run_kdnd("--set=server.listen=0.0.0.0:0", "--set=storage.path=/nonexistent/kdn")
    assert done.returncode == 2
    assert "server.listen" in done.stderr and "auth.mode" in done.stderr


def a_file(path):
    path.write_text("a file")


def of_a_later_version(path):
    path.mkdir()
    (path / "STORE").write_text("kdn store format 9\nvalues segments\n")


def of_the_other_kind(path):
    with Daemon(path, storage__values="rocksdb"):
        pass


@pytest.mark.parametrize("make", [a_file, of_a_later_version, of_the_other_kind])
def test_unusable_data_directory_is_named(tmp_path, make):
    make(tmp_path / "data")
    with pytest.raises(DaemonFailed) as failed:
        Daemon(tmp_path / "data").start()
    assert failed.value.code == 1
    assert str(tmp_path / "data") in failed.value.log


def test_a_deadline_of_one_millisecond_is_an_error_or_a_result(start):
    daemon = start()
    spec = kv.spec(layers=16, kv_heads=4, head_dim=128)
    tokens = list(range(1024))
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(spec)
        data = kv.make(spec, 1024)
        client.store(model, tokens, data)
        loaded = kv.empty(spec, 1024)
        try:
            got = client.retrieve(model, tokens, loaded, timeout=0.001)
        except kdn.KdnError as error:
            assert error.code == "DEADLINE_EXCEEDED"
        else:
            assert kv.equal(loaded, data, got.tokens_hit)
        assert client.retrieve(model, tokens, loaded).tokens_hit == 1024


def test_arguments_that_do_not_fit_are_named(start):
    daemon = start()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec(), 64)
        with pytest.raises(kdn.KdnError) as error:
            client.register_model(kv.spec(), 128)
        assert error.value.code == "FAILED_PRECONDITION" and "64" in error.value.message
        with pytest.raises(ValueError):
            client.store(model, [1, 2], kv.make(kv.spec(layers=3), 2))
        with pytest.raises(ValueError):
            client.store(model, [1, 2], kv.make(kv.spec(head_dim=64), 2))
        with pytest.raises(kdn.KdnError) as error:
            client.store(model, list(range(10)), kv.make(kv.spec(), 7))
        assert error.value.code == "INVALID_ARGUMENT"


def answer_of_child(action):
    """What `action` returns in a forked child, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = action()
        except kdn.KdnError as error:
            answer = error.code
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    answer = b"".join(iter(lambda: os.read(reader, 4096), b"")).decode()
    os.waitpid(child, 0)
    os.close(reader)
    return answer


def test_a_forked_child_is_refused_and_the_parent_goes_on(start):
    daemon = start()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec(), 64)
        assert answer_of_child(lambda: str(client.lookup(model, [1, 2, 3]))) == "UNAVAILABLE"
        assert client.lookup(model, [1, 2, 3]) == 0


def test_a_child_forked_before_the_first_call_opens_its_own_client(start):
    daemon = start()
    program = f"""
import os, kv, kdn
parent = kdn.Client({daemon.endpoint!r})
child = os.fork()
if child == 0:
    with kv.connect({daemon.endpoint!r}) as own:
        own.register_model(kv.spec(), 64)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
    here = pathlib.Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1] / "client" / "python")])
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, check=True, timeout=120)


def test_capacity_is_a_hard_limit(start):
    daemon = start(storage__capacity="24MiB", storage__segment_bytes="4MiB")
    spec = kv.spec(layers=8, kv_heads=2, head_dim=64)
    with kv.connect(daemon.endpoint, profile="raw") as client:
        model = client.register_model(spec, 64)
        for number in range(120):
            client.store(model, [number * 64 + i for i in range(64)], kv.make(spec, 64, number))
            used = sum(p.stat().st_blocks * 512 for p in pathlib.Path(daemon.data).rglob("*") if p.is_file())
            assert used <= 40 << 20, f"{used} bytes on disk after {number + 1} chunks"
        last = [119 * 64 + i for i in range(64)]
        loaded = kv.empty(spec, 64)
        assert client.retrieve(model, last, loaded).tokens_hit == 64
        assert kv.equal(loaded, kv.make(spec, 64, 119))
        assert client.lookup(model, list(range(64))) == 0, "the oldest went first"


def test_disk_full_keeps_reads_and_recovers(start, tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(mount)], capture_output=True)
    if made.returncode != 0:
        pytest.skip("mounting a small tmpfs needs privileges")
    try:
        daemon = start(data="small/data", storage__segment_bytes="4MiB", storage__sync="always")
        spec = kv.spec(layers=8, kv_heads=2, head_dim=64)
        with kv.connect(daemon.endpoint, profile="raw") as client:
            model = client.register_model(spec, 64)
            ballast = mount / "ballast"
            kept = []
            for number in range(300):
                result = client.store(model, [number * 64 + i for i in range(64)], kv.make(spec, 64, number))
                if result.tokens_present == 64:
                    kept.append(number)
                if number == 20:
                    with ballast.open("wb") as file, pytest.raises(OSError):
                        while True:
                            file.write(bytes(1 << 20))
                            file.flush()
                if result.chunks_rejected:
                    break
            assert result.chunks_rejected, "the disk never got full"
            assert "bytes free" in str(result.details)
            loaded = kv.empty(spec, 64)
            assert client.retrieve(model, [kept[-1] * 64 + i for i in range(64)], loaded).tokens_hit == 64
            ballast.unlink()
            resumed = any(
                client.store(model, [10**6 + t * 64 + i for i in range(64)], kv.make(spec, 64, t)).tokens_present == 64
                for t in range(200)
            )
            assert resumed, "stores did not resume once there was space"
        daemon.kill()
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_metrics_are_served_and_count(start):
    daemon = start()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec(), 64)
        client.store(model, list(range(64)), kv.make(kv.spec(), 64))
        client.retrieve(model, list(range(64)), kv.empty(kv.spec(), 64))
    text = urllib.request.urlopen(f"http://{daemon.metrics}/metrics", timeout=10).read().decode()
    assert "kdn_build_info" in text and "kdn_stored_chunks_total 1" in text
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_logs_hold_no_tokens_and_no_text(start):
    daemon = start(log__level="debug")
    secret = "the launch code is swordfish"
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec(), 64)
        client.store_text(model, secret, [987654321] * 64, kv.make(kv.spec(), 64))
        client.lookup_text(model, secret)
    daemon.stop()
    log = "".join(daemon.log)
    assert log and "swordfish" not in log and "987654321" not in log
