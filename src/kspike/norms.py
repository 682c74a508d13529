# SPDX-License-Identifier: MIT
"""The three norms of coefficients, in array operations: lengths, the projection onto the dual ball, its derivative.

"separable": |Re c| + |Im c|; "modulus": |c|; "isotropic", for fields: sqrt(|c0|^2 + |c1|^2). See `kspike.reference`.
"""

from __future__ import annotations

import numpy as np

__all__ = ["NORMS", "clip", "magnitude", "slope", "support"]

NORMS = ("separable", "modulus", "isotropic")


def magnitude(d, norm="separable"):
    """The moduli that ||d|| sums and whose largest is the dual norm: (..., 2, rows, cols) -> (..., any, rows, cols).

    separable: |Re d|, |Im d|, four per pixel;   modulus: |d|, two;   isotropic: sqrt(|d0|^2 + |d1|^2), one.
    """
    if norm == "separable":
        return np.concatenate([np.abs(d.real), np.abs(d.imag)], axis=-3)
    if norm == "modulus":
        return np.abs(d)
    return np.sqrt((np.abs(d) ** 2).sum(-3, keepdims=True))


def clip(v, t, norm):
    """The projection onto the ball of radius t of the dual norm."""
    if norm == "separable":
        return np.clip(v.view(v.real.dtype), -t, t).view(v.dtype)
    length = magnitude(v, norm)
    return v * (t / np.where(length > t, length, t or 1))


def support(w, t, norm):
    """What the derivative of shrinking at w consists of: packed bits, or s = shrink(w, t) / |w|."""
    if norm == "separable":
        return np.packbits(np.abs(w.view(w.real.dtype)) > t)
    length = magnitude(w, norm)
    length = np.where(length > t, length, np.inf)
    return w * ((1 - t / length) / length)


def slope(s, v, norm):
    """S v; S is symmetric."""
    if norm == "separable":
        parts = v.view(v.real.dtype)
        return (parts * np.unpackbits(s, count=parts.size).reshape(parts.shape)).view(v.dtype)
    length = magnitude(s, norm)
    inner = (s.conj() * v).real
    if norm == "isotropic":
        inner = inner.sum(-3, keepdims=True)
    return length * v + s * ((1 - length) * inner / np.where(length > 0, length**2, np.inf))
