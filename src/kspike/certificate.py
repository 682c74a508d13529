# SPDX-License-Identifier: MIT
"""A proof of how good a reconstruction is: a bound on its objective gap by weak duality, whoever found it.

The dual of min_x F(x) = 1/2 ||A x - y||^2 + lam ||D x|| is max_p Re <A D*p, y> - 1/2 ||A D*p||^2 over the fields p
whose dual norm is at most lam and whose D*p has no unsampled frequency, (I - A*A) D*p = 0. For such p and q = A D*p,
every x has Re <q, A x> = Re <D*p, x> = Re <p, D x>, so that

    F(x) - F(x*) <= gap = F(x) - (Re <q, y> - 1/2 ||q||^2) = 1/2 ||A x - y + q||^2 + (lam ||D x|| - Re <p, D x>),

two terms that are not negative and that do not cancel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kspike import door, reference
from kspike.norms import NORMS, clip, magnitude
from kspike.operators import Gradient, MaskedFourier
from kspike.outcome import plain

__all__ = ["Certificate", "certify", "feasible"]

PROJECTIONS = 20  # on the data measured, the gap found is then within a factor of two of the true one


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is proven of x; a float each, or an array over the batch. Computed in double precision, up to its rounding.

    Nothing bounds x - x* itself where frequencies are not sampled: A has a null space. `samples` bounds what it sees.
    """

    gap: Any
    """F(x) - F(x*) is at most this."""
    objective: Any
    """F(x) = 1/2 ||A x - y||^2 + lam ||D x||."""
    samples: Any
    """||A (x - x*)||_2 is at most this, sqrt(2 gap): F grows from its minimum at least as 1/2 ||A (x - x*)||^2."""
    p: Any = field(repr=False)
    """The feasible dual field (..., 2, rows, cols), or of the shape of Psi x, complex128: to check all this."""

    @property
    def relative(self):
        """gap / F(x), the share of the objective that better optimisation could at most save; 0 where the gap is 0."""
        return plain(np.asarray(self.gap) / np.where(np.asarray(self.gap) > 0, self.objective, 1))


def certify(A, lam, x, y, p, *, norm="separable", projections=PROJECTIONS):
    """The `Certificate` of x from any field p near a dual solution; ADMM's is rho clip(w, lam / rho).

    p is made feasible: with eps = (I - A*A) D*p and s = D (D*D)^+ eps, D*s = eps, the nearest field without unsampled
    frequencies is p - s; this projection and the one onto the box of the dual norm alternate, and what still sticks out
    of the box at the end is scaled back.

    Parameters
    ----------
    A : MaskedFourier
    lam : weight of ||D x||
    x, y : the reconstruction (..., rows, cols) and the samples (..., m)
    p : (..., 2, rows, cols)
    norm : "separable", "modulus" or "isotropic"
    projections : how often to alternate, a transform and its adjoint each; the bound holds for any number, from 0
    """
    if norm not in NORMS:
        raise ValueError(f"norm: expected one of {', '.join(NORMS)}, got {norm!r}")
    lam, projections = door.number("lam", lam, 0, closed=True), door.whole("projections", projections, 0)
    for name, a, shape in (("x", x, A.shape), ("y", y, (A.samples,)), ("p", p, (2, *A.shape))):
        door.array(name, a, shape)
        if a.shape[: a.ndim - len(shape)] != x.shape[:-2]:
            raise ValueError(f"{name}: expected shape {(*x.shape[:-2], *shape)}, got {a.shape}")
    x, y, p = (a.astype("complex128") for a in (x, y, p))
    inside, D = _double(A), Gradient(A.shape, backend=A.backend)
    p = feasible(A, lam, p, norm, projections)
    d, misfit = D(x), inside(x) - y
    tv = lam * magnitude(d, norm).sum((-3, -2, -1))
    objective = 0.5 * (np.abs(misfit) ** 2).sum(-1) + tv
    slack = tv - (p.real * d.real + p.imag * d.imag).sum((-3, -2, -1))
    gap = 0.5 * (np.abs(misfit + inside(D.adjoint(p))) ** 2).sum(-1) + np.maximum(slack, 0)
    return Certificate(plain(gap), plain(objective), plain(np.sqrt(2 * gap)), p)


def feasible(A, lam, p, norm, projections=PROJECTIONS):
    """A field near p, complex128, with dual norm at most lam and no unsampled frequency in D*p; see `certify`."""
    D, unsampled = Gradient(A.shape, backend=A.backend), _complement(A)
    for _ in range(projections):
        p = _remove_unsampled(clip(p, lam, norm), D, unsampled)
    p = _remove_unsampled(p, D, unsampled)
    largest = magnitude(p, norm).max((-3, -2, -1), keepdims=True)
    return p * (lam / np.maximum(largest, lam) if lam else 0.0)


def _double(A):
    """A in double precision."""
    if A.dtype == np.complex128:
        return A
    return MaskedFourier(A.mask, dtype="complex128", backend=A.backend, threads=A.threads)


def _complement(A):
    """The transform to the frequencies that A leaves out; None if there are none."""
    if A.mask.all():
        return None
    return MaskedFourier(~A.mask, dtype="complex128", backend=A.backend, threads=A.threads)


def _remove_unsampled(p, D, unsampled):
    """p - D (D*D)^+ (I - A*A) D*p: the nearest field whose D*p has sampled frequencies only."""
    if unsampled is None:
        return p
    # The zero frequency, the only one where the symbol vanishes, is not in any D*p.
    k = reference.symbol(D.shape)[unsampled.mask]
    inverse = np.asarray(np.divide(1, k, out=np.zeros_like(k), where=k > 0), like=p)
    return p - D(unsampled.adjoint(inverse * unsampled(D.adjoint(p))))
