"""kdnctl codec: profiles, calibration objects, and what files hold."""

import hashlib
import json

import kv
import numpy as np
import pytest
import transform_objects
from daemon import kdnctl


def objects(spec, fingerprint, count):
    shapes = [(layer.num_kv_heads * layer.k_head_dim, layer.num_kv_heads * layer.v_head_dim) for layer in spec.layers]
    made = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        layers = [tuple(rng.normal(size=(500, width)) for width in pair) for pair in shapes]
        made.append(transform_objects.build(fingerprint, layers, heads=spec.layers[0].num_kv_heads))
    return made


@pytest.fixture
def server(start, tmp_path):
    daemon = start()
    daemon.spec = kv.spec()
    with kv.connect(daemon.endpoint) as client:
        model = client.register_model(daemon.spec, 64, "tiny")
        client.store(model, list(range(64)), kv.make(daemon.spec, 64))
        client.store(model, list(range(1000, 1064)), kv.make(daemon.spec, 64), profile="q4")
        daemon.keys = [client.chunk_digests(model, list(range(at, at + 64)))[0].hex() for at in (0, 1000)]
        daemon.fingerprint = model.fingerprint
        daemon.objects = objects(daemon.spec, model.fingerprint, 2)
    daemon.paths = []
    for number, data in enumerate(daemon.objects):
        path = tmp_path / f"object{number}.kdno"
        path.write_bytes(data)
        daemon.paths.append(str(path))
    return daemon


def run(server, *arguments, check=0):
    return json.loads(kdnctl(server.endpoint, *arguments, "-o", "json", check=check).stdout)


def test_profiles_are_listed_without_a_server():
    listed = json.loads(kdnctl("127.0.0.1:1", "codec", "ls", "-o", "json").stdout)
    profiles = {row["profile"]: row for row in listed["profiles"]}
    assert profiles["lossless"]["exact"] and profiles["lossless"]["encodes"]
    assert not profiles["q4"]["exact"] and "bf16" in profiles["q4"]["dtypes"] and "fp32" not in profiles["q4"]["dtypes"]
    assert profiles["transform"]["needs_calibration"]
    assert "PROFILE" in kdnctl("127.0.0.1:1", "codec", "ls").stdout


def test_an_object_travels_in_and_out_and_is_deleted(server, tmp_path):
    digests = [hashlib.sha256(data).hexdigest() for data in server.objects]
    put = run(server, "codec", "put", server.paths[0], "--model", "tiny", "--activate", "--name", "first")
    assert put["digest"] == digests[0] and put["created"] and put["active"]
    assert not run(server, "codec", "put", server.paths[0], "--model", "tiny")["created"]
    run(server, "codec", "put", server.paths[1])
    stats = run(server, "stats")
    assert (stats["objects"], stats["object_bytes"]) == (2, sum(len(data) for data in server.objects))
    listed = run(server, "codec", "ls", "--model", "tiny")["objects"]
    assert {row["digest"]: row["active"] for row in listed} == {digests[0]: True, digests[1]: False}
    levels = next(row["levels"] for row in listed if row["digest"] == digests[0])
    assert [(level["ratio"], level["step"], level["expected_kl"]) for level in levels] == [
        (4.0, -16, None),
        (8.0, 0, pytest.approx(0.0005)),
        (16.0, 16, pytest.approx(0.0043)),
    ]
    table = kdnctl(server.endpoint, "codec", "ls", "--model", "tiny").stdout
    assert "8x (KL 0.0005)" in table and "first" in table
    saved = tmp_path / "saved"
    kdnctl(server.endpoint, "codec", "get", digests[1][:10], "-O", str(saved))
    assert saved.read_bytes() == server.objects[1]
    assert run(server, "codec", "activate", digests[1][:10])["active"]
    kdnctl(server.endpoint, "codec", "rm", digests[1], "--yes", check=1)
    kdnctl(server.endpoint, "codec", "rm", digests[1], check=2)
    kdnctl(server.endpoint, "codec", "rm", digests[1], "--yes", "--force")
    kdnctl(server.endpoint, "codec", "get", digests[1][:10], "-O", str(saved), check=3)
    assert [row["active"] for row in run(server, "codec", "ls", "--model", "tiny")["objects"]] == [True]


def test_damaged_and_foreign_objects_are_refused(server, tmp_path):
    path = tmp_path / "damaged"
    data = bytearray(server.objects[0])
    data[-1] ^= 1
    path.write_bytes(data[:-16])
    kdnctl(server.endpoint, "codec", "put", str(path), check=2)
    data = bytearray(server.objects[0])
    data[8] ^= 1
    path.write_bytes(data)
    assert "of model" in kdnctl(server.endpoint, "codec", "put", str(path), check=2).stderr
    assert run(server, "codec", "ls", "--model", "tiny")["objects"] == []


def test_probe_tells_objects_from_containers(server, tmp_path):
    probed = run(server, "codec", "probe", server.paths[0])
    assert probed["file"] == "object" and probed["groups"] == 4 and len(probed["levels"]) == 3
    assert probed["group_list"][0] == {
        "layer": 0, "layer_count": 1, "head_begin": 0, "head_count": 2, "channels": 128, "ranks": [64, 64],
    }  # fmt: skip
    offline = run(server, "codec", "probe", server.paths[0], "--offline")
    assert "group_list" not in offline and offline["levels"] == probed["levels"]

    for key, profile, k_state, quality in zip(
        server.keys, ("lossless", "q4"), ("rotated", "unrotated"), ("exact", "good")
    ):
        saved = str(tmp_path / profile)
        kdnctl(server.endpoint, "chunk", "get", key, "--out", saved)
        probed = run(server, "codec", "probe", saved)
        assert probed["file"] == "container" and probed["key"] == key and probed["k_state"] == k_state
        uses = {use["profile"]: use for use in probed["profiles"]}
        assert uses[profile]["quality"] == quality
        assert sum(use["raw_bytes"] for use in uses.values()) == 4 * 2 * 64 * 64 * 2
        assert "container" in kdnctl(server.endpoint, "codec", "probe", saved).stdout
        kdnctl("127.0.0.1:1", "codec", "probe", saved, "--offline")

    (tmp_path / "neither").write_bytes(b"something else altogether")
    kdnctl(server.endpoint, "codec", "probe", str(tmp_path / "neither"), check=2)


def test_inspect_shows_rotation_bytes_and_quality(server):
    exact, rounded = (run(server, "chunk", "inspect", key) for key in server.keys)
    assert (exact["k_state"], exact["quality"]) == ("rotated", "exact")
    assert (rounded["k_state"], rounded["quality"]) == ("unrotated", "good")
    assert set(rounded["parts"][0]["bytes_by_profile"]) == set(rounded["parts"][0]["tiles_by_profile"])
    assert 0 < sum(rounded["parts"][0]["bytes_by_profile"].values()) < rounded["stored_bytes"]


def test_put_codes_a_container_anew(server, tmp_path):
    saved = str(tmp_path / "chunk")
    kdnctl(server.endpoint, "chunk", "get", server.keys[0], "--out", saved)
    kdnctl(server.endpoint, "chunk", "rm", server.keys[0], "--yes")
    put = run(server, "chunk", "put", saved, "--profile", "q4")
    assert put["outcome"] == "stored"
    shown = run(server, "chunk", "inspect", server.keys[0], "--verify")
    assert shown["profile"] == "q4" and shown["k_state"] == "unrotated" and shown["verify"] == "ok"
    assert shown["raw_bytes"] / shown["stored_bytes"] > 2.5
    kdnctl(server.endpoint, "chunk", "put", saved, "--profile", "best", check=2)
