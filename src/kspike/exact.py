# SPDX-License-Identifier: MIT
"""Exact recovery: the minimiser of ||c||_1 subject to B c = v, guessed from an iterate and then proven.

B has orthonormal rows. Where an iteration would go on for thousands of steps, its largest entries name a support S,
conjugate gradients solve B c = v on it, and a dual vector shows that nothing is shorter: for p = B*q with |p| <= 1,

    every c' with B c' = v has ||c'||_1 >= Re <p, c'> = Re <q, v>,

which is ||c||_1 if p is the sign of c on S. The first q tried is the smallest one (Fuchs 2004), of the form B c'' with
c'' on S; where |p| > 1 somewhere, the projections onto the two conditions on p alternate, from the iterate's own p.
"""

from __future__ import annotations

import math

import numpy as np

from kspike.norms import clip
from kspike.operators import Gradient, MaskedFourier

__all__ = ["Coefficients", "recover"]

SHARE = 3  # at most m / SHARE entries are tried
PRUNE = 1e-3, 1e-7  # entries below these shares of the largest one are taken for zeros, one after the other
ROUNDS = 10  # of the projections
GAP = 1e-9  # the share of ||c||_1 that may be left unproven


class Coefficients:
    """B, for the coefficients c = Psi x of images with A x = y: B c = data(y), and image(c, y) is x again.

    Where Psi*Psi = Psi Psi* = I it is B = A Psi*. For the gradient of a signal c has the spectrum s x^, with
    s = exp(2 pi i k / n) - 1, and sums to zero: B is the transform at the frequencies of A and at zero.
    """

    def __init__(self, A, psi):
        self._A, self._psi, self._signal = A, psi, isinstance(psi, Gradient)
        if self._signal:
            n = A.shape[0]
            mask = A.mask.copy()
            mask[n // 2] = True
            self._B = MaskedFourier(mask, dtype=A.dtype)
            self._known = A.mask[mask]
            k = np.flatnonzero(A.mask) - n // 2
            self._symbol, self._zero = np.exp(2j * np.pi * k / n) - 1, k == 0

    @staticmethod
    def fit(A, psi):
        """Whether there is a B for this A and Psi."""
        return getattr(psi, "tight", False) or (isinstance(psi, Gradient) and len(A.shape) == 1)

    def __call__(self, c):
        """B c."""
        return self._B(c) if self._signal else self._A(self._psi.adjoint(c))

    def adjoint(self, v):
        """B* v."""
        return self._B.adjoint(v) if self._signal else self._psi(self._A.adjoint(v))

    def data(self, y):
        """v, for the samples y."""
        if not self._signal:
            return y
        v = np.zeros(self._B.samples, y.dtype)
        v[self._known] = self._symbol * y
        return v

    def image(self, c, y):
        """x, for coefficients c with B c = data(y)."""
        if not self._signal:
            return self._psi.adjoint(c)
        x = np.concatenate([[0], np.cumsum(c)[:-1]])
        return x + (y[self._zero].sum() / math.sqrt(x.size) - x.mean())


def recover(B, v, z, p, norm):
    """The pair (c, p) of the minimiser and its dual vector, or (None, None), and how often B and B* were applied.

    Parameters
    ----------
    B : callable with `adjoint`, in double precision
    v : the data, complex128
    z : an iterate near c, sparse
    p : the iterate's own dual vector
    norm : "separable", ||c||_1 = sum |Re c| + |Im c|, or "modulus"
    """
    space = _Support(B, norm)
    moduli = np.abs(z).ravel()
    most = min(np.count_nonzero(moduli), max(v.size // SHARE, 1))
    if not most:
        return None, None, 0
    chosen = np.zeros(moduli.size, bool)
    chosen[np.argpartition(-moduli, most - 1)[:most]] = True
    space.set(chosen.reshape(z.shape), whole=True)
    size = _norm(v)
    data = B.adjoint(v)
    c = space.solve(data, z, 1e-7, 30)
    seen = None
    for prune in PRUNE:
        kept = space.above(c, prune)
        if seen is not None and (kept == seen).all():
            continue
        seen = kept
        space.set(kept)
        found = space.solve(data, c, 1e-14, 60)
        if _norm(B(found) - v) <= space.consistent * size:
            dual = space.dual(found, p)
            return (found, dual, space.applied) if dual is not None else (None, None, space.applied)
    return None, None, space.applied


class _Support:
    """The coefficients that vanish off a support S, in parts where the norm is separable, and B*B among them."""

    consistent = 1e-10  # of ||v||: what B c - v may leave on the right support

    def __init__(self, B, norm):
        self._B, self._norm, self.applied = B, norm, 0
        self._kind = "complex128" if norm == "modulus" else "float64"

    def set(self, kept, whole=False):
        """S: a bool for each entry that `view` shows, or for each complex number if `whole`."""
        self._on = np.repeat(kept[..., None], 2, axis=-1).reshape(*kept.shape[:-1], -1) if whole else kept
        if whole and self._norm == "modulus":
            self._on = kept

    def above(self, c, share):
        """Which entries exceed this share of the largest."""
        sizes = np.abs(c.view(self._kind))
        return sizes > share * sizes.max(initial=0)

    def solve(self, b, start, tol, most):
        """c on S with (B*B c - b) = 0 on S, by conjugate gradients from `start`."""
        target, a = b.view(self._kind)[self._on], start.view(self._kind)[self._on]
        if a.any():
            a, r = a.copy(), target - self._normal(a)
        else:
            r = target.copy()
        d, rr, least = r.copy(), _dot(r, r), (tol * _norm(target)) ** 2
        for _ in range(most):
            if rr <= least:
                break
            q = self._normal(d)
            step = rr / (_dot(d, q) or math.inf)
            a += step * d
            r -= step * q
            rr, before = _dot(r, r), rr
            d = r + rr / before * d
        return self._extend(a)

    def dual(self, c, p):
        """p = B*q, the sign of c on S, with |p| <= 1 up to GAP ||c||_1; None if none was found."""
        signs = self._signs(c)
        for turn in range(ROUNDS + 1):
            if turn == 0:
                found = self._lift(self.solve(signs, 0 * signs, 1e-13, 60))
            else:
                p = np.where(self._on, signs.view(self._kind), clip(p, 1.0, self._norm).view(self._kind))
                p = self._lift(np.ascontiguousarray(p).view(signs.dtype))
                found = p = p + self._lift(self.solve(signs - p, 0 * signs, 1e-13, 60))
            largest = np.abs(found.view(self._kind)).max()
            if largest <= 1 + GAP:
                return found / max(largest, 1.0)
        return None

    def _signs(self, c):
        """c / |c| on S, and 0 elsewhere."""
        parts = c.view(self._kind)
        sizes = np.abs(parts)
        return np.where(self._on, parts / np.where(sizes > 0, sizes, 1), 0).view(c.dtype)

    def _normal(self, a):
        """B*B among the entries of S."""
        return self._lift(self._extend(a)).view(self._kind)[self._on]

    def _lift(self, c):
        """B*B c."""
        self.applied += 1
        return self._B.adjoint(self._B(c))

    def _extend(self, a):
        """The coefficients with the entries a on S."""
        c = np.zeros(self._on.shape, self._kind)
        c[self._on] = a
        return c.view("complex128")


def _dot(a, b):
    return float(np.vdot(a, b).real)


def _norm(a):
    return float(np.linalg.norm(np.ravel(a)))
