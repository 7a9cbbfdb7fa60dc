"""Builds libkdn.so as the release preset does and puts it, with its header, into the package.

KDN_LIBRARY names one built before: then nothing is built.
"""

import os
import pathlib
import shutil
import subprocess

from setuptools import setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:
    from wheel.bdist_wheel import bdist_wheel

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parents[1]
HEADER = SOURCE / "client" / "kdn" / "kdn.h"


def native_library():
    """The library that KDN_LIBRARY names, else that of build/release, which is made or brought up to date."""
    named = os.environ.get("KDN_LIBRARY")
    if named:
        return pathlib.Path(named)
    build = SOURCE / "build" / "release"
    # As deploy/lib.sh says it: what the other scripts compiled is found in the compiler cache.
    environment = {"CCACHE_BASEDIR": str(SOURCE), "CCACHE_NOHASHDIR": "1", **os.environ}
    if not (build / "CMakeCache.txt").is_file():
        cmake("--preset", "release", "-DKDN_BUILD_TESTS=OFF", env=environment)
    jobs = os.environ.get("KDN_JOBS", str(os.cpu_count()))
    cmake("--build", str(build), "-j", jobs, "--target", "kdn_c", env=environment)
    return build / "client" / "kdn" / "libkdn.so"


def cmake(*arguments, env):
    subprocess.run(["cmake", *arguments], check=True, cwd=SOURCE, env=env)


class BuildWithLibrary(build_py):
    def run(self):
        super().run()
        if not HEADER.is_file():
            raise SystemExit(f"setup.py: {HEADER} is missing: install from client/python of a KDN source tree")
        package = pathlib.Path(self.build_lib) / "kdn"
        package.mkdir(parents=True, exist_ok=True)
        shutil.copy2(native_library().resolve(), package / "libkdn.so")
        shutil.copy2(HEADER, package / "kdn.h")


class PlatformWheel(bdist_wheel):
    """One wheel for every Python 3: the library is loaded through its C ABI."""

    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


setup(cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": PlatformWheel})
