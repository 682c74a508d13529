# SPDX-License-Identifier: MIT
"""BART: `bart pics` as its own command, process and files included: that is how it is used."""

import os
import shutil
import subprocess
import tempfile

import numpy as np
from problem import ahead  # this folder's

FUNCTIONAL = "backward"
LADDER = True  # each look is a run from the start, and there are few
SETTINGS = tuple({"rho": rho} for rho in (0.03, 0.02, 0.05, 0.1, 0.01))


def versions():
    """Of the command."""
    return {"bart": subprocess.run(["bart", "version"], capture_output=True, text=True).stdout.strip()}


def pics(problem, dtype, threads, rho):
    """ADMM with its total variation along both axes, data not rescaled."""
    if shutil.which("bart") is None:
        raise ModuleNotFoundError("bart: the command is not there, type apt-get install bart")
    if np.dtype(dtype) != np.complex64:
        raise ValueError("BART is single precision only")
    folder = tempfile.TemporaryDirectory()
    arrays = {"k": problem.spectrum(dtype), "one": np.ones(problem.mask.shape), "mask": problem.mask}
    for name, array in arrays.items():
        _write(f"{folder.name}/{name}", array)
    options = ["-m", "-u", str(rho), "-w", "1", "-R", f"T:3:0:{problem.lam}", "-p", "mask", "-d", "0"]
    surroundings = {"cwd": folder.name, "env": os.environ | {"OMP_NUM_THREADS": str(threads)}}

    def once(iterations):
        command = ["bart", "pics", *options, "-i", str(iterations), "k", "one", "x"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **surroundings)
        return np.fromfile(f"{folder.name}/x.cfl", "complex64").reshape(problem.mask.shape[::-1]).T

    first = 10 if problem.n <= 256 else problem.n // 2  # where to look: beyond 256 the early ones would be dear

    def run(iterations, look=None):
        k = iterations if look is None else first
        while k <= iterations:
            x = once(k)
            if look is None or look(k, x):
                break
            k = ahead(k, look.curve, look.left)
        return x

    return run


def _write(name, a):
    """An array in BART's format: text header, column-major complex64."""
    with open(f"{name}.hdr", "w") as header:
        header.write("# Dimensions\n" + " ".join(map(str, (*a.shape, *(1,) * 14))) + "\n")
    np.asarray(a, "complex64").T.tofile(f"{name}.cfl")


CONTESTANTS = {"BART pics": pics}
