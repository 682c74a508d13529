# SPDX-License-Identifier: MIT
"""Build the C++ engine: one module for each instruction set, chosen at import (kspike/_backends/cpp.py).

KSPIKE_NO_CPP=1 leaves it out (the Numba engine needs no compiler); KSPIKE_WERROR=1 makes warnings errors.
"""

import os
import platform

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

WARNINGS = ["-Wall", "-Wextra", "-Wconversion"]
LEVELS = {"_core": ["-DKSPIKE_BASELINE"]}
if platform.machine() in ("x86_64", "AMD64"):
    LEVELS["_core"] += ["-march=x86-64"]
    LEVELS["_core_v3"] = ["-march=x86-64-v3"]
    LEVELS["_core_v4"] = ["-march=x86-64-v4"]


def extension(name, flags):
    """The module kspike.<name>; -ffp-contract=off in the baseline keeps its kernels equal on every machine."""
    contract = ["-ffp-contract=off"] if name == "_core" else []
    werror = ["-Werror"] if os.environ.get("KSPIKE_WERROR") else []
    return Pybind11Extension(
        f"kspike.{name}",
        ["csrc/bindings.cpp"],
        cxx_std=20,
        include_dirs=["csrc"],
        depends=[f"csrc/{h}.hpp" for h in ("scalar", "simd", "fft", "threads", "passes", "admm", "stencil")],
        define_macros=[("KSPIKE_MODULE", name)],
        extra_compile_args=["-O3", "-fno-math-errno", "-fno-trapping-math", "-pthread", *WARNINGS, *werror, *contract, *flags],
        extra_link_args=["-pthread"],
    )


setup(ext_modules=[] if os.environ.get("KSPIKE_NO_CPP") else [extension(n, f) for n, f in LEVELS.items()])
