# SPDX-License-Identifier: MIT
"""A and D as `sigpy.linop.Linop`.

SigPy's own TotalVariationRecon solves 1/2 ||A x - y||^2 + lam sum |d| with backward differences, periodic, |d| the
complex modulus: `kspike.TVSolver(mask, lam, norm="modulus")` is the same problem, for over a period the moduli of both
are the same. `linop(kspike.Gradient(shape))` gives SigPy kspike's forward differences; its L1Reg remains the modulus.
"""

from __future__ import annotations

import numpy as np
from sigpy.linop import Linop

from kspike.interop.shapes import shapes

__all__ = ["linop"]


def linop(A):
    """A as a Linop: ishape (rows, cols), oshape (m,) or (2, rows, cols), in the precision of A or of what comes."""
    image, data = shapes(A)
    return _Linop(A, A.adjoint, image, data)


class _Linop(Linop):
    def __init__(self, apply, adjoint, ishape, oshape):
        self._both = apply, adjoint
        super().__init__(oshape, ishape, repr_str="kspike")

    def _apply(self, x):
        return self._both[0](np.ascontiguousarray(x))

    def _adjoint_linop(self):
        return _Linop(*self._both[::-1], self.oshape, self.ishape)
