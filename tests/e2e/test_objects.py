"""Calibration objects: stored, pinned, listed, fetched and cached; nothing takes them away but who names them."""

import hashlib
import os
import subprocess
import sys
import urllib.request

import kdn
import kv
import pytest
from daemon import ROOT

MIB = 1 << 20


def make_object(fingerprint, seed=0, size=100_000):
    """Bytes with the header of an object of kind transform: what the server looks at."""
    body = bytes((i * 31 + seed) % 256 for i in range(4096)) * (size // 4096 + 1)
    return (b"KDNO" + bytes([1, 0, 2, 0]) + fingerprint + body)[:size]


def digest_of(data):
    return hashlib.sha256(data).digest()


def metric(daemon, name):
    text = urllib.request.urlopen(f"http://{daemon.metrics}/metrics").read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name + " "))


def reads(daemon, outcome):
    return metric(daemon, f'kdn_object_reads_total{{outcome="{outcome}"}}')


def test_object_travels_and_is_cached(start):
    daemon = start()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec())
        data = make_object(model.fingerprint, size=5 * MIB + 3)
        put = client.put_calibration(data, name="first")
        assert put.created and put.active and put.kind == "transform" and put.display_name == "first"
        assert put.digest == digest_of(data) and put.fingerprint == model.fingerprint and put.object_bytes == len(data)
        assert not client.put_calibration(data).created
        for _ in range(3):
            assert client.get_calibration(put.digest) == data
        assert reads(daemon, "delivered") == 1
        assert metric(daemon, "kdn_object_bytes") == len(data)
        assert [c.digest for c in client.list_calibrations(model)] == [put.digest]
    with kv.connect(daemon.endpoint) as other:
        assert other.get_calibration(put.digest, model) == data


def test_active_one_changes_and_is_deleted_by_force_only(start):
    daemon = start()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec())
        first, second = (make_object(model.fingerprint, seed) for seed in (1, 2))
        client.put_calibration(first)
        client.put_calibration(second, activate=False)

        def active():
            return [c.digest for c in client.list_calibrations(model) if c.active]

        assert active() == [digest_of(first)]
        client.activate_calibration(model, digest_of(second))
        assert active() == [digest_of(second)]
        with pytest.raises(kdn.KdnError) as error:
            client.delete_calibration(model, digest_of(second))
        assert error.value.code == "FAILED_PRECONDITION"
        client.delete_calibration(model, digest_of(second), force=True)
        assert active() == [digest_of(first)]


def test_wrong_objects_are_refused(start):
    daemon = start()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec())
        for data, code in (
            (b"nothing", "INVALID_ARGUMENT"),
            (make_object(bytes(32)), "NOT_FOUND"),
            (b"KDNO" + bytes([1, 0, 9, 0]) + bytes(60), "INVALID_ARGUMENT"),
            (b"KDNO" + bytes([1, 0, 1, 0]) + bytes(60), "INVALID_ARGUMENT"),
        ):
            with pytest.raises(kdn.KdnError) as error:
                client.put_calibration(data)
            assert error.value.code == code, data[:10]
        with pytest.raises(kdn.KdnError) as error:
            client.put_calibration(make_object(bytes(32)), model)
        assert error.value.code == "INVALID_ARGUMENT"
        with pytest.raises(kdn.KdnError) as error:
            client.get_calibration(bytes(32))
        assert error.value.code == "NOT_FOUND"
        assert client.list_calibrations(model) == []


@pytest.mark.parametrize("sync", ["always", "batch", "none"])
def test_acknowledged_objects_survive_a_kill_in_every_mode(start, sync):
    daemon = start(storage__sync=sync)
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec())
        client.admin("Flush")
        objects = [make_object(model.fingerprint, seed, 3 * MIB) for seed in range(3)]
        for data in objects:
            client.put_calibration(data)
        client.activate_calibration(model, digest_of(objects[0]))
        client.delete_calibration(model, digest_of(objects[1]))
    daemon.restart_after_kill()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec())
        assert {c.digest: c.active for c in client.list_calibrations(model)} == {
            digest_of(objects[0]): True,
            digest_of(objects[2]): False,
        }
        assert client.get_calibration(digest_of(objects[0])) == objects[0]


@pytest.mark.parametrize("values", ["segments", "rocksdb"])
def test_quarantined_index_is_rebuilt_with_them(start, values):
    daemon = start(storage__values=values)
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec())
        objects = [make_object(model.fingerprint, seed, MIB) for seed in range(3)]
        for data in objects:
            client.put_calibration(data)
        client.activate_calibration(model, digest_of(objects[1]))
        client.delete_calibration(model, digest_of(objects[2]))
    assert daemon.stop() == 0
    for path in (daemon.data / "index").glob("MANIFEST-*"):
        path.write_bytes(b"damaged")
    daemon.start()
    with kv.connect(daemon.endpoint) as client:
        assert "moved to" in client.admin("Status")["recovery"]
        model = client.register_model(kv.spec())
        assert {c.digest: c.active for c in client.list_calibrations(model)} == {
            digest_of(objects[0]): False,
            digest_of(objects[1]): True,
        }
        for data in objects[:2]:
            assert client.get_calibration(digest_of(data)) == data


def test_damage_is_never_delivered_and_putting_again_heals(start):
    daemon = start()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec())
        data = make_object(model.fingerprint, size=2 * MIB)
        client.put_calibration(data)
    assert daemon.stop() == 0
    for path in (daemon.data / "segments").iterdir():
        content = bytearray(path.read_bytes())
        at = content.find(data[MIB : MIB + 64])
        if at >= 0:
            content[at + 5] ^= 0x10
            path.write_bytes(content)
    daemon.start()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec())
        with pytest.raises(kdn.KdnError) as error:
            client.get_calibration(digest_of(data))
        assert error.value.code == "NOT_FOUND"
        assert metric(daemon, 'kdn_corruption_total{where="values"}') == 1 and reads(daemon, "damaged") == 1
        assert any("damage found" in line for line in daemon.log)
        assert client.put_calibration(data).created
        assert client.get_calibration(digest_of(data)) == data


def test_objects_stay_within_their_share_and_eviction_leaves_them(start):
    daemon = start(storage__capacity="64MiB", storage__segment_bytes="4MiB")
    spec = kv.spec(layers=8, kv_heads=4, head_dim=64)
    with kv.connect(daemon.endpoint, profile="raw") as client:
        model = client.register_model(spec)
        kept = make_object(model.fingerprint, 1, 10 * MIB)
        client.put_calibration(kept)
        with pytest.raises(kdn.KdnError) as error:
            client.put_calibration(make_object(model.fingerprint, 2, 10 * MIB))
        assert error.value.code == "RESOURCE_EXHAUSTED" and "calibration object" in error.value.message
        for number in range(60):  # 2 MiB each
            tokens = list(range(number * 256, number * 256 + 256))
            client.store(model, tokens, kv.make(spec, 256, number))
        assert metric(daemon, 'kdn_evictions_total{reason="capacity"}') > 0
    with kv.connect(daemon.endpoint) as client:
        assert client.get_calibration(digest_of(kept)) == kept


FORKED = """
import os, sys
sys.path[:0] = sys.argv[2:]
import kdn
client = kdn.Client(sys.argv[1], dead_after=20.0)
digest = bytes.fromhex(os.environ["DIGEST"])
client.get_calibration(digest)
pid = os.fork()
if pid == 0:
    try:
        client.get_calibration(digest)
    except kdn.KdnError as error:
        os._exit(0 if error.code == "UNAVAILABLE" else 2)
    os._exit(1)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
client.get_calibration(digest)
client.close()
sys.exit(code)
"""


def test_forked_child_is_refused_even_what_is_cached(start):
    daemon = start()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(kv.spec())
        digest = client.put_calibration(make_object(model.fingerprint)).digest
    done = subprocess.run(
        [sys.executable, "-c", FORKED, daemon.endpoint, str(ROOT / "client" / "python")],
        env={**os.environ, "DIGEST": digest.hex()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
