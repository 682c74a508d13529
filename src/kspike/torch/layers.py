# SPDX-License-Identifier: MIT
"""A, D and recTV as modules, for complex tensors or for real ones with two channels."""

from __future__ import annotations

import math

import numpy as np
import torch

from kspike import door
from kspike.norms import NORMS
from kspike.solver import DERIVATIVES, MOST, TOL
from kspike.torch import operators

__all__ = ["Gradient", "MaskedFourier", "TVLayer", "from_channels", "to_channels"]

COMPLEX = (torch.complex64, torch.complex128)


def to_channels(x):
    """Real and imaginary part as two channels: complex (..., *inner) -> real (..., 2, *inner), inner rows, cols."""
    return torch.stack([x.real, x.imag], -3)


def from_channels(x):
    """The complex image of two channels: real (..., 2, rows, cols) -> complex (..., rows, cols)."""
    return torch.complex(*x.unbind(-3))


class MaskedFourier(torch.nn.Module):
    """A x = P F x, the samples of the centred orthonormal DFT: complex (..., rows, cols) -> (..., m).

    The precision is that of the tensor. Has no parameters and nothing in its state dict.

    Parameters
    ----------
    mask : bool array or tensor (rows, cols), zero frequency at [rows // 2, cols // 2]
    channels : take and give real tensors with real and imaginary part as two channels, (..., 2, rows, cols) <->
        (..., 2, m); without it real tensors are refused, for a pair of channels looks like a batch of two images
    threads : how many threads the engine may use
    """

    def __init__(self, mask, *, channels=False, threads=1):
        super().__init__()
        self.mask = _mask(mask)
        self.shape, self.samples = self.mask.shape, int(np.count_nonzero(self.mask))
        self.channels, self.threads = channels, door.threads(threads)
        self._bits = torch.from_numpy(np.packbits(self.mask))

    def forward(self, x):
        """A x: (..., rows, cols) -> (..., m)."""
        x = _complex("x", x, self.shape, self.channels)
        return _parts(operators.masked_fourier(x, self._bits, self.samples, self.threads), self.channels, -2)

    def adjoint(self, y):
        """A* y, zero-filled: (..., m) -> (..., rows, cols)."""
        y = _complex("y", y, (self.samples,), self.channels)
        return _parts(operators.masked_fourier_adjoint(y, self._bits, *self.shape, self.threads), self.channels, -3)

    def extra_repr(self):
        """What `print(module)` shows."""
        return f"{self.shape}, samples={self.samples}"


class Gradient(torch.nn.Module):
    """D x, the periodic forward differences along rows and columns: complex (..., rows, cols) -> (..., 2, rows, cols).

    With `channels`, real (..., 2, rows, cols) -> (..., 2, 2, rows, cols), the first of the two the parts.
    """

    def __init__(self, shape, *, channels=False):
        super().__init__()
        self.shape, self.channels = door.shape2(shape), channels

    def forward(self, x):
        """D x: (..., rows, cols) -> (..., 2, rows, cols)."""
        return _parts(operators.gradient(_complex("x", x, self.shape, self.channels)), self.channels, -4)

    def adjoint(self, d):
        """D* d: (..., 2, rows, cols) -> (..., rows, cols)."""
        return _parts(operators.gradient_adjoint(_complex("d", d, (2, *self.shape), self.channels)), self.channels, -3)

    def extra_repr(self):
        """What `print(module)` shows."""
        return f"{self.shape}"


class TVLayer(torch.nn.Module):
    """recTV(y) = argmin_x 1/2 ||A x - y||^2 + lam ||D x||_1 as a layer: complex (..., m) -> (..., rows, cols).

    Parameters
    ----------
    mask : as for `MaskedFourier`
    lam : weight of the total variation
    learn : make log lam a parameter, `log_lam`; it needs derivative="implicit"
    derivative : "implicit", that at the solution, by conjugate gradients, without a tape; or "unrolled", the exact one
        of `iterations` iterations from zero, run again when it is asked for
    iterations : how many are run, for derivative="unrolled"
    max_iterations, tol : of the solve, as for `TVSolver.solve`; a warning says if it did not converge
    gradient_tol : of the conjugate gradients, relative
    norm, threads : as for `TVSolver`
    rho : the ADMM penalty; the default suits images of scale about 1
    channels : as for `MaskedFourier`
    """

    def __init__(
        self,
        mask,
        lam,
        *,
        learn=False,
        derivative="implicit",
        iterations=None,
        max_iterations=MOST,
        tol=TOL,
        gradient_tol=1e-4,
        norm="separable",
        rho=None,
        threads=1,
        channels=False,
    ):
        super().__init__()
        if derivative not in DERIVATIVES:
            raise ValueError(f"derivative: expected one of {', '.join(DERIVATIVES)}, got {derivative!r}")
        if norm not in NORMS:
            raise ValueError(f"norm: expected one of {', '.join(NORMS)}, got {norm!r}")
        if (derivative == "unrolled") != (iterations is not None):
            raise TypeError(
                f"iterations: expected a number of them for derivative='unrolled' and for no other, got {iterations!r}"
            )
        if learn and derivative != "implicit":
            raise ValueError("learn: lam has a derivative for derivative='implicit' only")
        lam = door.number("lam", lam, 0, closed=not learn)
        self.mask, self.learn, self.channels = _mask(mask), learn, channels
        self.shape, self.samples = self.mask.shape, int(np.count_nonzero(self.mask))
        self._bits = torch.from_numpy(np.packbits(self.mask))
        if learn:
            self.log_lam = torch.nn.Parameter(torch.tensor(math.log(lam), dtype=torch.float64))
        else:
            self._lam = torch.tensor(lam, dtype=torch.float64)
        self._options = (
            0 if iterations is None else door.whole("iterations", iterations, 1),
            door.whole("max_iterations", max_iterations, 1),
            door.number("tol", tol, 0),
            door.number("gradient_tol", gradient_tol, 0),
            norm,
            0.0 if rho is None else door.number("rho", rho, 0),
            door.threads(threads),
        )

    @property
    def lam(self):
        """The weight of the total variation, a tensor of no dimensions."""
        return self.log_lam.exp() if self.learn else self._lam

    def forward(self, y):
        """recTV(y): (..., m) -> (..., rows, cols)."""
        y = _complex("y", y, (self.samples,), self.channels)
        x, _ = operators.total_variation(y, self.lam, self._bits, *self.shape, *self._options)
        return _parts(x, self.channels, -3)

    def extra_repr(self):
        """What `print(module)` shows."""
        return f"{self.shape}, samples={self.samples}, lam={float(self.lam.detach()):g}"


def _mask(mask):
    """The mask as a read-only NumPy array of its own."""
    mask = mask.numpy(force=True) if isinstance(mask, torch.Tensor) else mask
    door.mask(mask)
    mask = mask.copy()
    mask.flags.writeable = False
    return mask


def _complex(name, t, inner, channels):
    """Check a tensor (..., *inner) and give it as a complex one; with channels it is real, (..., 2, *inner)."""
    wanted, types = ((2, *inner), (torch.float32, torch.float64)) if channels else (tuple(inner), COMPLEX)
    if t.dtype not in types:
        hint = "" if channels else "; real and imaginary part as two channels need channels=True"
        names = " or ".join(str(d).removeprefix("torch.") for d in types)
        raise TypeError(f"{name}: expected {names}, got {str(t.dtype).removeprefix('torch.')}{hint}")
    if tuple(t.shape[t.ndim - len(wanted) :]) != wanted or t.ndim < len(wanted):
        raise ValueError(f"{name}: expected shape (..., {', '.join(map(str, wanted))}), got {tuple(t.shape)}")
    return torch.complex(*t.unbind(-len(wanted))) if channels else t


def _parts(t, channels, dim):
    """The tensor, or its real and imaginary part as channels."""
    return torch.stack([t.real, t.imag], dim) if channels else t
