"""Builds libkdn.so with CMake and puts it, with its header, into the package. KDN_LIBRARY names one built before."""

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


def native_library():
    named = os.environ.get("KDN_LIBRARY")
    if named:
        return pathlib.Path(named)
    if not (SOURCE / "CMakeLists.txt").is_file():
        raise SystemExit("setup.py: no KDN source tree around client/python; set KDN_LIBRARY to a built libkdn.so")
    build = SOURCE / "build" / "python"
    configure = ["cmake", "-S", str(SOURCE), "-B", str(build), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                 "-DKDN_BUILD_TESTS=OFF"]
    subprocess.run(configure, check=True)
    subprocess.run(["cmake", "--build", str(build), "--target", "kdn_c"], check=True)
    return build / "client" / "kdn" / "libkdn.so"


class BuildWithLibrary(build_py):
    def run(self):
        super().run()
        package = pathlib.Path(self.build_lib) / "kdn"
        package.mkdir(parents=True, exist_ok=True)
        shutil.copy2(native_library().resolve(), package / "libkdn.so")
        shutil.copy2(SOURCE / "client" / "kdn" / "kdn.h", package / "kdn.h")


class PlatformWheel(bdist_wheel):
    """One wheel for every Python 3: the library is loaded through its C ABI."""

    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


setup(cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": PlatformWheel})
