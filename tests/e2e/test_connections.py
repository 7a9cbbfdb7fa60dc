"""Ways to reach a daemon: TLS, mutual TLS, a Unix socket, several channels; and what signals do to it."""

import hashlib
import signal
import subprocess
import threading

import grpc
import kdn
import kv
import pytest
from daemon import kdnctl


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """A certificate authority in a folder, for one test."""

    def __init__(self, folder):
        folder.mkdir()
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._key = folder / "ca.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", "/CN=test authority", "-keyout", self._key, "-out", self.ca)  # fmt: skip

    def issue(self, name):
        """(certificate, key) for a common name that is also valid for this machine's addresses."""
        cert, key, request = (self.folder / f"{name}.{suffix}" for suffix in ("pem", "key", "csr"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-keyout", key, "-out", request)  # fmt: skip
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key, "-CAcreateserial", "-days", "2",
                "-extfile", extensions, "-out", cert)  # fmt: skip
        return cert, key


TOKENS = list(range(300))


def round_trip(endpoint, **options):
    spec = kv.spec()
    with kv.connect(endpoint, **options) as client:
        model = client.register_model(spec, 64)
        client.store(model, TOKENS, kv.make(spec, len(TOKENS)))
        loaded = kv.empty(spec, len(TOKENS))
        assert client.retrieve(model, TOKENS, loaded).tokens_hit == len(TOKENS)
        assert kv.equal(loaded, kv.make(spec, len(TOKENS)))


def refused_code(endpoint, **options):
    with pytest.raises(kdn.KdnError) as refused:
        with kv.connect(endpoint, **options) as client:
            client.register_model(kv.spec(), 64)
    return refused.value.code


def test_tls_serves_whom_trusts_its_authority_and_nobody_else(start, tmp_path):
    authority = Authority(tmp_path / "pki")
    cert, key = authority.issue("server")
    daemon = start(tls__mode="tls", tls__cert=str(cert), tls__key=str(key))
    round_trip(daemon.endpoint, tls=kdn.Tls(ca_file=str(authority.ca)))
    kdnctl(daemon.endpoint, "--tls-ca", str(authority.ca), "health")
    other = Authority(tmp_path / "other")
    assert refused_code(daemon.endpoint, tls=kdn.Tls(ca_file=str(other.ca)), dead_after=1.0) == "UNAVAILABLE"
    assert refused_code(daemon.endpoint, dead_after=1.0) == "UNAVAILABLE"


def test_mutual_tls_takes_the_tenant_from_the_certificate(start, tmp_path):
    authority = Authority(tmp_path / "pki")
    cert, key = authority.issue("server")
    daemon = start(tls__mode="mtls", tls__cert=str(cert), tls__key=str(key), tls__client_ca=str(authority.ca),
                   auth__mode="mtls")  # fmt: skip

    def identity(name):
        cert, key = authority.issue(name)
        return kdn.Tls(ca_file=str(authority.ca), cert_file=str(cert), key_file=str(key))

    round_trip(daemon.endpoint, tls=identity("red"))
    with kv.connect(daemon.endpoint, tls=identity("blue")) as blue:
        model = blue.register_model(kv.spec(), 64)
        assert blue.lookup(model, TOKENS) == 0 and blue.admin("ListChunks")["chunks"] == []
    assert refused_code(daemon.endpoint, tls=kdn.Tls(ca_file=str(authority.ca)), dead_after=1.0) == "UNAVAILABLE"


def test_a_unix_socket_serves(start, tmp_path):
    path = f"unix:{tmp_path}/kdn.sock"
    daemon = start(server__listen=path)
    round_trip(path)
    kdnctl(path, "health")
    assert daemon.endpoint == path


def test_several_channels_carry_parallel_transfers(start):
    spec = kv.spec(layers=8, kv_heads=4, head_dim=64)
    daemon = start()
    with kv.connect(daemon.endpoint, channels=3, profile="raw") as client:
        model = client.register_model(spec, 64)
        texts = [[1000 * number + i for i in range(256)] for number in range(6)]
        stores = [client.store_async(model, text, kv.make(spec, 256, n)) for n, text in enumerate(texts)]
        for operation in stores:
            assert operation.wait().tokens_present == 256
        loaded = [kv.empty(spec, 256) for _ in texts]
        reads = [client.retrieve_async(model, text, into) for text, into in zip(texts, loaded)]
        assert all(operation.wait().tokens_hit == 256 for operation in reads)
        assert all(kv.equal(into, kv.make(spec, 256, n)) for n, into in enumerate(loaded))


def test_hangup_takes_new_tokens_over_and_keeps_the_old_ones_when_the_file_is_bad(start, tmp_path):
    def line(name):
        return f"{name} {hashlib.sha256(f'secret-{name}'.encode()).hexdigest()}\n"

    tokens = tmp_path / "tokens"
    tokens.write_text(line("red"))
    daemon = start(auth__mode="token", auth__tokens_file=str(tokens))
    round_trip(daemon.endpoint, token="secret-red")
    assert refused_code(daemon.endpoint, token="secret-blue") == "UNAUTHENTICATED"
    tokens.write_text(line("red") + line("blue"))
    daemon.signal_and_await(signal.SIGHUP, "reloaded")
    round_trip(daemon.endpoint, token="secret-blue")
    tokens.write_text("nonsense\n")
    daemon.signal_and_await(signal.SIGHUP, "reload failed")
    round_trip(daemon.endpoint, token="secret-blue")


def test_a_second_termination_signal_ends_a_drain_at_once(start):
    daemon = start(server__drain_timeout="10m")
    release = threading.Event()

    def no_frames_yet():
        release.wait()
        yield from ()

    with grpc.insecure_channel(daemon.endpoint) as channel:
        open_store = channel.stream_unary("/kdn.v1.Kdn/Store").future(no_frames_yet())
        # An answer on the same connection: the server has seen the beginning of the store by then.
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"") == b"\x08\x01"
        daemon.signal_and_await(signal.SIGTERM, "stopping")
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.reap() == 1
        assert any("second signal" in line for line in daemon.log)
        release.set()
        with pytest.raises(grpc.RpcError):
            open_store.result()
