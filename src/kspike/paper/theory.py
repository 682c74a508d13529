# SPDX-License-Identifier: MIT
"""Section 5 of arXiv 2206.05289 in one dimension: why exact recovery makes artifacts, and how large they are.

A = P_Omega F_n keeps m of n frequencies. Where x and x + delta are both the unique minimisers of ||z||_1, or of
||D z||_1, subject to A z = A x and A z = A (x + delta), the perturbation e = A delta of the samples makes the artifact
delta, while r = A*e, what is seen of e, is at most m / n:

    alpha = ||delta||_inf / ||r||_inf = n / m          ||delta||_2 / ||e||_2 = sqrt(n / m)

The paper has >= n / m; it is an equality, for r(0) = m / n. A spike at the origin, pixel n // 2 here, has the samples
e = 1 / sqrt(n). Whether a vector is the unique minimiser is decided by a certificate, not by a solver: see `certified`.
"""

from __future__ import annotations

import math

import numpy as np

from kspike.operators import MaskedFourier
from kspike.sparse import SparseSolver

__all__ = [
    "band",
    "certified",
    "gaussian_measurements",
    "jumps",
    "minimise",
    "random_frequencies",
    "recovered",
    "separated",
    "spikes",
    "touching",
]

MARGIN = 1e-9  # by how much |v| stays below 1 off the support in a certificate: far above the rounding of v


# --- frequencies and signals: masks bool (n,), signals complex128 (n,) ------------------------------------------------


def random_frequencies(n, m, rng, *, dc):
    """m frequencies uniformly at random without repetition; with dc, the zero frequency and m - 1 others."""
    mask = np.zeros(n, bool)
    if dc:
        others = np.delete(np.arange(n), n // 2)
        mask[rng.choice(others, m - 1, replace=False)] = True
        mask[n // 2] = True
    else:
        mask[rng.choice(n, m, replace=False)] = True
    return mask


def band(n, c):
    """The 2 c + 1 frequencies -c ... c."""
    return np.abs(np.arange(n) - n // 2) <= c


def spikes(n, s, rng):
    """s spikes of either sign and of heights from 1/2 to 1, none at the origin."""
    x = np.zeros(n, complex)
    places = rng.choice(np.delete(np.arange(n), n // 2), s, replace=False)
    x[places] = rng.choice([-1, 1], s) * rng.uniform(0.5, 1, s)
    return x


def jumps(n, s, rng):
    """A periodic step function of s >= 2 pieces with values from 0 to 1: D x has s non-zero entries."""
    ends = np.sort(rng.choice(n, s, replace=False))
    piece = np.searchsorted(ends, np.arange(n), side="right") % s
    return rng.uniform(0, 1, s)[piece].astype(complex)


def separated(n, gap, rng):
    """As many spikes, one of them at the origin, as lie further than `gap` from each other on the circle of n."""
    places, room = [n // 2], math.floor(gap) + 1
    place = n // 2 + room + int(rng.integers(0, room // 2 + 1))
    while place + room <= n // 2 + n:
        places.append(place % n)
        place += room + int(rng.integers(0, room // 2 + 1))
    x = np.zeros(n, complex)
    x[places] = rng.choice([-1, 1], len(places)) * rng.uniform(0.5, 1, len(places))
    return x


# --- certificates ----------------------------------------------------------------------------------------------------


def certified(mask, c, *, dual=None, flat=False):
    """How far c is from not being the unique minimiser of ||z||_1 subject to A z = A c: a margin, > 0 where proven.

    With T the support of c, A_T its columns and sgn = c / |c| there, it is unique if A_T is injective and some v = A*q
    has v = sgn on T and |v| < 1 elsewhere: ||z||_1 >= Re<v, z> = Re<q, A c> = ||c||_1. The margin is 1 - max |v| off T.
    Here v = A*(dual + B (B*B)^-1 (what is missing)), B = A_T: of the q with the right values on T, the one nearest to
    `dual`. A small or negative margin proves nothing; a margin > 1e-9 is a proof, up to rounding.

    Parameters
    ----------
    mask : bool (n,)
    c : complex (n,), not zero
    dual : (m,), where to start: a solver's dual variable, or 0 (Fuchs' certificate)
    flat : ask for a derivative of 0 on T too, as sets of low frequencies need: |v| touches 1 there
    """
    n, m = mask.size, int(mask.sum())
    support = np.flatnonzero(c)
    sign = c[support] / np.abs(c[support])
    k = np.flatnonzero(mask) - n // 2
    phases = np.exp(-2j * np.pi * ((k[:, None] * (support - n // 2)) % n) / n) / np.sqrt(n)
    columns, wanted = phases, sign
    if flat:
        columns = np.hstack([phases, phases * (k / max(1, np.abs(k).max()))[:, None]])
        wanted = np.concatenate([sign, np.zeros_like(sign)])
    if columns.shape[1] > m:
        return -math.inf
    q = np.zeros(m, complex) if dual is None else dual
    gram = columns.conj().T @ columns
    if np.linalg.cond(gram) > 1e12:
        return -math.inf
    q = q + columns @ np.linalg.solve(gram, wanted - columns.conj().T @ q)
    v = np.abs(MaskedFourier(mask, dtype="complex128").adjoint(q))
    off = np.ones(n, bool)
    off[support] = False
    return 1 - float(v[off].max(initial=0))


def difference(x):
    """D x, (n,): x[j + 1] - x[j], periodic. Entries that rounding leaves of equal neighbours are 0."""
    d = np.roll(x, -1, -1) - x
    d[np.abs(d) < 1e-12 * np.abs(x).max()] = 0
    return d


def minimise(mask, x, psi, *, max_iterations=2000, tol=1e-5):
    """argmin ||Psi z||_1 subject to A z = A x, and the dual variable q (m,) for `certified`; psi as in `SparseSolver`.

    q = A p with p the solver's dual field, |p| <= 1; for the gradient p is a function of D x, as certificates here are.
    """
    solver = SparseSolver(mask, psi, eta=0, norm="modulus", dtype="complex128")
    found = solver.solve(solver.A(x), max_iterations=max_iterations, tol=tol)
    return found.x, solver.A(np.ascontiguousarray(found.certificate.p.reshape(mask.shape)))


def recovered(mask, x, psi, *, max_iterations=2000):
    """1 where x is proven to be the unique minimiser, 0 where it is proven not to be, NaN where neither.

    For the gradient the zero frequency must be sampled. Then z -> D z maps the feasible z onto the feasible c of the
    problem min ||c||_1, A c = A D x, one to one (a c with A c = A D x sums to 0 and so is a gradient): what the paper's
    proof shows as a chain of inequalities are equalities, and D x is certified in place of x.
    """
    c = difference(x) if psi == "gradient" else x
    if certified(mask, c) > MARGIN:
        return 1.0
    if np.count_nonzero(c) > mask.sum():
        return 0.0  # dependent columns: c can be moved along their kernel, and down
    A = MaskedFourier(mask, dtype="complex128")
    for iterations in (max_iterations // 10, max_iterations):
        z, dual = minimise(mask, x, psi, max_iterations=iterations)
        z = z + A.adjoint(A(x - z))
        other = np.roll(z, -1, -1) - z if psi == "gradient" else z
        if np.abs(other).sum() < (1 - 1e-6) * np.abs(c).sum():
            return 0.0
        for radius in (0.9, 0.99):
            if certified(mask, c, dual=_pressed(A, c, dual, radius)) > MARGIN:
                return 1.0
    return math.nan


def _pressed(A, c, q, radius, rounds=100):
    """A dual vector near q with |A*q| near or below the radius off the support of c: projections that alternate."""
    on = c != 0
    sign = c[on] / np.abs(c[on])
    for _ in range(rounds):
        v = A.adjoint(q)
        v *= radius / np.maximum(np.abs(v), radius)
        v[on] = sign
        q = A(v)
    return q


def touching(n, support):
    """v = 1 - prod_(t in T) sin^2(pi (j - t) / n), real (n,): 1 on T, in [0, 1) elsewhere, and a sum of the frequencies
    -s ... s, s the size of T: a certificate, for any T, of a non-negative vector with that support.

    With ||z||_1 >= Re<v, z> for every z it is the unique minimiser, as 2 s + 1 >= s frequencies in a row are injective
    on T: what the paper cites from Donoho, Johnstone, Hoch and Stern (1992).
    """
    j = np.arange(n)
    return 1 - np.prod([np.sin(np.pi * (j - t) / n) ** 2 for t in support], axis=0)


def gaussian_measurements(n, s):
    """About how many complex Gaussian measurements recover s of n: half the statistical dimension.

    m = min_t 1/2 (s (2 + t^2) + (n - s) (2 exp(-t^2 / 2) - t sqrt(2 pi) erfc(t / sqrt 2))), blocks of a real and an
    imaginary part (Amelunxen, Lotz, McCoy, Tropp, arXiv 1303.6672). Random frequencies are observed to behave alike.
    """
    t = np.linspace(0, 12, 2401)
    erfc = np.array([math.erfc(a / math.sqrt(2)) for a in t])
    rest = 2 * np.exp(-(t**2) / 2) - t * math.sqrt(2 * math.pi) * erfc
    return float((s * (2 + t**2) + (n - s) * rest).min() / 2)
