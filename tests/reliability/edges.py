# SPDX-License-Identifier: MIT
"""The edges of the numbers: lam 0, tiny and huge, no budget, full and single masks, no mean, lines, tiny and huge data.

Each case holds a law of the minimiser, no output of ours: optimality by the certificate, or an answer in closed form.
"""

from __future__ import annotations

import math

import numpy as np

import kspike
import kspike.door

TITLE = "The edges of the numbers"
DTYPES = ("complex64", "complex128")
N = 32


def problem(mask=None, shape=(N, N), dtype="complex64"):
    """A mask, an image with its mean at 0.3, its samples."""
    mask = kspike.radial_mask(shape, lines=12) if mask is None else mask
    x = kspike.ellipses(shape, seed=3).astype(dtype) + np.asarray(0.1, dtype)
    return mask, x, kspike.MaskedFourier(mask, dtype=dtype)(x)


def single(shape, where):
    """A mask of one frequency."""
    mask = np.zeros(shape, bool)
    mask[where] = True
    return mask


def relative(a, b):
    """||a - b|| / ||b||, or ||a|| where b is zero, in double."""
    a, b = np.asarray(a, complex), np.asarray(b, complex)
    size = np.abs(b).max() or 1.0
    return float(np.linalg.norm(a / size - b / size) / (np.linalg.norm(b / size) or 1.0))


def no_penalty(dtype):
    """lam = 0: the samples are met."""
    mask, _, y = problem(dtype=dtype)
    tv = kspike.TVSolver(mask, lam=0, dtype=dtype)
    return relative(tv.A(tv.solve(y, tol=1e-6).x), y), 1e-6 if dtype == "complex128" else 1e-5


def huge_penalty(dtype):
    """lam so large that D x = 0: the constant image of the sampled mean."""
    mask, x, y = problem(dtype=dtype)
    tv = kspike.TVSolver(mask, lam=1e6, rho=1.0, dtype=dtype)
    found = tv.solve(y, max_iterations=2000, tol=0).x
    return relative(found, np.full_like(found, x.mean())), 1e3 * np.finfo(dtype).eps


def tiny_penalty(dtype):
    """lam = 1e-12: finite, and the samples are met."""
    mask, _, y = problem(dtype=dtype)
    tv = kspike.TVSolver(mask, lam=1e-12, dtype=dtype)
    found = tv.solve(y, max_iterations=500, tol=0).x
    return relative(tv.A(found), y), 1e-10 if dtype == "complex128" else 1e-5


def farthest_penalties(dtype):
    """lam = 1e-30 and 1e30, with the default rho: the samples are met, and the constant image of the sampled mean."""
    mask, x, y = problem(dtype=dtype)
    tv = kspike.TVSolver(mask, lam=1e-30, dtype=dtype)
    small = relative(tv.A(tv.solve(y, max_iterations=500, tol=0).x), y)
    large = kspike.TVSolver(mask, lam=1e30, dtype=dtype).solve(y, max_iterations=500, tol=0).x
    return max(small, relative(large, np.full_like(large, x.mean()))), 1e-10 if dtype == "complex128" else 1e-5


def beyond(dtype):
    """Data, lam or rho beyond what the precision holds on the way: refused, no NaN comes back."""
    mask, _, y = problem(dtype=dtype)
    factor = 10 * kspike.door.SCALE[y.dtype][1]
    scaled = [(y * (s / np.abs(y).max())).astype(dtype) for s in (factor, 1 / factor)]
    calls = [lambda v=v: kspike.TVSolver(mask, lam=1e-2, dtype=dtype).solve(v) for v in scaled]
    calls += [lambda v=v: kspike.attack(kspike.TVSolver(mask, lam=1e-2, dtype=dtype), v, noise=0.1) for v in scaled]
    calls += [lambda s=s: kspike.TVSolver(mask, lam=s, dtype=dtype) for s in (1e300, 1e-320)]
    calls += [lambda s=s: kspike.TVSolver(mask, lam=1e-2, rho=s, dtype=dtype) for s in (1e200, 1e-200)]
    for call in calls:
        try:
            call()
        except ValueError as error:
            if "expected a" in str(error):
                continue
        return 1.0, 0.0
    return 0.0, 0.0


def full_mask(dtype):
    """Every frequency sampled: denoising, certified to a small gap."""
    mask, _, y = problem(np.ones((N, N), bool), dtype=dtype)
    info = kspike.TVSolver(mask, lam=1e-2, dtype=dtype).solve(y, max_iterations=3000, tol=0)
    return float(info.certificate.gap / info.objective), 1e-4


def one_sample(dtype):
    """Only the zero frequency: the constant image with that mean, whatever lam."""
    mask, x, y = problem(single((N, N), (N // 2, N // 2)), dtype=dtype)
    found = kspike.TVSolver(mask, lam=1e-2, dtype=dtype).solve(y, max_iterations=300, tol=0).x
    return relative(found, np.full_like(found, x.mean())), 1e3 * np.finfo(dtype).eps


def one_other_sample(dtype):
    """Only one frequency, not zero, and lam above its modulus: nothing is worth its variation, x = 0."""
    mask, _, y = problem(single((N, N), (N // 2 + 1, N // 2)), dtype=dtype)
    lam = float(10 * np.abs(y).max())
    found = kspike.TVSolver(mask, lam=lam, rho=1.0, dtype=dtype).solve(y, max_iterations=2000, tol=0).x
    return float(np.abs(found).max() / np.abs(y).max()), 1e-5


def no_mean(dtype):
    """The zero frequency not sampled: the solution with mean zero is returned."""
    mask, _, _ = problem()
    mask = mask.copy()
    mask[N // 2, N // 2] = False
    _, _, y = problem(mask, dtype=dtype)
    found = kspike.TVSolver(mask, lam=1e-2, dtype=dtype).solve(y, max_iterations=500, tol=0).x
    return float(abs(found.mean()) / np.abs(found).max()), 1e2 * np.finfo(dtype).eps


def a_line(dtype):
    """An image 1 x n is solved as the image n x 1 is."""
    rng = np.random.default_rng(0)
    mask = rng.random((1, 97)) < 0.6
    mask[0, 48] = True
    x = np.repeat(rng.standard_normal(14), 7)[None, :97].astype(dtype)
    y = kspike.MaskedFourier(mask, dtype=dtype)(x)
    lines = [
        kspike.TVSolver(m, lam=1e-2, dtype=dtype).solve(y, max_iterations=200, tol=0).x for m in (mask, mask.T.copy())
    ]
    return relative(lines[1].T, lines[0]), 1e3 * np.finfo(dtype).eps


def one_pixel(dtype):
    """1 x 1: x = y."""
    y = np.array([2 - 1j], dtype)
    found = kspike.TVSolver(np.ones((1, 1), bool), lam=1.0, dtype=dtype).solve(y).x
    return relative(found.ravel(), y), 1e2 * np.finfo(dtype).eps


def scaling(exponent):
    """The law x(s y; s lam) = s x(y; lam) at s = 10^exponent, the same rho: solve and certificate."""

    def law(dtype):
        mask, _, y = problem(dtype=dtype)
        s = 10.0**exponent
        one = kspike.TVSolver(mask, lam=1e-2, rho=0.1, dtype=dtype).solve(y, max_iterations=60, tol=0)
        other = kspike.TVSolver(mask, lam=s * 1e-2, rho=0.1, dtype=dtype)
        many = other.solve((y.astype(complex) * s).astype(dtype), max_iterations=60, tol=0)
        gap = float(many.certificate.gap) / s / s / float(one.certificate.gap)
        return max(relative(many.x.astype(complex) / s, one.x), abs(gap - 1) / 10), 1e4 * np.finfo(dtype).eps

    law.__name__, law.__doc__ = f"scale_1e{exponent:+d}", f"x(s y; s lam) = s x(y; lam), s = 1e{exponent:+d}"
    return law


def attack_scaling(exponent):
    """alpha does not depend on the unit of the data: attack(rec_(s lam), s y) has the alpha of attack(rec_lam, y)."""

    def law(dtype):
        mask, _, y = problem(dtype=dtype)
        s = 10.0**exponent
        alphas = []
        for factor in (1.0, s):
            tv = kspike.TVSolver(mask, lam=factor * 1e-2, rho=0.3, dtype=dtype)
            scaled = (y.astype(complex) * factor).astype(dtype)
            alphas.append(kspike.attack(tv, scaled, noise=0.05, grid=(1, 1), radius=2, steps=5).amplification)
        return abs(alphas[1] / alphas[0] - 1), 2e-2  # single precision moves a perturbation by percents, alpha by less

    law.__name__, law.__doc__ = f"attack_1e{exponent:+d}", f"alpha of s y equals that of y, s = 1e{exponent:+d}"
    return law


def no_budget(dtype):
    """eta = 0 has no perturbation to find: refused in one line."""
    mask, _, y = problem(dtype=dtype)
    tv = kspike.TVSolver(mask, lam=1e-2, dtype=dtype)
    for given in ({"eta": 0.0}, {"noise": 0.0}, {"eta": -1.0}, {"eta": math.nan}, {"noise": math.inf}):
        try:
            kspike.attack(tv, y, grid=(1, 1), **given)
        except ValueError as error:
            if "expected a number" in str(error):
                continue
        return 1.0, 0.0
    return 0.0, 0.0


def not_finite(dtype):
    """NaN and infinity in the samples, in lam, in an image: refused, never computed with."""
    mask, _, y = problem(dtype=dtype)
    tv = kspike.TVSolver(mask, lam=1e-2, dtype=dtype)
    for value in (math.nan, math.inf, -math.inf, complex(0, math.nan)):
        bad = y.copy()
        bad[3] = value
        for call in (tv, tv.vjp, lambda y: kspike.attack(tv, y, noise=0.1)):
            try:
                call(bad)
            except ValueError as error:
                if "finite" in str(error):
                    continue
            return 1.0, 0.0
    return 0.0, 0.0


CASES = [
    *(
        no_penalty,
        huge_penalty,
        tiny_penalty,
        farthest_penalties,
        full_mask,
        one_sample,
        one_other_sample,
        no_mean,
        a_line,
        one_pixel,
    ),
    *(scaling(k) for k in (-20, -10, 10, 20)),
    *(attack_scaling(k) for k in (-20, 20)),
    *(no_budget, not_finite, beyond),
]


def run(minutes):
    """Every case in both precisions."""
    del minutes
    table, passed = [], True
    for case in CASES:
        for dtype in DTYPES:
            try:
                measured, allowed = case(dtype)
            except Exception as error:  # what a case raises is its result, shown in its row
                measured, allowed, note = math.inf, 0.0, f"{type(error).__name__}: {error}"
            else:
                note = f"{measured:.1e}"
            passed &= measured <= allowed
            table.append((f"{case.__doc__.split(chr(10))[0].rstrip('.')} ({dtype})", note, f"{allowed:.0e}"))
    return passed, table
