# SPDX-License-Identifier: MIT
"""A and D as `pylops.LinearOperator`, to be stacked, regularised and solved there; PyProximal takes them too.

PyLops' FirstDerivative is not periodic and PyProximal's TV is isotropic or the modulus: for kspike's functional use
`linear_operator(kspike.Gradient(shape))` with an l1 norm on real and imaginary part.
"""

from __future__ import annotations

import numpy as np
import pylops

from kspike.interop.shapes import shapes

__all__ = ["linear_operator"]


def linear_operator(A, *, dtype=None):
    """A with dims (rows, cols) and dimsd (m,) or (2, rows, cols).

    A : `kspike.MaskedFourier` or `kspike.Gradient`
    dtype : for a Gradient, "complex64" or "complex128" (default); vectors of another dtype are cast to the operator's
    """
    return _Operator(A, dtype)


class _Operator(pylops.LinearOperator):
    def __init__(self, A, dtype):
        self.A, (dims, dimsd) = A, shapes(A)
        super().__init__(dtype=np.dtype(getattr(A, "dtype", dtype or "complex128")), dims=dims, dimsd=dimsd)

    def _matvec(self, x):
        return self.A(np.ascontiguousarray(x, self.dtype).reshape(self.dims)).ravel()

    def _rmatvec(self, y):
        return self.A.adjoint(np.ascontiguousarray(y, self.dtype).reshape(self.dimsd)).ravel()
