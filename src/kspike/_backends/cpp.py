# SPDX-License-Identifier: MIT
"""The C++ engine: `csrc/*.hpp` through pybind11. The processor's instruction set picks the two modules it runs from.

KSPIKE_ISA = baseline, v3 or v4 forces a level (x86-64 microarchitecture levels; v3 has AVX2, v4 AVX-512). The single
kernels give the same bits at every level.
"""

from __future__ import annotations

import importlib
import os

import kspike._kernels as _baseline

__all__ = [
    "BEST",
    "ISA",
    "LEVELS",
    "Plan",
    "clip",
    "grad",
    "grad_adjoint",
    "reflect",
    "reflect_tangent",
    "shrink",
    "shrink_update",
    "shrink_update_adjoint",
    "shrink_update_tangent",
    "support",
]

BEST = _baseline.isa()
"""The best level that this processor has."""
LEVELS = ("baseline", "v3", "v4")


def _choose():
    """The level asked for by KSPIKE_ISA, else the best one."""
    asked = os.environ.get("KSPIKE_ISA") or BEST
    if asked not in LEVELS:
        raise ValueError(f"KSPIKE_ISA={asked}: expected one of {', '.join(LEVELS)}")
    if LEVELS.index(asked) > LEVELS.index(BEST):
        raise ValueError(f"KSPIKE_ISA={asked}: this processor goes up to {BEST}")
    return asked


def _module(name):
    """A compiled module at the chosen level."""
    return importlib.import_module(f"kspike.{name}" + ("" if ISA == "baseline" else f"_{ISA}"))


ISA = _choose()
_plans, _kernels = _module("_core"), _module("_kernels")

clip = _kernels.clip
grad = _kernels.grad
grad_adjoint = _kernels.grad_adjoint
reflect = _kernels.reflect
reflect_tangent = _kernels.reflect_tangent
shrink = _kernels.shrink
shrink_update = _kernels.shrink_update
shrink_update_adjoint = _kernels.shrink_update_adjoint
shrink_update_tangent = _kernels.shrink_update_tangent
support = _kernels.support


def Plan(mask, dtype="complex64", threads=1, norm="separable"):
    """The plan of one mask in one precision. See reference.Plan."""
    return (_plans.Plan64 if str(dtype) == "complex64" else _plans.Plan128)(mask, threads, norm)
