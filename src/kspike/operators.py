# SPDX-License-Identifier: MIT
"""The two linear operators of the problem: A = P F, the masked Fourier transform, and D, the periodic gradient.

Real images are accepted at the precision of the operator (float32 for complex64, float64 for complex128): that is an
exact embedding. Any other difference of dtype is an error. Leading dimensions are a batch.
"""

from __future__ import annotations

import functools

import numpy as np

from kspike import door, kernels, reference
from kspike._backends import select

__all__ = ["Gradient", "MaskedFourier"]

EMBEDDING = {np.dtype("float32"): np.dtype("complex64"), np.dtype("float64"): np.dtype("complex128")}


def _embed(name, x, dtypes):
    """A real array as the complex array of the same precision, if that is one of the dtypes; else x as it is."""
    dtype = EMBEDDING.get(getattr(x, "dtype", None))
    return x.astype(dtype) if dtype in dtypes else x


class MaskedFourier:
    """A x = P F x: the samples, in C order of the centred mask, of the centred orthonormal DFT of an image or a signal.

    Its rows are orthonormal, A A* = I, so the adjoint, zero-filling and inverse transform, is the pseudo-inverse too.

    Parameters
    ----------
    mask : bool array (rows, cols), zero frequency at [rows // 2, cols // 2]; or (n,) for signals, at [n // 2]
    dtype : "complex64" or "complex128"
    backend : None (the fastest for NumPy arrays), "cpp", "numba", "cupy" or "reference". A signal is transformed by
        "numpy", for which None stands there: the engines run many transforms side by side, and a signal is one
    threads : how many threads the engine may use
    """

    def __init__(self, mask, *, dtype="complex64", backend=None, threads=1):
        door.mask(mask, signal=True)
        self.mask = mask.copy()
        self.mask.flags.writeable = False
        self.shape, self.samples = mask.shape, int(np.count_nonzero(mask))
        self.dtype, self.threads = door.precision(dtype), door.threads(threads)
        self._engine, self.backend = _engine(self.shape, backend)
        if mask.ndim == 1:
            self._plan = _Signals(self.mask, self.dtype)
        else:
            self._plan = self._engine.Plan(self.mask, self.dtype, self.threads)

    def __call__(self, x, out=None):
        """A x: (..., rows, cols) -> (..., m), or (..., n) -> (..., m)."""
        x, inner = _embed("x", x, (self.dtype,)), len(self.shape)
        door.array("x", x, self.shape, (self.dtype,))
        door.resident("x", x, self._engine)
        out = door.output(out, x, (*x.shape[:-inner], self.samples), self.dtype, x)
        self._plan.forward(door.batched(x, inner), out=door.batched(out, 1))
        return out

    def adjoint(self, y, out=None):
        """A* y: (..., m) -> (..., rows, cols) or (..., n)."""
        door.array("y", y, (self.samples,), (self.dtype,))
        door.resident("y", y, self._engine)
        out = door.output(out, y, (*y.shape[:-1], *self.shape), self.dtype, y)
        self._plan.adjoint(door.batched(y, 1), out=door.batched(out, len(self.shape)))
        return out

    def put(self, x):
        """A NumPy array where the operator's arrays live: copied to the GPU for backend "cupy", x itself elsewhere."""
        return self._engine.cupy.asarray(x) if self.backend == "cupy" else x

    def __reduce__(self):
        """What a pickle holds: of what the operator was made. The plan is made anew where it is read."""
        options = {"dtype": self.dtype.name, "backend": self.backend, "threads": self.threads}
        return functools.partial(type(self), **options), (self.mask,)

    def __repr__(self):
        return f"MaskedFourier({self.shape}, samples={self.samples}, dtype={self.dtype.name}, backend={self.backend})"


class Gradient:
    """D x = (x[i+1, j] - x[i, j], x[i, j+1] - x[i, j]) on a torus; complex of the precision it is given.

    A signal has one difference: D x = x[i+1] - x[i], (..., n) -> (..., n).

    Parameters
    ----------
    shape : (rows, cols) or (n,)
    backend : as for `MaskedFourier`
    """

    def __init__(self, shape, *, backend=None):
        self.shape = door.extent(shape)
        self.backend = _engine(self.shape, backend)[1]

    def __call__(self, x, out=None):
        """D x: (..., rows, cols) -> (..., 2, rows, cols), or (..., n) -> (..., n)."""
        x = _embed("x", x, door.COMPLEX)
        door.array("x", x, self.shape)
        if len(self.shape) == 1:
            out = door.output(out, x, x.shape, x.dtype, x)
            return np.subtract(np.roll(x, -1, -1), x, out=out)
        return kernels.grad(x, out, backend=self.backend)

    def adjoint(self, d, out=None):
        """D* d: (..., 2, rows, cols) -> (..., rows, cols), or (..., n) -> (..., n)."""
        if len(self.shape) == 1:
            door.array("d", d, self.shape)
            out = door.output(out, d, d.shape, d.dtype, d)
            return np.subtract(np.roll(d, 1, -1), d, out=out)
        door.array("d", d, (2, *self.shape))
        return kernels.grad_adjoint(d, out, backend=self.backend)

    def __repr__(self):
        return f"Gradient({self.shape}, backend={self.backend})"


def _engine(shape, backend):
    """The engine for images or signals of this shape, and its name."""
    if len(shape) == 2:
        engine = select(backend)
        return engine, door.label(engine)
    if backend not in (None, "numpy"):
        raise ValueError(f"backend: expected None or 'numpy' for signals {shape}, got {backend!r}")
    return reference, "numpy"


class _Signals:
    """The plan of A for signals (batch, n), by NumPy's transform; the centring is a phase on the m samples."""

    def __init__(self, mask, dtype):
        n = mask.size
        k = np.flatnonzero(mask) - n // 2
        self._at, self._n = k % n, n
        self._phase = reference.root(k * (n // 2) % n / n).astype(dtype)

    def forward(self, x, out):
        np.multiply(np.fft.fft(x, norm="ortho")[:, self._at], self._phase, out=out)

    def adjoint(self, y, out):
        spectrum = np.zeros((len(y), self._n), y.dtype)
        spectrum[:, self._at] = y * self._phase.conj()
        np.fft.ifft(spectrum, norm="ortho", out=out)
