"""Loads libkdn.so and declares its functions from the C header that belongs to it.

gRPC, a shared library that libkdn.so brings with it, starts no thread before the first call that reaches a server, and
none of its threads ever enters Python.
"""

from __future__ import annotations

import os
import pathlib
import re

import cffi

_PACKAGE = pathlib.Path(__file__).resolve().parent
_SOURCE = _PACKAGE.parents[2]
_ABI_VERSION = 1

ffi = cffi.FFI()


def _header_path() -> pathlib.Path:
    for path in (_PACKAGE / "kdn.h", _SOURCE / "client" / "kdn" / "kdn.h"):
        if path.is_file():
            return path
    raise ImportError(f"kdn.h is neither in {_PACKAGE} nor in a source tree around it: reinstall the package kdn")


def declarations(header: str) -> str:
    """What cffi can read of kdn.h: types, integer constants and functions, without preprocessor and comments."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    text = re.sub(r"#ifdef __cplusplus.*?#endif", "", text, flags=re.DOTALL)
    constants = re.findall(r"^#define (KDN_[A-Z0-9_]+) (\d+)\s*$", text, flags=re.MULTILINE)
    text = re.sub(r"^#.*?$", "", text, flags=re.MULTILINE)
    text = text.replace("KDN_API", "")
    return "".join(f"#define {name} {value}\n" for name, value in constants) + text


def _candidates() -> list[pathlib.Path]:
    named = os.environ.get("KDN_LIBRARY")
    if named:
        return [pathlib.Path(named)]
    built = [_SOURCE / "build" / preset / "client" / "kdn" / "libkdn.so" for preset in ("release", "dev")]
    return [_PACKAGE / "libkdn.so", *built]


def _load():
    ffi.cdef(declarations(_header_path().read_text(encoding="utf-8")))
    tried = _candidates()
    path = next((path for path in tried if path.is_file()), None)
    if path is None:
        raise ImportError(
            "libkdn.so was not found; looked for "
            + ", ".join(map(str, tried))
            + ". Install the package with 'pip install ./client/python', or name the library with KDN_LIBRARY"
        )
    library = ffi.dlopen(str(path))
    if library.kdn_abi_version() != _ABI_VERSION:
        raise ImportError(f"{path} has ABI version {library.kdn_abi_version()}, this package needs {_ABI_VERSION}")
    return library


lib = _load()
