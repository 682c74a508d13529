# SPDX-License-Identifier: MIT
"""The C++ engine: `csrc/*.hpp` through pybind11. The processor's instruction set picks the module that holds the plans.

KSPIKE_ISA = baseline, v3 or v4 forces a level (x86-64 microarchitecture levels; v3 has AVX2, v4 AVX-512). The single
kernels are bound by memory, not arithmetic: they run at the baseline level everywhere and give the same bits on every
machine.
"""

from __future__ import annotations

import importlib
import os

import kspike._core as _core
from kspike._core import (
    clip,
    grad,
    grad_adjoint,
    reflect,
    reflect_tangent,
    shrink,
    shrink_update,
    shrink_update_adjoint,
    shrink_update_tangent,
    support,
)

__all__ = [
    "ISA",
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

_LEVELS = ("baseline", "v3", "v4")


def _choose_isa():
    """The level asked for by KSPIKE_ISA, else the best one that this processor has."""
    best = _core.isa()
    asked = os.environ.get("KSPIKE_ISA") or best
    if asked not in _LEVELS:
        raise ValueError(f"KSPIKE_ISA={asked}: expected one of {', '.join(_LEVELS)}")
    if _LEVELS.index(asked) > _LEVELS.index(best):
        raise ValueError(f"KSPIKE_ISA={asked}: this processor goes up to {best}")
    return asked


ISA = _choose_isa()
_plans = _core if ISA == "baseline" else importlib.import_module(f"kspike._core_{ISA}")


def Plan(mask, dtype="complex64", threads=1, norm="separable"):
    """The plan of one mask in one precision. See reference.Plan."""
    return (_plans.Plan64 if str(dtype) == "complex64" else _plans.Plan128)(mask, threads, norm)
