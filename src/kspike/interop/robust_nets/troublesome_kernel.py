# SPDX-License-Identifier: MIT
"""`operators` of github.com/vegarant/troublesome_kernel and johanage/troublesome_kernel_jfa: what they changed.

Their transform has the origin of the image in its corner, so that the samples differ from centred ones by a phase, and
their complex arrays are complex tensors. `jfa` adds masks from a file.
"""

from __future__ import annotations

import os

import torch

from kspike import images
from kspike.interop.robust_nets import learnable, operators
from kspike.interop.robust_nets.operators import rotate_real

__all__ = [
    "Fourier",
    "Fourier_matrix",
    "LearnableFourier1D",
    "LearnableFourier2D",
    "LearnableInverterFourier",
    "MaskFromFile",
    "TVAnalysisPeriodic",
    "prep_fft_channel",
    "to_magnitude",
    "unprep_fft_channel",
]

to_magnitude = rotate_real


def prep_fft_channel(x):
    """(..., 1 or 2, n1, n2) -> complex (..., n1, n2)."""
    imaginary = x[..., 1, :, :] if x.shape[-3] > 1 else torch.zeros_like(x[..., 0, :, :])
    return torch.complex(x[..., 0, :, :], imaginary)


def unprep_fft_channel(x):
    """Complex (..., n1, n2), or pairs (..., n1, n2, 2), -> (..., 2, n1, n2)."""
    return (torch.view_as_real(x) if x.is_complex() else x).movedim(-1, -3)


class Fourier(operators.Fourier):
    """`operators.Fourier` with the origin of the image at [0, 0]."""

    CENTRED = False

    def tikh(self, rhs, kernel, rho):
        """(A*A + rho W*W)^-1 rhs, where kernel (1, n1, n2) is the complex shifted spectrum of W*W."""
        return super().tikh(rhs, torch.view_as_real(torch.complex(kernel.real, kernel.imag)), rho)


class TVAnalysisPeriodic(operators.TVAnalysisPeriodic):
    """`operators.TVAnalysisPeriodic` whose spectrum is a complex tensor."""

    def get_fourier_kernel(self):
        """The spectrum of W*W, not normalised, shifted: complex (1, n1, n2)."""
        return torch.view_as_complex(super().get_fourier_kernel())


class LearnableFourier1D(learnable.LearnableFourier1D):
    """`learnable.LearnableFourier1D` with the origin at [0]."""

    def __init__(self, n, dim=-1, inverse=False, learnable=True):
        super().__init__(n, dim, inverse, learnable, centred=False)


class LearnableFourier2D(learnable.LearnableFourier2D):
    """`learnable.LearnableFourier2D` with the origin at [0, 0]."""

    def __init__(self, n, inverse=False, learnable=True):
        super().__init__(n, inverse, learnable, centred=False)


class LearnableInverterFourier(learnable.LearnableInverter):
    """`learnable.LearnableInverter` with the origin at [0, 0]."""

    def __init__(self, n, mask, learnable=True):
        super().__init__(n, mask, learnable, centred=False)


class Fourier_matrix(learnable.Fourier_matrix):
    """`learnable.Fourier_matrix` with the origin at [0, 0]."""

    def __init__(self, mask):
        super().__init__(mask, centred=False)


class MaskFromFile:
    """A mask from an image file, sampled where it is not black: `mask`, a bool tensor (1, n1, n2)."""

    def __init__(self, path, filename):
        self.path, self.filename = path, filename
        self.mask = torch.from_numpy(images.read_mask(os.path.join(path, filename)))[None]
