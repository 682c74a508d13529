# SPDX-License-Identifier: MIT
"""`operators` of github.com/jmaces/robust-nets on kspike's engines: same names, shapes and numbers, on today's torch.

Images are real tensors (..., 2, n1, n2), samples (..., 2, m), coefficients (..., 2, 2 n1 n2): real and imaginary part
in dimension -3 or -2. float32 and float64 both work, everything differentiates, docs/interop.md lists what differs.
"""

from __future__ import annotations

import math

import numpy as np
import torch

import kspike
import kspike.torch
from kspike import reference
from kspike.interop.robust_nets.cg import CGInverterLayer

__all__ = [
    "CGInverterLayer",
    "Fourier",
    "LinearOperator",
    "RadialMaskFunc",
    "TVAnalysisPeriodic",
    "circshift",
    "conj_complex",
    "div_complex",
    "im2vec",
    "l2_error",
    "l2_error_meas",
    "mult_complex",
    "noise_gaussian",
    "noise_poisson",
    "prep_fft_channel",
    "proj_l2_ball",
    "rotate_real",
    "shrink",
    "to_complex",
    "unprep_fft_channel",
    "vec2im",
]

PRECISION = (torch.float32, torch.float64)


class RadialMaskFunc:
    """The golden-angle radial mask of `num_lines` lines, as `mask`, and by a call (..., n1, n2, 1) of that shape.

    `kspike.radial_mask` draws it, bit for bit as scikit-image's rotation did.
    """

    def __init__(self, shape, num_lines, offset=0):
        self.shape, self.num_lines, self.offset = tuple(shape), num_lines, offset
        self.mask = torch.from_numpy(kspike.radial_mask(self.shape, num_lines, offset=offset))

    def __call__(self, shape, seed=None):
        """The mask with the dimensions of `shape`, (..., n1, n2, 1)."""
        if tuple(shape[-3:-1]) != self.shape:
            raise ValueError(f"shape: expected (..., {self.shape[0]}, {self.shape[1]}, 1), got {tuple(shape)}")
        return self.mask.reshape((len(shape) - 3) * (1,) + self.shape + (1,))


def l2_error(X, X_ref, relative=False, squared=False, use_magnitude=True):
    """||X - X_ref||_2 over the last three dimensions, of the moduli if there are two channels: (mean, each)."""
    if X_ref.shape[-3] == 2 and use_magnitude:
        X, X_ref = torch.linalg.vector_norm(X, dim=-3), torch.linalg.vector_norm(X_ref, dim=-3)
        return _error(X, X_ref, relative, squared, 2)
    return _error(X, X_ref, relative, squared, 3)


def l2_error_meas(X, X_ref, relative=False, squared=False):
    """||X - X_ref||_2 of samples, over the last two dimensions: (mean, each)."""
    return _error(X, X_ref, relative, squared, 2)


def _error(X, X_ref, relative, squared, inner):
    dims, power = tuple(range(-inner, 0)), 2 if squared else 1
    err = torch.linalg.vector_norm(X - X_ref, dim=dims) ** power
    if relative:
        err = err / torch.linalg.vector_norm(X_ref, dim=dims) ** power
    return err.mean(), err


def noise_gaussian(y, eta, n_seed=None, t_seed=None):
    """Return y + eta / sqrt(prod(y.shape[1:])) N(0, 1); t_seed seeds torch, n_seed NumPy, which is not asked here."""
    _seed(n_seed, t_seed)
    return y + eta / math.sqrt(math.prod(y.shape[1:])) * torch.randn_like(y)


def noise_poisson(y, eta, n_seed=None, t_seed=None):
    """Poisson(s y) / s with s = sum(y) / eta^2: noise of level eta, not additive."""
    _seed(n_seed, t_seed)
    scale = y.sum(dim=-1, keepdim=True) / eta**2
    return torch.poisson(scale * y) / scale


def _seed(n_seed, t_seed):
    if n_seed is not None:
        np.random.seed(n_seed)  # noqa: NPY002  what the scripts ask for
    if t_seed is not None:
        torch.manual_seed(t_seed)


def to_complex(x):
    """(..., 1, n1, n2) with a zero imaginary channel added; (..., 2, n1, n2) as it is."""
    if x.ndim < 3 or x.shape[-3] not in (1, 2):
        raise ValueError(f"x: expected shape (..., 1 or 2, n1, n2), got {tuple(x.shape)}")
    return torch.cat([x, torch.zeros_like(x)], dim=-3) if x.shape[-3] == 1 else x


def rotate_real(x):
    """(|x|, 0): the modulus as the real channel. Its gradient at x = 0 is 0."""
    if x.ndim < 3 or x.shape[-3] != 2:
        raise ValueError(f"x: expected shape (..., 2, n1, n2), got {tuple(x.shape)}")
    modulus = torch.linalg.vector_norm(x, dim=-3, keepdim=True)
    return torch.cat([modulus, torch.zeros_like(modulus)], dim=-3)


def mult_complex(x, y):
    """The product x y, real and imaginary part in the last dimension."""
    return torch.view_as_real(_pairs(x) * _pairs(y))


def div_complex(x, y):
    """The quotient x / y, real and imaginary part in the last dimension."""
    return torch.view_as_real(_pairs(x) / _pairs(y))


def conj_complex(x):
    """The conjugate of x, real and imaginary part in the last dimension."""
    return torch.stack([x[..., 0], -x[..., 1]], dim=-1)


def _pairs(x):
    return torch.complex(x[..., 0], x[..., 1])


def im2vec(x, dims=(-2, -1)):
    """The last two dimensions as one."""
    return torch.flatten(x, *dims)


def vec2im(x, n):
    """The last dimension as two, of sizes n."""
    return x.reshape(*x.shape[:-1], *n)


def prep_fft_channel(x):
    """(..., 2 k, n1, n2) -> (..., k, n1, n2, 2)."""
    return x.unflatten(-3, (-1, 2)).movedim(-3, -1)


def unprep_fft_channel(x):
    """(..., k, n1, n2, 2) -> (..., 2 k, n1, n2)."""
    return x.movedim(-1, -3).flatten(-4, -3)


def circshift(x, dim=-1, num=1):
    """Return y[i] = x[i + num] on a circle, along one dimension."""
    return torch.roll(x, -num, dim)


def shrink(x, thresh):
    """sign(x) max(|x| - thresh, 0), real and imaginary part separately."""
    return torch.nn.functional.softshrink(x, float(thresh))


def proj_l2_ball(x, centre, radius):
    """The nearest point to x of the ball {||x - centre||_2 <= radius} over the last two dimensions."""
    distance = torch.sqrt((x - centre).pow(2).sum(dim=(-2, -1), keepdim=True))
    radius = torch.as_tensor(radius, dtype=distance.dtype, device=distance.device)
    radius, distance = torch.broadcast_tensors(radius, distance)
    factor = torch.where(distance > radius, radius / torch.where(distance > 0, distance, 1), 1)
    return factor * x + (1 - factor) * centre


class LinearOperator:
    """What the scripts expect of an operator: `m`, `n`, `dot` (also by a call), `adj`, `inv`."""

    def __init__(self, m, n):
        self.m, self.n = m, n

    def __call__(self, x):
        """See `dot`."""
        return self.dot(x)


class Fourier(LinearOperator):
    """A x = P F x, the masked centred orthonormal DFT: (..., 2 k, n1, n2) -> (..., 2 k, m), by kspike's engine.

    mask : tensor (1, 1, n1, n2), sampled where it is not zero.
    """

    CENTRED = True  # whether the transform puts the origin of the image at [n1 // 2, n2 // 2]

    def __init__(self, mask):
        self.mask = mask[0, 0].bool()
        super().__init__(int(self.mask.sum()), mask.shape[-2:])
        threads = torch.get_num_threads()
        self.operator = kspike.torch.MaskedFourier(self.mask, threads=threads)
        self._plans = {}
        self._whole = kspike.torch.MaskedFourier(torch.ones_like(self.mask), threads=threads)

    def dot(self, x):
        """The samples of an image."""
        return channels(self.turned(self.operator(self._image(x)), back=True), 1)

    def adj(self, y):
        """The adjoint, and pseudo-inverse: zero-filling and the inverse transform."""
        return channels(self.operator.adjoint(self.turned(joined(y, 1))), 2)

    def inv(self, y):
        """See `adj`."""
        return self.adj(y)

    def tikh(self, rhs, kernel, rho):
        """(A*A + rho W*W)^-1 rhs, where kernel (1, n1, n2, 2) is the shifted spectrum of W*W.

        Where both vanish (the zero frequency, if it is not sampled) the result has no component.
        """
        diagonal = self.mask.to(rhs.device) + rho * _pairs(kernel.to(rhs))
        inverse = torch.where(diagonal == 0, 0, 1 / torch.where(diagonal == 0, 1, diagonal))
        return channels(self._whole.adjoint(inverse.flatten() * self._whole(self._image(rhs))), 2)

    def turned(self, y, *, back=False):
        """Complex samples (..., m) of this operator as those of kspike's, which is centred; or back.

        They differ by the phase of a shift of the image by (n1, n2) // 2.
        """
        if self.CENTRED:
            return y
        rows, cols = (torch.arange(n, dtype=torch.float64) - n // 2 for n in self.n)
        angle = rows[:, None] * (self.n[0] // 2) / self.n[0] + cols * (self.n[1] // 2) / self.n[1]
        turn = torch.polar(torch.ones_like(angle), (-2 if back else 2) * math.pi * angle)[self.mask.cpu()]
        return y * turn.to(y)

    def plan(self, like):
        """The `kspike.MaskedFourier` of the mask in the precision and for the device of a tensor, made once."""
        key = like.dtype, like.device.type
        if key not in self._plans:
            dtype = "complex128" if like.dtype == torch.float64 else "complex64"
            backend = "cupy" if like.is_cuda else None
            options = dict(dtype=dtype, backend=backend, threads=self.operator.threads)
            self._plans[key] = kspike.MaskedFourier(self.operator.mask, **options)
        return self._plans[key]

    def _image(self, x):
        if x.ndim < 3 or x.shape[-3] % 2 or x.shape[-2:] != tuple(self.n):
            raise ValueError(f"expected shape (..., 2, {self.n[0]}, {self.n[1]}), got {tuple(x.shape)}")
        return joined(x, 2)


class TVAnalysisPeriodic(LinearOperator):
    """W x = (x[i+1, j] - x[i, j], x[i, j+1] - x[i, j]) on a torus, flattened: (..., n1, n2) -> (..., 2 n1 n2)."""

    def __init__(self, n, device=None):
        super().__init__(n[0] * n[1] * 2, n)
        self.device = device

    def dot(self, x):
        """W x."""
        return torch.cat([im2vec(circshift(x, dim) - x) for dim in (-2, -1)], dim=-1)

    def adj(self, y):
        """W* y."""
        rows, cols = (vec2im(part, self.n) for part in y.split(self.n[0] * self.n[1], dim=-1))
        return circshift(rows, -2, -1) - rows + circshift(cols, -1, -1) - cols

    def get_fourier_kernel(self):
        """The spectrum of W*W, not normalised, shifted, pairs last: (1, n1, n2, 2)."""
        spectrum = torch.from_numpy(reference.symbol(tuple(self.n))).to(torch.get_default_dtype())
        return torch.stack([spectrum, torch.zeros_like(spectrum)], dim=-1)[None]

    def inv(self, y):
        """There is none."""
        raise NotImplementedError("TVAnalysisPeriodic: expected a call of dot or adj; W has no inverse")


def joined(x, inner):
    """Channels as complex numbers: (..., 2 k, *inner) -> (..., k, *inner), in one copy."""
    if x.dtype not in PRECISION:
        raise TypeError(f"expected a float32 or float64 tensor, got {x.dtype}")
    return torch.complex(*x.unflatten(-1 - inner, (-1, 2)).unbind(-1 - inner))


def channels(x, inner):
    """Complex numbers as channels: (..., k, *inner) -> (..., 2 k, *inner)."""
    return torch.stack([x.real, x.imag], dim=-1 - inner).flatten(-2 - inner, -1 - inner)
