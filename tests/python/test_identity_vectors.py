"""The identity rules, implemented a second time from kernels/layout/README.md and kernels/chunk/README.md alone."""

import hashlib
import pathlib
import struct

VECTORS = pathlib.Path(__file__).parents[1] / "kernels" / "chunk" / "known_answers.txt"


def sha(data):
    return hashlib.sha256(data).digest()


def spec_field(tag, value):
    return struct.pack("<BI", tag, len(value)) + value


def rope(step, dim=32):
    freqs, freq = [], 1.0
    for _ in range(dim // 2):
        freqs.append(freq)
        freq = struct.unpack("<f", struct.pack("<f", freq * struct.unpack("<f", struct.pack("<f", step))[0]))[0]
    return struct.pack("<BIIfI", 1, dim, 0, 1.0, len(freqs)) + struct.pack(f"<{len(freqs)}f", *freqs)


def spec_bytes():
    """Two sliding-window layers (window 64, one KV head of 32), rope 1; bf16."""
    layer = struct.pack("<BIIIII", 2, 64, 1, 32, 32, 1)
    return (
        b"KDNMODEL"
        + struct.pack("<H", 1)
        + b"".join(
            [
                spec_field(1, sha(b"weights")),
                spec_field(2, sha(b"tokenizer")),
                spec_field(3, bytes(32)),
                spec_field(4, b"\x01"),
                spec_field(5, struct.pack("<I", 2) + rope(0.9) + rope(0.8)),
                spec_field(6, struct.pack("<I", 2) + layer * 2),
                spec_field(7, struct.pack("<I", 0)),
                spec_field(8, struct.pack("<I", 0)),
                spec_field(9, struct.pack("<I", 0)),
            ]
        )
    )


def fields(*pairs):
    return sha(b"".join(struct.pack("<BQ", tag, len(value)) + value for tag, value in pairs))


def token_bytes(tokens):
    return struct.pack(f"<{len(tokens)}I", *tokens)


def chunk_digest(fingerprint, kind, parent, begin, tokens, extra=()):
    return fields(
        (0, b"kdn.chunk.v1"),
        (1, fingerprint),
        (2, bytes([kind])),
        (3, parent),
        (4, struct.pack("<Q", begin)),
        (5, token_bytes(tokens)),
        *((6, key) for key in extra),
    )


def answers():
    fingerprint = sha(spec_bytes())
    tokens = list(range(1000, 1040))
    result = {"spec": spec_bytes().hex(), "fingerprint": fingerprint.hex()}
    parent = bytes(32)
    for i, begin in enumerate(range(0, 40, 16)):
        parent = chunk_digest(fingerprint, 1, parent, begin, tokens[begin : begin + 16])
        result[f"prefix{i}"] = parent.hex()
    result["prefix0_extra"] = chunk_digest(fingerprint, 1, bytes(32), 0, tokens[:16], [b"image:abc", b"salt"]).hex()
    context = fields((0, b"kdn.context.v1"), (1, fingerprint), (5, token_bytes([7, 8, 9])))
    result["context"] = context.hex()
    result["segment0"] = chunk_digest(fingerprint, 2, context, 3, tokens[:16]).hex()
    text = "Na\u00efve caf\u00e9\n".encode()
    result["text"] = fields((0, b"kdn.text.v1"), (1, fingerprint), (7, b"default"), (8, text)).hex()
    return result


def test_independent_implementation_reproduces_every_vector():
    lines = [line.split(" = ") for line in VECTORS.read_text().splitlines() if line and not line.startswith("#")]
    assert answers() == {name: value.strip() for name, value in lines}
