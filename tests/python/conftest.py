"""Fixtures shared by the Python tests."""

import os
import sys
from pathlib import Path

import pytest

# Before PyTorch is imported: spinning OpenMP threads make generation many times slower on a machine that is not idle.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "client" / "python"))


def pytest_collection_modifyitems(items):
    for item in items:
        parameters = getattr(item, "callspec", None)
        named = parameters.params.get("fixture") if parameters else None
        if {"smollm2", "gemma3"} & {*item.fixturenames, named}:
            item.add_marker("model")


def _load(name):
    from kdn import models

    return models.load(name)


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M-Instruct in bf16: (model, tokenizer, weights_digest)."""
    return _load("smollm2")


@pytest.fixture(scope="session")
def gemma3():
    """Gemma 3 270M in bf16: (model, tokenizer, weights_digest)."""
    return _load("gemma3-270m")
