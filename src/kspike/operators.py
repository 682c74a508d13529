# SPDX-License-Identifier: MIT
"""The two linear operators of the problem: A = P F, the masked Fourier transform, and D, the periodic gradient.

Real images are accepted at the precision of the operator (float32 for complex64, float64 for complex128): that is an
exact embedding. Any other difference of dtype is an error. Leading dimensions are a batch.
"""

from __future__ import annotations

import numpy as np

from kspike import door, kernels
from kspike._backends import select

__all__ = ["Gradient", "MaskedFourier"]

EMBEDDING = {np.dtype("float32"): np.dtype("complex64"), np.dtype("float64"): np.dtype("complex128")}


def _embed(name, x, dtypes):
    """A real array as the complex array of the same precision, if that is one of the dtypes; else x as it is."""
    dtype = EMBEDDING.get(getattr(x, "dtype", None))
    return x.astype(dtype) if dtype in dtypes else x


class MaskedFourier:
    """A x = P F x: the samples, in C order of the centred mask, of the centred orthonormal DFT of an image.

    Its rows are orthonormal, A A* = I, so the adjoint, zero-filling and inverse transform, is the pseudo-inverse too.

    Parameters
    ----------
    mask : bool array (rows, cols), zero frequency at [rows // 2, cols // 2]
    dtype : "complex64" or "complex128"
    backend : None (the fastest for NumPy arrays), "cpp", "numba", "cupy" or "reference"
    threads : how many threads the engine may use
    """

    def __init__(self, mask, *, dtype="complex64", backend=None, threads=1):
        door.mask(mask)
        self.mask = mask.copy()
        self.mask.flags.writeable = False
        self.shape, self.samples = mask.shape, int(np.count_nonzero(mask))
        self.dtype, self.threads = door.precision(dtype), door.whole("threads", threads, 1)
        self._engine = select(backend)
        self.backend = door.label(self._engine)
        self._plan = self._engine.Plan(self.mask, self.dtype, self.threads)

    def __call__(self, x, out=None):
        """A x: (..., rows, cols) -> (..., m)."""
        x = _embed("x", x, (self.dtype,))
        door.array("x", x, self.shape, (self.dtype,))
        door.resident("x", x, self._engine)
        out = door.output(out, x, (*x.shape[:-2], self.samples), self.dtype, x)
        self._plan.forward(door.batched(x, 2), out=door.batched(out, 1))
        return out

    def adjoint(self, y, out=None):
        """A* y: (..., m) -> (..., rows, cols)."""
        door.array("y", y, (self.samples,), (self.dtype,))
        door.resident("y", y, self._engine)
        out = door.output(out, y, (*y.shape[:-1], *self.shape), self.dtype, y)
        self._plan.adjoint(door.batched(y, 1), out=door.batched(out, 2))
        return out

    def __repr__(self):
        return f"MaskedFourier({self.shape}, samples={self.samples}, dtype={self.dtype.name}, backend={self.backend})"


class Gradient:
    """D x = (x[i+1, j] - x[i, j], x[i, j+1] - x[i, j]) on a torus; complex of the precision it is given.

    Parameters
    ----------
    shape : (rows, cols)
    backend : as for `MaskedFourier`
    """

    def __init__(self, shape, *, backend=None):
        self.shape = door.shape2(shape)
        self.backend = door.label(select(backend))

    def __call__(self, x, out=None):
        """D x: (..., rows, cols) -> (..., 2, rows, cols)."""
        x = _embed("x", x, door.COMPLEX)
        door.array("x", x, self.shape)
        return kernels.grad(x, out, backend=self.backend)

    def adjoint(self, d, out=None):
        """D* d: (..., 2, rows, cols) -> (..., rows, cols)."""
        door.array("d", d, (2, *self.shape))
        return kernels.grad_adjoint(d, out, backend=self.backend)

    def __repr__(self):
        return f"Gradient({self.shape}, backend={self.backend})"
