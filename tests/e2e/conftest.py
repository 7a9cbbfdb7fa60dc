"""Fixtures of the end-to-end tests."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "client" / "python"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from daemon import Daemon  # noqa: E402


@pytest.fixture
def start(tmp_path):
    """start(**settings) -> a serving Daemon on tmp_path/data, stopped at the end."""
    daemons = []

    def make(data="data", **settings):
        daemon = Daemon(tmp_path / data, **settings)
        daemons.append(daemon)
        return daemon.start()

    yield make
    for daemon in daemons:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
