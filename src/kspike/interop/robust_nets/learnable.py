# SPDX-License-Identifier: MIT
"""The transforms of robust-nets that are matrices: layers of a network, with the parameter names of its weight files.

They cost O(n) per pixel and run in torch. `centred` False: the conventions of troublesome_kernel, where the origin of
the image is its corner. Odd sizes follow the originals too, which mix up fftshift and its inverse there.
"""

from __future__ import annotations

import math

import torch

from kspike.interop.robust_nets.operators import (
    LinearOperator,
    div_complex,
    im2vec,
    prep_fft_channel,
    to_complex,
    unprep_fft_channel,
    vec2im,
)

__all__ = ["Fourier_matrix", "LearnableFourier1D", "LearnableFourier2D", "LearnableInverter"]


def _dft(n, inverse, centred):
    """exp(-+2 pi i (j + a) (k + b) / n) / sqrt(n) as a real matrix (2 n, 2 n) of blocks [[Re, -Im], [Im, Re]]."""
    half = n // 2
    a, b = (half, half) if centred else ((0, half) if inverse else (-half, 0))
    j = torch.arange(n)
    angle = (2 if inverse else -2) * math.pi * (((j + a)[:, None] * (j + b)) % n).double() / n
    re, im = torch.cos(angle) / math.sqrt(n), torch.sin(angle) / math.sqrt(n)
    return torch.cat([torch.cat([re, -im], 1), torch.cat([im, re], 1)]).to(torch.get_default_dtype())


class LearnableFourier1D(torch.nn.Module):
    """The DFT of length n along one dimension of (..., 2, n1, n2) as a matrix; learnable: noisy, and trained."""

    def __init__(self, n, dim=-1, inverse=False, learnable=True, centred=True):
        super().__init__()
        self.n, self.dim = n, dim
        matrix = _dft(n, inverse, centred)
        self.linear = torch.nn.Linear(2 * n, 2 * n, bias=False)
        if learnable:
            matrix = matrix + torch.randn_like(matrix) / (16 * math.sqrt(n))
        self.linear.weight = torch.nn.Parameter(matrix, requires_grad=learnable)

    def forward(self, x):
        """The transform of x."""
        x = torch.transpose(x, self.dim, -1)
        x = self.linear(torch.cat([x[..., 0, :, :], x[..., 1, :, :]], dim=-1))
        return torch.stack(x.split(self.n, dim=-1), dim=-3).transpose(-1, self.dim)


class LearnableFourier2D(torch.nn.Module):
    """The 2-D DFT (..., 2, n1, n2) as two matrices."""

    def __init__(self, n, inverse=False, learnable=True, centred=True):
        super().__init__()
        self.linear1 = LearnableFourier1D(n[0], -2, inverse, learnable, centred)
        self.linear2 = LearnableFourier1D(n[1], -1, inverse, learnable, centred)

    def forward(self, x):
        """The transform of x."""
        return self.linear1(self.linear2(x))


class LearnableInverter(torch.nn.Module):
    """Zero-filling, then a learnable inverse transform: (..., 2, m) -> (..., 2, n1, n2)."""

    def __init__(self, n, mask, learnable=True, centred=True):
        super().__init__()
        self.n, self.mask = n, mask[0, 0].bool()
        self.learnable_ifft = LearnableFourier2D(n, True, learnable, centred)

    def forward(self, y):
        """The reconstruction from samples y."""
        return self.learnable_ifft(_zero_filled(y, self.mask))


class Fourier_matrix(LinearOperator, torch.nn.Module):
    """`Fourier` as two matrices that move with a network to its device."""

    def __init__(self, mask, centred=True):
        torch.nn.Module.__init__(self)
        self.mask = mask[0, 0].bool()
        self.m, self.n = int(self.mask.sum()), mask.shape[-2:]
        self.fft2 = LearnableFourier2D(self.n, False, False, centred)
        self.ifft2 = LearnableFourier2D(self.n, True, False, centred)

    def dot(self, x):
        """The samples of an image."""
        return im2vec(self.fft2(x))[..., im2vec(self.mask)]

    def adj(self, y):
        """The adjoint, and pseudo-inverse."""
        return self.ifft2(_zero_filled(y, self.mask))

    def inv(self, y):
        """See `adj`."""
        return self.adj(y)

    def tikh(self, rhs, kernel, rho):
        """(A*A + rho W*W)^-1 rhs, where kernel is the shifted spectrum of W*W."""
        mask = prep_fft_channel(to_complex(self.mask[None].to(rhs)))
        spectrum = div_complex(prep_fft_channel(self.fft2(rhs)), mask + rho * kernel.to(rhs))
        return self.ifft2(unprep_fft_channel(spectrum))


def _zero_filled(y, mask):
    spectrum = y.new_zeros(*y.shape[:-1], mask.numel())
    spectrum[..., im2vec(mask)] = y
    return vec2im(spectrum, mask.shape)
