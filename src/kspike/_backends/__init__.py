# SPDX-License-Identifier: MIT
"""The engines and the choice between them.

An engine is a module with exactly the functions named in `KERNELS` and a class `Plan`, with the meaning, argument order
and shapes of `kspike.reference` - except that the caller always passes a C-contiguous `out`, and all arrays agree in
dtype. An engine never checks what it is given beyond memory safety: `kspike.kernels`, `operators` and `solver` check at
the door.
"""

from __future__ import annotations

import importlib
import os

__all__ = ["ENGINES", "KERNELS", "PLAN", "available", "select"]

KERNELS = (
    "grad",
    "grad_adjoint",
    "clip",
    "shrink",
    "support",
    "reflect",
    "reflect_tangent",
    "shrink_update",
    "shrink_update_tangent",
    "shrink_update_adjoint",
)
PLAN = ("forward", "adjoint", "resolvent", "state", "tape", "iterate", "freeze", "tangent", "reverse")

# name -> (the modules, any of whose absence means that the engine is absent; what to type to get it)
ENGINES = {
    "cpp": (
        "kspike._core kspike._kernels",
        "pip install -v --force-reinstall --no-deps .  (in the checkout, with a C++20 compiler)",
    ),
    "numba": ("numba scipy", "pip install 'kspike[numba]'"),
    "cupy": ("cupy", "pip install 'kspike[gpu]'"),
    "reference": ("numpy", ""),
}


def _load(name):
    """Import an engine; None if a module it needs is absent. Any other import error is shown."""
    modules, _ = ENGINES[name]
    try:
        return importlib.import_module("kspike.reference" if name == "reference" else f"kspike._backends.{name}")
    except ModuleNotFoundError as error:
        if error.name in modules.split():
            return None
        raise


def available():
    """Names of the engines that can be used here, fastest first; the reference is not among them."""
    return [name for name in ENGINES if name != "reference" and _load(name) is not None]


def select(backend=None, *, device="cpu"):
    """The engine module for arrays on a device ("cpu" or "cuda"): the one asked for, KSPIKE_BACKEND, or the fastest.

    Raises ValueError for an unknown name and ImportError, with the line to type, for one that is missing.
    """
    name = backend or os.environ.get("KSPIKE_BACKEND") or None
    if name is not None:
        if name not in ENGINES:
            raise ValueError(f"unknown backend {name!r}: expected one of {', '.join(ENGINES)}")
        engine = _load(name)
        if engine is None:
            raise ImportError(f"backend {name!r} is not installed: {ENGINES[name][1]}")
        return engine
    for name in ("cupy",) if device == "cuda" else ("cpp", "numba"):
        engine = _load(name)
        if engine is not None:
            return engine
    wanted = "; or ".join(ENGINES[n][1] for n in (("cupy",) if device == "cuda" else ("cpp", "numba")))
    raise ImportError(f"no engine for {device} arrays is installed: {wanted}")
