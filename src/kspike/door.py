# SPDX-License-Identifier: MIT
"""What may enter: the checks that the public functions make of their arguments before an engine sees them.

Nothing is cast or copied here. A message says what was expected, what came and, where one line mends it, what to type.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = [
    "COMPLEX",
    "array",
    "batched",
    "device",
    "extent",
    "finite",
    "label",
    "mask",
    "number",
    "output",
    "precision",
    "put",
    "resident",
    "scale",
    "shape2",
    "threads",
    "whole",
]

COMPLEX = (np.dtype("complex64"), np.dtype("complex128"))
SCALE = {COMPLEX[0]: (1e-30, 1e30), COMPLEX[1]: (1e-120, 1e120)}  # of data and of rho


def device(x, name="x"):
    """Where the array lives: "cpu" for NumPy, "cuda" for CuPy. Raises TypeError for anything else."""
    if isinstance(x, np.ndarray):
        _plain(name, x)
        return "cpu"
    if type(x).__module__.partition(".")[0] == "cupy":
        return "cuda"
    raise TypeError(f"{name}: expected a NumPy or CuPy array, got {type(x).__name__}")


def _plain(name, x):
    """Refuse the NumPy arrays that are not what they hold: a matrix has two axes always, a masked array hides some."""
    if isinstance(x, np.matrix | np.ma.MaskedArray):
        line = f"{name}.filled(0)" if isinstance(x, np.ma.MaskedArray) else f"np.asarray({name})"
        raise TypeError(f"{name}: expected a plain NumPy array, got a {type(x).__name__}: type {line}")


def resident(name, x, engine):
    """Check that x lives where the engine runs."""
    wanted = "cuda" if engine.__name__.endswith(".cupy") else "cpu"
    if device(x, name) != wanted:
        kind = "CuPy" if wanted == "cuda" else "NumPy"
        raise TypeError(
            f"{name}: expected a {kind} array for backend {label(engine)!r}, got one of {type(x).__module__}"
        )


def put(A, x):
    """A NumPy array where the arrays of an operator live: `A.put(x)` if it has that, else x."""
    return A.put(x) if hasattr(A, "put") else x


def label(engine):
    """The name of an engine module, as `backend=` takes it."""
    return engine.__name__.rpartition(".")[-1]


def _dims(trailing):
    return "(" + ", ".join(["...", *map(str, trailing)]) + ")"


def array(name, x, trailing, dtypes=COMPLEX):
    """Check that x is C-contiguous, of one of the dtypes and of shape (..., *trailing), where a string is any size."""
    device(x, name)
    if x.dtype not in dtypes:
        wanted = " or ".join(d.name for d in dtypes)
        hint = f": type {name}.astype({_advised(x.dtype, dtypes).name!r})" if x.dtype.kind in "fc" else ""
        came = x.dtype.name if x.dtype.isnative else f"{x.dtype.name} of the other byte order"
        raise TypeError(f"{name}: expected {wanted}, got {came}{hint}")
    inner = x.shape[x.ndim - len(trailing) :]
    fits = len(inner) == len(trailing)
    if not fits or any(n < 1 if isinstance(w, str) else n != w for n, w in zip(inner, trailing, strict=True)):
        raise ValueError(f"{name}: expected shape {_dims(trailing)}, got {x.shape}")
    if not x.flags.c_contiguous:
        raise ValueError(f"{name}: expected C-contiguous, got strides {x.strides}: type np.ascontiguousarray({name})")
    _aligned(name, x)


def _aligned(name, x):
    """Refuse numbers that begin where a processor may not load them, as in a view of a file with an odd header."""
    if isinstance(x, np.ndarray) and not x.flags.aligned:
        raise ValueError(f"{name}: expected aligned memory, got numbers between two places: type {name}.copy()")


def _advised(came, dtypes):
    """The dtype to advise: the one of the same precision where it is allowed."""
    same = np.result_type(came, np.complex64)
    return same if same in dtypes else dtypes[0]


def finite(name, x):
    """Check that x holds no NaN and no infinity."""
    if not np.isfinite(x).all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")


def scale(name, x):
    """Check that x is finite and of a size whose squares and sums stay numbers: zero, or its largest part within SCALE.

    One pass over x: a NaN is the largest of anything.
    """
    parts = x.view(x.real.dtype)
    largest = float(np.abs(parts).max()) if x.size else 0.0
    if not math.isfinite(largest):
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    low, high = SCALE[x.dtype]
    if largest and not low <= largest <= high:
        raise ValueError(f"{name}: expected a largest value from {low:g} to {high:g} in {x.dtype}, got {largest:.3g}")


def batched(x, inner):
    """View (..., *trailing) as (batch, *trailing), `inner` trailing dimensions, without a copy."""
    lead = x.shape[: x.ndim - inner]
    return x.reshape(math.prod(lead), *x.shape[x.ndim - inner :])


def output(out, like, shape, dtype, *inputs):
    """`out` if it is fit to be written, or a new array beside `like` if it is None. It may not overlap the inputs."""
    if out is None:
        plain = {"subok": False} if isinstance(like, np.ndarray) else {}  # CuPy knows no subclasses
        return np.empty_like(like, shape=shape, dtype=dtype, order="C", **plain)
    if device(out, "out") != device(like):
        raise TypeError(f"out: expected a {type(like).__name__} like the input, got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"out: expected {np.dtype(dtype).name}, got {out.dtype.name}")
    if out.shape != shape:
        raise ValueError(f"out: expected shape {shape}, got {out.shape}")
    if not out.flags.c_contiguous:
        raise ValueError(f"out: expected a C-contiguous array, got strides {out.strides}")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out: expected a writeable array, got a read-only one")
    _aligned("out", out)
    if any(np.may_share_memory(out, x) for x in inputs):
        raise ValueError("out: expected memory of its own, got an array that overlaps an input")
    return out


def mask(mask, signal=False):
    """Check a sampling mask: a bool array (rows, cols), or (n,) for a `signal` too, with at least one sample."""
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        came = mask.dtype.name if isinstance(mask, np.ndarray) else type(mask).__name__
        raise TypeError(f"mask: expected a NumPy bool array, got {came}")
    _plain("mask", mask)
    if mask.ndim not in ((1, 2) if signal else (2,)) or not mask.size:
        raise ValueError(f"mask: expected shape (rows, cols){' or (n,)' if signal else ''}, got {mask.shape}")
    if not mask.any():
        raise ValueError(f"mask: expected at least one sample, got none in {mask.shape}")


def shape2(shape, name="shape"):
    """(rows, cols) as a tuple of two positive integers."""
    try:
        rows, cols = map(int, shape)
    except (TypeError, ValueError, OverflowError):
        rows = cols = 0
    if rows < 1 or cols < 1 or (rows, cols) != tuple(shape):
        raise ValueError(f"{name}: expected (rows, cols) of positive integers, got {shape!r}")
    return rows, cols


def extent(shape, name="shape"):
    """(rows, cols) of an image or (n,) of a signal as a tuple of positive integers."""
    if len(np.shape(shape)) == 1 and len(shape) == 1:
        return (whole(name, shape[0], 1),)
    return shape2(shape, name)


def precision(dtype):
    """The dtype of a plan: complex64 or complex128."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found not in COMPLEX:
        raise ValueError(f"dtype: expected 'complex64' or 'complex128', got {dtype!r}")
    return found


def number(name, value, low=-math.inf, high=math.inf, *, closed=False):
    """A finite real number in the open interval (low, high), or in [low, high) where `closed`, as a float."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or not (low < number or (closed and low == number)) or not number < high:
        bounds = f"{'[' if closed else '('}{low:g}, {high:g})"
        raise ValueError(f"{name}: expected a number in {bounds}, got {value!r}")
    return number


def whole(name, value, low, high=2**63 - 1):
    """An integer of at least `low` and at most `high`."""
    if isinstance(value, bool) or not hasattr(type(value), "__index__") or value < low:
        raise ValueError(f"{name}: expected an integer of at least {low}, got {value!r}")
    if value > high:
        raise ValueError(f"{name}: expected an integer of at most {high}, got {value!r}")
    return int(value)


def threads(count):
    """How many threads an engine may use; what asks for thousands means something else."""
    return whole("threads", count, 1, 1024)
