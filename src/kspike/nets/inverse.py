# SPDX-License-Identifier: MIT
"""The first layer of a network: from samples to an image, by zero-filling or by a learned inverse transform."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import nn

from kspike import torch as kt

__all__ = ["LearnedInverse", "ZeroFilled", "inverse_dft"]

WEIGHTS = "learnable_ifft.linear1.linear.weight", "learnable_ifft.linear2.linear.weight"


class ZeroFilled(nn.Module):
    """A* y, complex (..., m) -> (..., rows, cols): the first layer of the paper's Tira. No parameters.

    A state dict of the robust-nets experiments has the inverse transform as two matrices here, which were not learned;
    it loads if they are that transform to 1e-4.
    """

    def __init__(self, mask):
        super().__init__()
        self.A = kt.MaskedFourier(mask)

    def forward(self, y):
        """A* y."""
        return self.A.adjoint(y)

    def _load_from_state_dict(self, state, prefix, *arguments):
        for name, n in zip(WEIGHTS, self.A.shape, strict=True):
            given = state.pop(prefix + name, None)
            if given is not None and not torch.allclose(given.double(), inverse_dft(n), atol=1e-4):
                raise ValueError(
                    f"{prefix}{name}: expected the inverse DFT, got a learned one: type LearnedInverse(mask)"
                )
        super()._load_from_state_dict(state, prefix, *arguments)


class LearnedInverse(nn.Module):
    """W1 zero-filled(y) W2^T, complex (..., m) -> (..., rows, cols): the first layer of the paper's TiraFL.

    W1 and W2 act along rows and columns as real matrices on stacked real and imaginary parts, (2 n, 2 n). They begin as
    the centred orthonormal inverse DFT plus Gaussian noise of standard deviation noise / sqrt(n).
    """

    def __init__(self, mask, noise=1 / 16):
        super().__init__()
        A = kt.MaskedFourier(mask)
        self.shape = A.shape
        self.register_buffer("_sampled", torch.from_numpy(A.mask.ravel().nonzero()[0].copy()), persistent=False)
        pair = {f"linear{i + 1}": nn.Sequential(OrderedDict(linear=_matrix(n, noise))) for i, n in enumerate(A.shape)}
        self.learnable_ifft = nn.ModuleDict(pair)

    def forward(self, y):
        """W1 zero-filled(y) W2^T."""
        spectrum = y.new_zeros(*y.shape[:-1], math.prod(self.shape)).index_copy(-1, self._sampled, y)
        with torch.autocast(y.device.type, enabled=False):  # half precision is too little for a transform
            across = _apply(self.learnable_ifft["linear2"], spectrum.unflatten(-1, self.shape))
            return _apply(self.learnable_ifft["linear1"], across.mT).mT


def inverse_dft(n):
    """The centred orthonormal inverse DFT of length n as a real matrix on stacked parts: float64 (2 n, 2 n)."""
    k = torch.arange(n, dtype=torch.float64) - n // 2
    angle = 2 * math.pi / n * torch.outer(k, k)
    real, imag = angle.cos() / math.sqrt(n), angle.sin() / math.sqrt(n)
    return torch.cat([torch.cat([real, -imag], 1), torch.cat([imag, real], 1)])


def _matrix(n, noise):
    linear = nn.Linear(2 * n, 2 * n, bias=False)
    start = inverse_dft(n).float()
    linear.weight.data = start + noise / math.sqrt(n) * torch.randn_like(start)
    return linear


def _apply(linear, z):
    """The matrix along the last axis of a complex tensor."""
    return torch.complex(*linear(torch.cat([z.real, z.imag], -1)).chunk(2, -1))
