# SPDX-License-Identifier: MIT
"""Arrays of any library through DLPack, without a copy: `through(tv)` is tv for tensors of torch, JAX, CuPy and others.

    solve = through(kspike.TVSolver(mask, lam))
    x = solve(y)                         # y a torch tensor: so is x; a JAX array: so is x

Memory of the CPU is seen as a NumPy array, memory of a CUDA device as a CuPy array; what comes back is exported to the
library of the first foreign argument. Derivatives are not recorded: `kspike.torch` has operators that are.
"""

from __future__ import annotations

import sys

import numpy as np

__all__ = ["export", "native", "through"]

CPU, CUDA = 1, 2  # DLDeviceType


def native(x):
    """The NumPy or CuPy array that shares the memory of x, anything with `__dlpack__`; TypeError for anything else."""
    if isinstance(x, np.ndarray) or _library(x) == "cupy":
        return x
    if not hasattr(x, "__dlpack__"):
        raise TypeError(f"expected an array with __dlpack__ (NumPy, CuPy, torch, JAX ...), got {type(x).__name__}")
    kind, _ = x.__dlpack_device__()
    if kind == CPU:
        return np.from_dlpack(x)
    if kind == CUDA:
        import cupy

        return cupy.from_dlpack(x)
    raise TypeError(f"expected an array on the CPU or a CUDA device, got DLPack device type {int(kind)}")


def export(array, like):
    """The array of `like`'s library that shares the memory of a NumPy or CuPy array."""
    if isinstance(like, np.ndarray) or _library(like) == "cupy":
        return array
    find = getattr(like, "__array_namespace__", None)
    return (find() if find else sys.modules[_library(like)]).from_dlpack(array)


def through(function):
    """The same function for arrays of any library: DLPack arguments go in `native`, array results come `export`ed."""

    def call(*args, **kwargs):
        like = next((a for a in (*args, *kwargs.values()) if hasattr(a, "__dlpack__")), None)
        result = function(*map(_inward, args), **{name: _inward(a) for name, a in kwargs.items()})
        if isinstance(result, tuple):
            return tuple(export(r, like) if hasattr(r, "__dlpack__") else r for r in result)
        return export(result, like) if hasattr(result, "__dlpack__") else result

    return call


def _inward(argument):
    return native(argument) if hasattr(argument, "__dlpack__") else argument


def _library(x):
    return type(x).__module__.partition(".")[0]
