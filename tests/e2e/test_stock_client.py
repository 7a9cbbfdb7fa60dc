"""A client generated from proto/ by stock grpcio, sharing no code with ours: the generated code is the contract.

It runs in the process that also holds libkdn.so, whose gRPC is another version: the two must not disturb each other.
"""

import importlib
import pathlib
import subprocess
import sys

import grpc
import kdn
import kv
import pytest

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"
FRAME_BYTES = 1 << 20
CHUNK_TOKENS = 256
PREFIX = 1


def crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc32c_table()


def crc32c(data):
    state = 0xFFFFFFFF
    for byte in data:
        state = state >> 8 ^ TABLE[(state ^ byte) & 0xFF]
    return state ^ 0xFFFFFFFF


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    """Generates Python from kdn.proto; returns the messages' module. The stubs' is kdn.v1.kdn_pb2_grpc."""
    out = tmp_path_factory.mktemp("generated")
    # In a process of its own: grpc_tools' compiler shows protobuf's unique symbols (STB_GNU_UNIQUE), to which the
    # protobuf of libkdn.so would be bound although it is another version.
    options = [f"-I{PROTO}", f"--python_out={out}", f"--grpc_python_out={out}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, "kdn/v1/kdn.proto"], check=True)
    kdn.__path__.append(str(out / "kdn"))  # the generated package is named kdn, as ours is
    yield importlib.import_module("kdn.v1.kdn_pb2")
    kdn.__path__.pop()


@pytest.fixture
def channel(start):
    with grpc.insecure_channel(start().endpoint) as opened:
        yield opened


@pytest.fixture
def stub(messages, channel):
    return importlib.import_module("kdn.v1.kdn_pb2_grpc").KdnStub(channel)


def store_frames(messages, fingerprint, digest, container):
    for offset in range(0, len(container), FRAME_BYTES):
        data = container[offset : offset + FRAME_BYTES]
        begin = None
        if offset == 0:
            begin = messages.StoreBegin(
                fingerprint=fingerprint, chunk_digest=digest, container_bytes=len(container), kind=PREFIX
            )
        yield messages.StoreFrame(begin=begin, offset=offset, crc32c=crc32c(data), data=data)


def retrieved(frames):
    """The container that a Retrieve of one chunk, all cells, delivers."""
    content = bytearray()
    ended = False
    for frame in frames:
        assert not frame.miss, frame.miss_message
        if frame.HasField("part_begin"):
            assert frame.part_begin.sent_bytes == frame.part_begin.container_bytes
        assert frame.offset == len(content) and frame.crc32c == crc32c(frame.data)
        assert len(frame.data) <= FRAME_BYTES
        content += frame.data
        ended = frame.chunk_end
    assert ended
    return bytes(content)


def test_a_generated_client_stores_and_retrieves(messages, stub, start):
    spec = kv.spec(layers=8, kv_heads=4, head_dim=64)
    tokens, data = list(range(CHUNK_TOKENS)), kv.make(kv.spec(layers=8, kv_heads=4, head_dim=64), CHUNK_TOKENS)
    source = start(data="source")
    with kv.connect(source.endpoint, profile="raw") as client:
        model = client.register_model(spec, CHUNK_TOKENS)
        client.store(model, tokens, data)
        digest = client.chunk_digests(model, tokens)[0]
        container = client.fetch_container(model, digest)
    assert len(container) > 2 * FRAME_BYTES

    registered = stub.RegisterModel(
        messages.RegisterModelRequest(canonical_spec=kdn.client.encode_spec(spec), chunk_tokens=CHUNK_TOKENS)
    )
    assert registered.fingerprint == model.fingerprint and registered.created
    offer = messages.FindMissingRequest(
        fingerprint=model.fingerprint, chunks=[messages.ChunkOffer(chunk_digest=digest)]
    )
    assert any(stub.FindMissing(offer).missing[0].bitmap)
    stored = stub.Store(store_frames(messages, model.fingerprint, digest, container)).results
    assert [result.outcome for result in stored] == [messages.STORED], stored
    assert not any(stub.FindMissing(offer).missing[0].bitmap)
    assert stub.Lookup(
        messages.LookupRequest(fingerprint=model.fingerprint, chunk_digests=[digest])
    ).hit_tokens == len(tokens)
    request = messages.RetrieveRequest(
        fingerprint=model.fingerprint, chunks=[messages.ChunkRequest(chunk_digest=digest)]
    )
    assert retrieved(stub.Retrieve(request)) == container


def test_a_wrong_checksum_makes_nothing_visible(messages, stub):
    spec = kv.spec()
    fingerprint = stub.RegisterModel(
        messages.RegisterModelRequest(canonical_spec=kdn.client.encode_spec(spec))
    ).fingerprint
    digest = bytes(range(32))
    frames = list(store_frames(messages, fingerprint, digest, b"not a container"))
    frames[0].crc32c ^= 1
    result = stub.Store(iter(frames)).results[0]
    assert result.outcome == messages.REJECTED and result.code == grpc.StatusCode.DATA_LOSS.value[0], result
    lookup = messages.LookupRequest(fingerprint=fingerprint, chunk_digests=[digest])
    assert stub.Lookup(lookup).hit_tokens == 0


def test_the_standard_health_service_answers(channel):
    check = channel.unary_unary("/grpc.health.v1.Health/Check", lambda message: message, lambda message: message)
    serving = b"\x08\x01"
    assert check(b"") == serving
