# SPDX-License-Identifier: MIT
"""A copy of the package with an engine of its own: instrumented, or with a fault planted in a kernel."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

import kspike

__all__ = ["ROOT", "environment", "package", "preload"]

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = ["-DKSPIKE_BASELINE", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
MODULES = {"_core": "plans.cpp", "_kernels": "kernels.cpp"}


def package(folder, *flags, edits=(), compiler="g++"):
    """Compile csrc, after the edits (file, old text, new text), as the baseline level of a copy of kspike in `folder`.

    Returns the folder to put on PYTHONPATH. Each old text must be there exactly once, or the fault would be none.
    """
    folder = pathlib.Path(folder)
    csrc, there = folder / "csrc", folder / "kspike"
    shutil.copytree(
        pathlib.Path(kspike.__file__).parent, there, ignore=shutil.ignore_patterns("*.so", "_csrc", "__pycache__")
    )
    shutil.copytree(ROOT / "csrc", csrc)
    for file, old, new in edits:
        place = (csrc if (csrc / file).exists() else there) / file
        text = place.read_text()
        if text.count(old) != 1:
            raise ValueError(f"{file}: expected the text to change once, found it {text.count(old)} times: {old!r}")
        place.write_text(text.replace(old, new))
    shutil.copytree(csrc, there / "_csrc")
    includes = subprocess.run(
        [sys.executable, "-m", "pybind11", "--includes"], check=True, capture_output=True, text=True
    )
    command = [compiler, "-std=c++20", "-shared", "-fPIC", "-pthread", "-fvisibility=hidden", *FLAGS, *flags]
    for name, source in MODULES.items():
        module = there / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
        names = [f"-DKSPIKE_MODULE={name}", *includes.stdout.split(), "-o", module]
        subprocess.run([*command, *names, csrc / source], check=True)
    return folder


def environment(folder, **more):
    """The environment of a process that imports the copy in `folder`."""
    return {**os.environ, "PYTHONPATH": str(folder), "KSPIKE_ISA": "baseline", **more}


def preload(compiler, library):
    """Where the compiler keeps a run-time library, for LD_PRELOAD; with the C++ library, whose throw it wraps."""
    found = []
    for name in (library, "libstdc++.so"):
        command = [compiler, f"-print-file-name={name}"]
        path = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        if not os.path.isabs(path):
            raise FileNotFoundError(f"{compiler} has no {name}: apt install {compiler}")
        found.append(os.path.realpath(path))
    return ":".join(found)
