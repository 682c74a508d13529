# SPDX-License-Identifier: MIT
"""The single kernels, for people who write their own solver: `kspike.kernels.grad(x)`, with `out=` where time counts.

The formulas are those of the functions of the same names in `kspike.reference`. Arrays are complex64 or complex128 and
C-contiguous, any leading dimensions are a batch, and the engine is chosen by the array: NumPy on the CPU, CuPy on the
GPU (`backend=` or KSPIKE_BACKEND overrides). Nothing is cast or copied; `out` may not overlap an input.
"""

from __future__ import annotations

import functools

import numpy as np

from kspike import door
from kspike._backends import select

__all__ = [
    "clip",
    "grad",
    "grad_adjoint",
    "masked_fourier",
    "masked_fourier_adjoint",
    "reflect",
    "reflect_tangent",
    "resolvent",
    "shrink",
    "shrink_update",
    "shrink_update_adjoint",
    "shrink_update_tangent",
    "support",
]

IMAGE = ("rows", "cols")
FIELD = (2, "rows", "cols")
BITS = (np.dtype("uint8"),)


def _engine(x, backend):
    """The engine for the array x: the one asked for, KSPIKE_BACKEND or the fastest, if it runs where x lives."""
    engine = select(backend, device=door.device(x))
    door.resident("array", x, engine)
    return engine


def _run(name, operands, scalars, result, out, backend):
    """Check the operands {name: (array, kind)}, of which the first fixes sizes and dtype; call the engine's kernel."""
    first = lead = size = None
    for label, (x, kind) in operands.items():
        bits = kind is BITS
        if first is None:
            door.array(label, x, kind)
            first, lead, size = x, x.shape[: x.ndim - len(kind)], x.shape[-2:]
        else:
            door.array(label, x, IMAGE if bits else kind, BITS if bits else (first.dtype,))
            wanted = lead + (FIELD[:1] if kind is FIELD else ()) + size
            if x.shape != wanted:
                raise ValueError(f"{label}: expected shape {wanted}, got {x.shape}")
    shape = lead + (FIELD[:1] if result is FIELD else ()) + size
    arrays = [x for x, _ in operands.values()]
    out = door.output(out, first, shape, BITS[0] if result is BITS else first.dtype, *arrays)
    kernel = getattr(_engine(first, backend), name)
    flat = [door.batched(x, len(FIELD) if kind is FIELD else len(IMAGE)) for x, kind in operands.values()]
    kernel(*flat, *scalars, out=door.batched(out, len(FIELD) if result is FIELD else len(IMAGE)))
    return out


def _ball(v, t, norm):
    """min(1, t / |v|), in a shape that multiplies v."""
    if norm not in ("modulus", "isotropic"):
        raise ValueError(f"norm: expected one of separable, modulus, isotropic, got {norm!r}")
    size = np.abs(v) if norm == "modulus" else np.sqrt((np.abs(v) ** 2).sum(-3, keepdims=True))
    return t / np.where(size > t, size, t or 1)


def _threshold(t):
    return door.number("t", t, 0, closed=True)


def grad(x, out=None, *, backend=None):
    """D x, periodic forward differences: (..., rows, cols) -> (..., 2, rows, cols)."""
    return _run("grad", {"x": (x, IMAGE)}, (), FIELD, out, backend)


def grad_adjoint(d, out=None, *, backend=None):
    """D* d: (..., 2, rows, cols) -> (..., rows, cols)."""
    return _run("grad_adjoint", {"d": (d, FIELD)}, (), IMAGE, out, backend)


def clip(v, t, out=None, *, norm="separable", backend=None):
    """Clip the field v to [-t, t], real and imaginary parts separately; or v min(1, t / |v|) in another norm.

    norm : "separable", or "modulus" and "isotropic", in array operations: |v| is of a component, of a pixel's two
    """
    if norm != "separable":
        door.array("v", v, FIELD)
        return np.multiply(v, _ball(v, _threshold(t), norm), out=door.output(out, v, v.shape, v.dtype, v))
    return _run("clip", {"v": (v, FIELD)}, (_threshold(t),), FIELD, out, backend)


def shrink(v, t, out=None, *, norm="separable", backend=None):
    """Soft thresholding v - clip(v, t) of the field v, real and imaginary parts separately or as in `clip`."""
    if norm != "separable":
        door.array("v", v, FIELD)
        return np.multiply(v, 1 - _ball(v, _threshold(t), norm), out=door.output(out, v, v.shape, v.dtype, v))
    return _run("shrink", {"v": (v, FIELD)}, (_threshold(t),), FIELD, out, backend)


def support(w, t, out=None, *, backend=None):
    """4 bits per pixel, uint8 (..., rows, cols): bit 2c + p is set where part p of w[c] has modulus above t."""
    return _run("support", {"w": (w, FIELD)}, (_threshold(t),), BITS, out, backend)


def reflect(w, t, out=None, *, backend=None):
    """D*(w - 2 clip(w, t)): (..., 2, rows, cols) -> (..., rows, cols)."""
    return _run("reflect", {"w": (w, FIELD)}, (_threshold(t),), IMAGE, out, backend)


def reflect_tangent(dw, bits, out=None, *, backend=None):
    """The derivative of `reflect` where `bits = support(w, t)`: D*((2 S - 1) dw)."""
    return _run("reflect_tangent", {"dw": (dw, FIELD), "bits": (bits, BITS)}, (), IMAGE, out, backend)


def shrink_update(w, x, t, relax, out=None, *, backend=None):
    """The next state of over-relaxed ADMM, w + relax (D x - shrink(w, t))."""
    scalars = _threshold(t), door.number("relax", relax)
    return _run("shrink_update", {"w": (w, FIELD), "x": (x, IMAGE)}, scalars, FIELD, out, backend)


def shrink_update_tangent(dw, dx, bits, relax, out=None, *, backend=None):
    """The derivative of `shrink_update` where `bits = support(w, t)`: dw + relax (D dx - S dw)."""
    operands = {"dw": (dw, FIELD), "dx": (dx, IMAGE), "bits": (bits, BITS)}
    return _run("shrink_update_tangent", operands, (door.number("relax", relax),), FIELD, out, backend)


def shrink_update_adjoint(g, r, bits, relax, rho, out=None, *, backend=None):
    """One step of the reverse sweep on the field: g - relax S g + rho (2 S - 1) D r."""
    operands = {"g": (g, FIELD), "r": (r, IMAGE), "bits": (bits, BITS)}
    scalars = door.number("relax", relax), door.number("rho", rho, 0)
    return _run("shrink_update_adjoint", operands, scalars, FIELD, out, backend)


@functools.lru_cache(maxsize=4)
def _cached_plan(pattern, shape, dtype, engine):
    return engine.Plan(np.frombuffer(pattern, bool).reshape(shape), dtype, 1)


def _plan(x, mask, backend):
    """The plan for a mask on the engine of x; the last four are kept."""
    return _cached_plan(mask.tobytes(), mask.shape, x.dtype, _engine(x, backend))


def masked_fourier(x, mask, out=None, *, backend=None):
    """A x = P F x: (..., rows, cols) -> (..., m). For many calls with one mask keep a `kspike.MaskedFourier`."""
    door.mask(mask)
    door.array("x", x, mask.shape)
    out = door.output(out, x, (*x.shape[:-2], int(np.count_nonzero(mask))), x.dtype, x)
    _plan(x, mask, backend).forward(door.batched(x, 2), out=door.batched(out, 1))
    return out


def masked_fourier_adjoint(y, mask, out=None, *, backend=None):
    """A* y = F^-1 P* y, zero-filled: (..., m) -> (..., rows, cols)."""
    door.mask(mask)
    door.array("y", y, (int(np.count_nonzero(mask)),))
    out = door.output(out, y, (*y.shape[:-1], *mask.shape), y.dtype, y)
    _plan(y, mask, backend).adjoint(door.batched(y, 1), out=door.batched(out, 2))
    return out


def resolvent(b, mask, rho, out=None, *, backend=None):
    """(A*A + rho D*D)^-1 b: the x-update. Where the zero frequency is not sampled the result has no component in it."""
    door.mask(mask)
    door.array("b", b, mask.shape)
    rho = door.number("rho", rho, 0)
    out = door.output(out, b, b.shape, b.dtype, b)
    _plan(b, mask, backend).resolvent(door.batched(b, 2), rho, out=door.batched(out, 2))
    return out
