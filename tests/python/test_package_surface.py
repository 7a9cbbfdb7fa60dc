"""What people meet first: names that complete, a version, tokens out of files, and words about what is missing."""

import os
import subprocess
import sys

import kdn
import pytest


def test_every_public_name_is_listed_and_there():
    assert set(kdn.__all__) <= set(dir(kdn))
    for name in kdn.__all__:
        assert getattr(kdn, name) is not None


def test_version_is_that_of_the_library():
    from kdn._native import ffi, lib

    assert ffi.string(lib.kdn_version()).decode() == kdn.__version__


def test_token_may_end_with_the_newline_of_its_file():
    kdn.Client("127.0.0.1:1", token=" secret\n").close()
    with pytest.raises(kdn.KdnError, match="token"):
        kdn.Client("127.0.0.1:1", token="two words")


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_missing_packages_of_transformers_are_named_with_the_remedy(missing):
    program = f"""
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == {missing!r} else find(name, *more)
import kdn.transformers
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert f"kdn.transformers needs {missing}: pip install" in done.stderr
