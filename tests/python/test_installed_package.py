"""`pip install ./client/python` into a fresh environment, and the program of its README against a real kdnd."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "e2e"))
from daemon import Daemon, build_dir  # noqa: E402

pytestmark = pytest.mark.slow
PROGRAM = re.search(r"```python\n(.*?)```", (ROOT / "client" / "python" / "README.md").read_text(), re.DOTALL).group(1)


@pytest.fixture
def kdnd(tmp_path):
    with Daemon(tmp_path / "data") as daemon:
        yield daemon


def program(kdnd):
    assert "127.0.0.1:9460" in PROGRAM
    return PROGRAM.replace("127.0.0.1:9460", kdnd.endpoint)


def environment(**more):
    """Without what makes tests find the source tree."""
    return {**{key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "KDN_LIBRARY")}, **more}


@pytest.fixture
def fresh(tmp_path):
    """The interpreter of a new virtual environment, which sees this one's pip, cffi and NumPy: nothing is downloaded."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    Path(site.strip(), "of-the-tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def install(python, tmp_path, **more):
    command = [python, "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation", "-v"]
    done = subprocess.run(
        [*command, str(ROOT / "client" / "python")], capture_output=True, text=True, cwd=tmp_path, env=environment(**more)
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def run(python, tmp_path, text):
    done = subprocess.run([python, "-c", text], capture_output=True, text=True, cwd=tmp_path, env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_installed_package_brings_its_library_and_runs_the_program_of_the_readme(fresh, tmp_path, kdnd):
    output = install(fresh, tmp_path, KDN_LIBRARY=str(build_dir() / "client" / "kdn" / "libkdn.so"))
    assert "cmake" not in output
    where = run(fresh, tmp_path, "import kdn, kdn._native; print(kdn.__file__, kdn.__version__)").split()
    package = Path(where[0]).parent
    assert package.is_relative_to(tmp_path / "venv") and package.parent.name == "site-packages"
    assert (package / "libkdn.so").is_file() and (package / "kdn.h").is_file()
    maps = "import kdn._native; print(open('/proc/self/maps').read())"
    assert str(package / "libkdn.so") in run(fresh, tmp_path, maps)
    metadata = run(fresh, tmp_path, "import importlib.metadata; print(importlib.metadata.version('kdn'))")
    assert metadata.strip() == where[1]
    assert run(fresh, tmp_path, program(kdnd)).split("\n")[:2] == ["600 tokens stored", "600 tokens loaded"]


def test_installing_uses_the_release_build_that_is_there(fresh, tmp_path):
    release = ROOT / "build" / "release"
    if build_dir().resolve() != release or not (release / "client" / "kdn" / "libkdn.so").is_file():
        pytest.skip("build/release is not the build under test")
    trees = set((ROOT / "build").iterdir())
    install(fresh, tmp_path)
    package = Path(run(fresh, tmp_path, "import kdn; print(kdn.__file__)")).parent
    assert (package / "libkdn.so").read_bytes() == (release / "client" / "kdn" / "libkdn.so").read_bytes()
    assert set((ROOT / "build").iterdir()) == trees
