"""An in-memory server with KDN's rules of prefixes, chunks and reachable rows, for tests of the engine side alone."""

import hashlib
from types import SimpleNamespace

from kdn.errors import KdnError


class FakeKdn:
    """Keeps each chunk's rows per layer; tokens decide identity. `dropped` chunk indices are lost at retrieve only."""

    def __init__(self):
        self.chunks = {}
        self.texts = {}
        self.dropped = set()
        self.failure = None
        self.pinned = 256  # chunk length for those that name none
        self.code = "UNAVAILABLE"  # of the failure
        self.calls = []
        self.names = []

    def register_model(self, spec, chunk_tokens=256, name=""):
        self._enter("register_model")
        self.names.append(name)
        return SimpleNamespace(
            spec=spec,
            fingerprint=hashlib.sha256(repr(spec).encode()).digest(),
            chunk_tokens=chunk_tokens or self.pinned,
        )

    def lookup(self, model, token_ids):
        self._enter("lookup")
        spans = self._spans(model, token_ids)
        return next((end for _, end in reversed(spans) if self._complete(model, token_ids, end)), 0)

    def lookup_text(self, model, text, policy="default"):
        self._enter("lookup_text")
        found = self.texts.get((model.fingerprint, policy, text))
        if found is None:
            return None
        return SimpleNamespace(token_ids=found, hit_tokens=self.lookup(model, found))

    def retrieve(self, model, token_ids, kv):
        self._enter("retrieve")
        hit, received = 0, 0
        for index, (begin, end) in enumerate(self._spans(model, token_ids)):
            stored = self.chunks.get(self._key(model, token_ids[:end]))
            if stored is None or index in self.dropped:
                break
            for source, target in zip(stored, kv):
                first = max(target.first_row, begin)
                if first < end:
                    received += self._copy(source, target, first, end)
            hit = end
        return SimpleNamespace(tokens_hit=hit, bytes_received=received)

    def store(self, model, token_ids, kv):
        self._enter("store")
        stored = 0
        for begin, end in self._spans(model, token_ids):
            key = self._key(model, token_ids[:end])
            if key in self.chunks:
                continue
            self.chunks[key] = [
                SimpleNamespace(
                    first=max(layer.first_row, begin),
                    k=layer.k[:, max(begin - layer.first_row, 0) : max(end - layer.first_row, 0)].clone(),
                    v=layer.v[:, max(begin - layer.first_row, 0) : max(end - layer.first_row, 0)].clone(),
                )
                for layer in kv
            ]
            stored += 1
        return SimpleNamespace(chunks_stored=stored)

    def store_text(self, model, text, token_ids, kv, policy="default"):
        result = self.store(model, token_ids, kv)
        self.texts[model.fingerprint, policy, text] = list(token_ids)
        return result

    def _enter(self, name):
        self.calls.append(name)
        if self.failure is not None:
            raise KdnError(self.code, self.failure)

    @staticmethod
    def _spans(model, token_ids):
        starts = range(0, len(token_ids), model.chunk_tokens)
        return [(begin, min(begin + model.chunk_tokens, len(token_ids))) for begin in starts]

    @staticmethod
    def _key(model, token_ids):
        return model.fingerprint, tuple(token_ids)

    @staticmethod
    def _copy(source, target, first, end):
        assert source.first <= first
        rows = slice(first - target.first_row, end - target.first_row)
        for part in ("k", "v"):
            held = getattr(source, part)[:, first - source.first :]
            getattr(target, part)[:, rows].copy_(held)
        return 2 * held.numel() * held.element_size()

    def _complete(self, model, token_ids, prefix_end):
        for begin, end in self._spans(model, token_ids[:prefix_end]):
            stored = self.chunks.get(self._key(model, token_ids[:end]))
            if stored is None:
                return False
            for layer, held in zip(model.spec.layers, stored):
                needed = max(begin, prefix_end - layer.window + 1) if layer.window else begin
                if needed < end and held.first > needed:
                    return False
        return True
