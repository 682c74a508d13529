# SPDX-License-Identifier: MIT
"""What an l1 norm is taken of: the identity, orthogonal wavelets, the gradient.

A sparsifier Psi has `__call__`, `adjoint`, `shape` and `tight`, whether Psi*Psi = Psi Psi* = I.
"""

from __future__ import annotations

import functools
import importlib

import numpy as np

from kspike import door
from kspike.operators import Gradient

__all__ = ["Identity", "Wavelet", "sparsifier"]


class Identity:
    """Psi x = x: the image or signal itself is sparse."""

    tight = True

    def __init__(self, shape):
        self.shape = door.extent(shape)

    def __call__(self, x):
        """x."""
        return x

    def adjoint(self, c):
        """c."""
        return c

    def __repr__(self):
        return f"Identity({self.shape})"


class Wavelet:
    """Psi x, the periodic orthogonal wavelet transform of images or signals, the coarsest scale first.

    Along an axis of n numbers, with the filters h and g[m] = (-1)^m h[len - 1 - m],

        coarse[k] = sum_m h[m] x[(2k + m) mod n],   detail[k] = sum_m g[m] x[(2k + m) mod n],   k < n / 2.

    Parameters
    ----------
    shape : (rows, cols) or (n,); an axis of length 1 is left alone
    name : an orthogonal wavelet of PyWavelets, "haar", "db2", "sym4", ..., from which the filter is taken
    levels : how often the coarse part is transformed again; default as often as 2 divides all axes. 2^levels must
        divide them
    """

    tight = True

    def __init__(self, shape, name="haar", levels=None):
        self.shape, self.name = door.extent(shape), name
        self._axes = tuple(axis for axis, n in zip(range(-len(self.shape), 0), self.shape, strict=True) if n > 1)
        most = min((_twos(self.shape[axis]) for axis in self._axes), default=0)
        self.levels = most if levels is None else door.whole("levels", levels, 0)
        if self.levels > most:
            raise ValueError(f"levels: expected at most {most}, as 2^levels divides {self.shape}, got {levels}")
        self._h = _filter(name)
        self._g = self._h[::-1] * np.where(np.arange(len(self._h)) % 2, -1, 1)

    def __call__(self, x):
        """Psi x."""
        out = x.copy()
        for level in range(self.levels):
            part = self._corner(level)
            for axis in self._axes:
                out[part] = self._analyse(out[part], axis)
        return out

    def adjoint(self, c):
        """Psi* c = Psi^-1 c."""
        out = c.copy()
        for level in reversed(range(self.levels)):
            part = self._corner(level)
            for axis in reversed(self._axes):
                out[part] = self._synthesise(out[part], axis)
        return out

    def _corner(self, level):
        """The coarse part that a level transforms."""
        return (..., *(slice(n >> level if n > 1 else 1) for n in self.shape))

    def _analyse(self, x, axis):
        phases = [np.moveaxis(x, axis, -1)[..., p::2] for p in range(2)]
        return np.moveaxis(
            np.concatenate([_correlate(phases, f.astype(x.real.dtype)) for f in (self._h, self._g)], axis=-1), -1, axis
        )

    def _synthesise(self, c, axis):
        c = np.moveaxis(c, axis, -1)
        halves = np.split(c, 2, axis=-1)
        out = np.empty_like(c)
        for p in range(2):
            terms = [
                f.astype(c.real.dtype)[m] * np.roll(half, m // 2, -1)
                for f, half in zip((self._h, self._g), halves, strict=True)
                for m in range(p, len(f), 2)
            ]
            out[..., p::2] = functools.reduce(np.add, terms)
        return np.moveaxis(out, -1, axis)

    def __repr__(self):
        return f"Wavelet({self.shape}, {self.name!r}, levels={self.levels})"


def _twos(n):
    """How often 2 divides n."""
    return (n & -n).bit_length() - 1


def _correlate(phases, f):
    """sum_m f[m] x[2k + m] from the even and the odd numbers of x."""
    return functools.reduce(np.add, (c * np.roll(phases[m % 2], -(m // 2), -1) for m, c in enumerate(f)))


def _filter(name):
    """The low-pass filter of an orthogonal wavelet of PyWavelets, float64."""
    try:
        pywt = importlib.import_module("pywt")
    except ModuleNotFoundError as error:
        raise ImportError("wavelets need PyWavelets: pip install 'kspike[wavelets]'") from error
    if name not in pywt.wavelist(kind="discrete") or not pywt.Wavelet(name).orthogonal:
        raise ValueError(f"name: expected an orthogonal wavelet of PyWavelets, as 'haar', 'db2', 'sym4', got {name!r}")
    return np.array(pywt.Wavelet(name).rec_lo)


def sparsifier(psi, shape, backend=None):
    """The sparsifier of this name, or psi itself if it is one for this shape."""
    if psi == "gradient":
        return Gradient(shape, backend=backend)
    if psi == "identity":
        return Identity(shape)
    psi = Wavelet(shape, psi) if isinstance(psi, str) else psi
    if psi.shape != shape:
        raise ValueError(f"psi: expected one of shape {shape}, like the mask, got {psi}")
    return psi
