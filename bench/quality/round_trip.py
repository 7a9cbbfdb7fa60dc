"""KV through a real client and a real kdnd: what comes back, and what the server says it keeps."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import pathlib
import time
from collections.abc import Sequence
from typing import Any, Optional

import kdn
import torch
from engine import CHUNK_TOKENS, Engine, digest_of
from kdn.transformers.cache import LayerKv, empty_kv, kv_bytes
from simulate import SIMULATIONS

LIST_LIMIT = 1000  # chunks of one context that the server lists at once
TIMEOUT_S = 600.0
CHECK_DOCUMENT = "check"
REFUSALS = ("INVALID_ARGUMENT", "UNIMPLEMENTED")
FINGERPRINT = slice(8, 40)  # of the model, in a calibration object


@dataclasses.dataclass(frozen=True)
class Profile:
    """`name[:level]`, as --profiles takes it."""

    name: str
    level: Optional[float] = None

    @classmethod
    def parse(cls, text: str) -> Profile:
        name, _, level = text.partition(":")
        return cls(name, float(level) if level else None)

    @property
    def label(self) -> str:
        return self.name if self.level is None else f"{self.name}:{self.level:g}"

    @property
    def simulated(self) -> bool:
        return self.name in SIMULATIONS


@dataclasses.dataclass(frozen=True)
class Receipt:
    """Bytes of one context. `raw` counts every row stored, `reachable_raw` those that a reader of the whole context
    needs (a sliding-window layer's last ones); `received` is what such a reader was sent."""

    raw_bytes: int
    stored_bytes: int
    reachable_raw_bytes: int
    received_bytes: int
    tiles: dict[str, int]  # by the profile they are coded at
    store_s: float
    load_s: float


class NotInThisBuild(Exception):
    """The client knows no such profile or level, or has no calibration object for it."""


class Server:
    """Stores at one profile after the other. Identities are kept apart by profile: what is there exactly takes none that loses."""

    def __init__(self, endpoint: str):
        self._endpoint = endpoint

    def check(self, engine: Engine, profile: Profile) -> None:
        """Stores one chunk of noise. Raises NotInThisBuild with the client's words when it refuses the profile or the
        level, or would use another profile instead."""
        kv = [
            LayerKv(torch.randn_like(layer.k), torch.randn_like(layer.v), layer.first_row)
            for layer in empty_kv(engine.spec, CHUNK_TOKENS)
        ]
        try:
            with self._connect(profile) as client:
                model = client.register_model(engine.spec, chunk_tokens=CHUNK_TOKENS, name=engine.name)
                options = {"extra_keys": (f"check {profile.label}",), "document": CHECK_DOCUMENT}
                stored = client.store(model, range(CHUNK_TOKENS), kv, **_level(profile), **options)
                client.admin("Delete", document=CHECK_DOCUMENT)
        except kdn.KdnError as error:
            if error.code not in REFUSALS:
                raise
            raise NotInThisBuild(str(error)) from error
        if fallback := stored.details.get("fallback"):
            raise NotInThisBuild(f"the client used another profile: {fallback}")

    def put_objects(self, engine: Engine, files: Sequence[pathlib.Path]) -> list[dict[str, Any]]:
        """Stores and activates the calibration objects of this model, and says which they are and how large."""
        found = []
        for file in files:
            data = file.read_bytes()
            if data[FINGERPRINT].hex() != engine.fingerprint:
                continue
            with self._connect(Profile("lossless")) as client:
                if not hasattr(client, "put_calibration"):
                    raise ValueError(f"{file}: this build's client takes no calibration objects")
                model = client.register_model(engine.spec, chunk_tokens=CHUNK_TOKENS, name=engine.name)
                client.put_calibration(data, model, activate=True, name=file.name)
            found.append({"file": file.name, "sha256": hashlib.sha256(data).hexdigest(), "object_bytes": len(data)})
        return found

    def round_trip(
        self, engine: Engine, profile: Profile, ids: Sequence[int], kv: Sequence[LayerKv]
    ) -> tuple[list[LayerKv], Receipt]:
        """Raises RuntimeError when a chunk is rejected or missed, or the server's count of KV is not the caller's."""
        document = f"{profile.label}/{digest_of(ids)}"
        with self._connect(profile) as client:
            model = client.register_model(engine.spec, chunk_tokens=CHUNK_TOKENS, name=engine.name)
            options = {"extra_keys": (profile.label,)}
            begin = time.perf_counter()
            stored = client.store(model, ids, kv, document=document, **_level(profile), **options)
            between = time.perf_counter()
            loaded = empty_kv(engine.spec, len(ids))
            found = client.retrieve(model, ids, loaded, **options)
            end = time.perf_counter()
            if stored.tokens_present != len(ids) or found.tokens_hit != len(ids):
                raise RuntimeError(f"{engine.name} {profile.label}: {stored}; {found}")
            kept, raw, tiles = self._kept(client, document)
            client.admin("Delete", document=document)
        if raw != kv_bytes(kv):
            raise RuntimeError(f"the server counts {raw} bytes of KV where {kv_bytes(kv)} were stored")
        return loaded, Receipt(
            raw, kept, kv_bytes(loaded), found.bytes_received, tiles, between - begin, end - between
        )  # fmt: skip

    def _kept(self, client: kdn.Client, document: str) -> tuple[int, int, dict[str, int]]:
        """Bytes of all containers, KV before coding, and tiles by profile, as the server reports them."""
        listed = client.admin("ListChunks", document=document, limit=LIST_LIMIT)
        if listed.get("next_page_token"):
            raise RuntimeError(f"{document} has more than {LIST_LIMIT} chunks")
        kept, tiles = 0, {}
        for chunk in listed["chunks"]:
            shown = client.admin("InspectChunk", chunk_digest=chunk["chunk_digest"])
            for part in shown["parts"]:
                kept += int(part["container_bytes"])
                for name, count in part["tiles_by_profile"].items():
                    tiles[name] = tiles.get(name, 0) + int(count)
        return kept, sum(int(chunk["raw_bytes"]) for chunk in listed["chunks"]), tiles

    def _connect(self, profile: Profile) -> kdn.Client:
        waits = {"dead_after": 20.0, "call_timeout": 60.0, "transfer_timeout": TIMEOUT_S}
        return kdn.Client(self._endpoint, profile=profile.name, **waits)


def _level(profile: Profile) -> dict[str, float]:
    """The argument of Client.store. Raises NotInThisBuild when it takes none."""
    if profile.level is None:
        return {}
    if "level" not in inspect.signature(kdn.Client.store_async).parameters:
        raise NotInThisBuild("this build's client takes no levels")
    return {"level": profile.level}


def simulated(profile: Profile, kv: Sequence[LayerKv]) -> tuple[list[LayerKv], Receipt]:
    """The same for a codec that exists only in simulate.py."""
    begin = time.perf_counter()
    coded, size = SIMULATIONS[profile.name](kv, 1.0 if profile.level is None else profile.level)
    raw = kv_bytes(kv)
    return coded, Receipt(raw, size, raw, size, {}, time.perf_counter() - begin, 0.0)
