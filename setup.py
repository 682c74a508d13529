# SPDX-License-Identifier: MIT
"""Build the C++ engine: for each instruction set a module of plans and one of single kernels, chosen at import.

Without a compiler kspike installs all the same, runs on Numba and says so (`kspike info`; here with `pip install -v`).
KSPIKE_NO_CPP=1 leaves the modules out; KSPIKE_WERROR=1 makes warnings, and a build that fails, errors.
KSPIKE_BUILD_CUDA=1 also compiles the CUDA sources, which the CUDA engine otherwise does at run time, and needs no
toolkit and no GPU (kspike/_backends/cuda_build.py).
"""

import copy
import glob
import itertools
import os
import pathlib
import platform
import subprocess
import sys

from pybind11.setup_helpers import Pybind11Extension
from setuptools import find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import BaseError, CCompilerError

FLAGS = ["-O2", "-g0", "-fno-math-errno", "-fno-trapping-math", "-pthread", "-Wall", "-Wextra", "-Wconversion"]
STRICT = bool(os.environ.get("KSPIKE_WERROR"))
CUDA = bool(os.environ.get("KSPIKE_BUILD_CUDA"))
# The plain loops of the single kernels are vectorised at -O3 only, and without fused multiply-add give the same bits at
# every level.
SOURCES = {"_core": ("csrc/plans.cpp", []), "_kernels": ("csrc/kernels.cpp", ["-O3", "-ffp-contract=off"])}
LEVELS = {"": ["-DKSPIKE_BASELINE"]}
if platform.machine() in ("x86_64", "AMD64"):
    LEVELS[""] += ["-march=x86-64"]
    LEVELS["_v3"] = ["-march=x86-64-v3"]
    LEVELS["_v4"] = ["-march=x86-64-v4"]


def extension(module, level):
    """The module kspike.<module><level>: for each level the same source, other flags."""
    source, flags = SOURCES[module]
    return Pybind11Extension(
        f"kspike.{module}{level}",
        [source],
        cxx_std=20,
        include_dirs=["csrc"],
        depends=sorted(glob.glob("csrc/*.hpp")),
        define_macros=[("KSPIKE_MODULE", module + level)],
        extra_compile_args=[*FLAGS, *flags, *LEVELS[level], *(["-Werror"] if STRICT else [])],
        extra_link_args=["-pthread"],
    )


class BuildLevels(build_ext):
    """All levels or none; each in its own folder, for they come from one source and are compiled at the same time."""

    def build_extension(self, ext):
        """Compile one level."""
        own = copy.copy(self)
        own.build_temp = os.path.join(self.build_temp, ext.name)
        build_ext.build_extension(own, ext)

    def run(self):
        """Compile all levels."""
        try:
            super().run()
        except (BaseError, CCompilerError) as error:
            if STRICT:
                raise
            for path in self.get_outputs():
                pathlib.Path(path).unlink(missing_ok=True)
            self.extensions = []
            self.warn(
                f"\n\n    kspike: THE C++ ENGINE IS MISSING: {error}\n"
                "    kspike will run on the slower Numba engine: pip install '.[numba]'\n"
                "    To have it, install a C++20 compiler (apt install g++) and repeat this installation.\n"
            )


class BuildSources(build_py):
    """Copy the package and, if asked to, compile the CUDA sources of the copy into it."""

    def run(self):
        """Copy, compile."""
        super().run()
        if CUDA and not self.editable_mode:
            package = os.path.abspath(self.build_lib)
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join([package, *filter(None, sys.path)])}
            subprocess.run([sys.executable, "-m", "kspike._backends.cuda_build"], check=True, env=environment)


setup(
    packages=[*find_packages("src"), "kspike._csrc"],
    ext_modules=[]
    if os.environ.get("KSPIKE_NO_CPP")
    else [extension(*pair) for pair in itertools.product(SOURCES, LEVELS)],
    cmdclass={"build_ext": BuildLevels, "build_py": BuildSources},
    setup_requires=["numpy>=2.0", "nvidia-cuda-nvrtc==13.0.88", "nvidia-nvfatbin==13.0.85"] if CUDA else [],
    options={"build_ext": {"parallel": True}},
)
