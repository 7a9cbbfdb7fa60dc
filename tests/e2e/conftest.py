"""Fixtures of the end-to-end tests."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "client" / "python"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from daemon import Daemon  # noqa: E402


@pytest.fixture
def start(tmp_path):
    """start(**settings) -> a serving Daemon on tmp_path/data. At the end it must still be there and stop cleanly:
    a crash that a test's own calls outlived, or what a sanitizer says at exit, fails the test."""
    daemons = []

    def make(data="data", **settings):
        daemon = Daemon(tmp_path / data, **settings)
        daemons.append(daemon)
        return daemon.start()

    yield make
    codes = [daemon.stop() for daemon in daemons if daemon.serving]
    assert all(code == 0 for code in codes), (codes, ["".join(daemon.log)[-4000:] for daemon in daemons])
