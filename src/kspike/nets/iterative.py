# SPDX-License-Identifier: MIT
"""A network between measurements and image: an inversion, then steps of a subnetwork and of data consistency."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from kspike import torch as kt

__all__ = ["IterativeNet"]


class IterativeNet(nn.Module):
    """x_0 = inverter(y);  x <- resnet_factor x + subnet(x);  x <- x - lam_k A*(A x - y);  complex (batch, m) -> images.

    With one step and no data consistency this is the paper's Tira or TiraFL, by the inverter. The subnet sees real and
    imaginary part as two channels.

    Parameters
    ----------
    subnet : a module (batch, 2, rows, cols) -> (batch, 2, rows, cols), the same in every step
    inverter : `ZeroFilled(mask)` or `LearnedInverse(mask)`
    mask : bool array (rows, cols)
    num_iter : steps
    lam : of the data consistency; a number, or one a step
    lam_learnable : whether training may move it
    final_dc : data consistency after the last step too
    resnet_factor : what is kept of x in a step
    """

    def __init__(
        self, subnet, inverter, mask, *, num_iter=1, lam=0.0, lam_learnable=False, final_dc=False, resnet_factor=1.0
    ):
        super().__init__()
        lams = np.broadcast_to(np.asarray(lam, np.float32), (num_iter,)).tolist()
        self.subnet, self.inverter, self.A = subnet, inverter, kt.MaskedFourier(mask)
        self.num_iter, self.final_dc, self.resnet_factor = num_iter, final_dc, resnet_factor
        self.lam = nn.ParameterList([nn.Parameter(torch.tensor(v), requires_grad=lam_learnable) for v in lams])

    @property
    def mask(self):
        """The sampling mask, bool (rows, cols)."""
        return self.A.mask

    def forward(self, y):
        """The images of complex samples: (batch, m) -> (batch, rows, cols)."""
        x = self.inverter(y)
        for k, lam in enumerate(self.lam):
            step = self.subnet(kt.to_channels(x)).to(x.real.dtype)
            x = self.resnet_factor * x + kt.from_channels(step)
            if self.final_dc or k < self.num_iter - 1:
                x = x - lam * self.A.adjoint(self.A(x) - y)
        return x
