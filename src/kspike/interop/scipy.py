# SPDX-License-Identifier: MIT
"""A and D as `scipy.sparse.linalg.LinearOperator`: flat vectors, for lsqr, lsmr, cg, svds and the like.

SciPy has no total variation. What its least-squares solvers find is argmin ||A x - y||, of smallest norm: A*y.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse.linalg import LinearOperator

from kspike.interop.shapes import shapes

__all__ = ["linear_operator"]


def linear_operator(A, *, dtype=None):
    """A on flat vectors, (rows cols) -> (m) or (2 rows cols), and on matrices of such columns.

    A : `kspike.MaskedFourier` or `kspike.Gradient`
    dtype : for a Gradient, "complex64" or "complex128" (default); a MaskedFourier has its own. Vectors of another dtype
        are cast to it, as SciPy's solvers, which work in double, expect.
    """
    return _Flat(A, dtype)


class _Flat(LinearOperator):
    def __init__(self, A, dtype):
        self._A, (self._image, self._data) = A, shapes(A)
        dtype = np.dtype(getattr(A, "dtype", dtype or "complex128"))
        super().__init__(dtype, (math.prod(self._data), math.prod(self._image)))

    def _matmat(self, X):
        return self._through(self._A, X, self._image)

    def _rmatmat(self, Y):
        return self._through(self._A.adjoint, Y, self._data)

    def _matvec(self, x):
        return self._matmat(x.reshape(-1, 1))[:, 0]

    def _rmatvec(self, y):
        return self._rmatmat(y.reshape(-1, 1))[:, 0]

    def _through(self, apply, X, shape):
        batch = np.ascontiguousarray(X.T, self.dtype).reshape(-1, *shape)
        return apply(batch).reshape(len(batch), -1).T
