# SPDX-License-Identifier: MIT
"""A as deepinv's `LinearPhysics`: real channels (batch, 2, rows, cols), measurements zero-filled of the same shape.

deepinv's TVPrior is isotropic, with Neumann boundaries, each channel for itself: 1/2 ||A x - y||^2 + lam sum |grad x|.
For kspike's functional take `kspike.torch.TVLayer(mask, lam, channels=True)`: a whole solve, as a module.
"""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics

import kspike.torch

__all__ = ["MaskedFourierPhysics"]


class MaskedFourierPhysics(LinearPhysics):
    """A x = P F x for deepinv: as its own MRI physics, centred and orthonormal, but kspike's transforms.

    mask : bool array or tensor (rows, cols), centred; `threads` as for `kspike.torch.MaskedFourier`, other keyword
    arguments as for LinearPhysics. ||A|| = 1, A A* = 1 where the mask is, so that A_dagger = A_adjoint and prox_l2 is
    one transform there and back.
    """

    def __init__(self, mask, *, threads=1, **kwargs):
        operator = kspike.torch.MaskedFourier(mask, channels=True, threads=threads)
        super().__init__(img_size=(2, *operator.shape), **kwargs)
        self.operator = operator
        self.register_buffer("mask", torch.from_numpy(operator.mask.copy()))

    def A(self, x, **kwargs):
        """The measurements of an image, 0 where the mask is."""
        y = self.operator(x)
        full = y.new_zeros(*y.shape[:-1], *self.operator.shape)
        full[..., self.mask] = y
        return full

    def A_adjoint(self, y, **kwargs):
        """The zero-filled image."""
        return self.operator.adjoint(y[..., self.mask].contiguous())

    def A_dagger(self, y, **kwargs):
        """The pseudo-inverse, which is the adjoint."""
        return self.A_adjoint(y)

    def prox_l2(self, z, y, gamma, **kwargs):
        """The minimiser of gamma/2 ||A x - y||^2 + 1/2 ||x - z||^2: z + gamma / (1 + gamma) A*(y - A z)."""
        return z + gamma / (1 + gamma) * self.A_adjoint(y - self.A(z))
