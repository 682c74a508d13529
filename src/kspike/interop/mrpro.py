# SPDX-License-Identifier: MIT
"""A and D as MRpro's `LinearOperator`: complex tensors (..., rows, cols), results in 1-tuples, differentiable.

MRpro's PDHG with L1NormViewAsReal is kspike's functional, 1/2 ||A x - y||^2 + lam ||D x||_1 with real and imaginary
part apart, if its differences are forward and circular, which neither of its own TV reconstructions makes them
(pad_mode="zeros"); `GradientOp` is D, as FiniteDifferenceOp(dim=(-2, -1), mode="forward", pad_mode="circular").
"""

from __future__ import annotations

from mrpro.operators import LinearOperator

import kspike.torch

__all__ = ["GradientOp", "MaskedFourierOp"]


class MaskedFourierOp(LinearOperator):
    """A: (..., rows, cols) -> (..., m).

    mask : bool array or tensor (rows, cols), centred; threads : as for `kspike.torch.MaskedFourier`
    """

    def __init__(self, mask, *, threads=1):
        super().__init__()
        self.operator = kspike.torch.MaskedFourier(mask, threads=threads)

    def __call__(self, x):
        """A x."""
        return super().__call__(x)

    def forward(self, x):
        """A x."""
        return (self.operator(x),)

    def adjoint(self, y):
        """A* y."""
        return (self.operator.adjoint(y),)


class GradientOp(LinearOperator):
    """D: (..., rows, cols) -> (2, ..., rows, cols), the differences in front as in MRpro's FiniteDifferenceOp."""

    def __init__(self, shape):
        super().__init__()
        self.operator = kspike.torch.Gradient(shape)

    def __call__(self, x):
        """D x."""
        return super().__call__(x)

    def forward(self, x):
        """D x."""
        return (self.operator(x).movedim(-3, 0),)

    def adjoint(self, d):
        """D* d."""
        return (self.operator.adjoint(d.movedim(0, -3)),)
