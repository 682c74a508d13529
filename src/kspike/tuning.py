# SPDX-License-Identifier: MIT
"""Choosing lam: recTV along a path of falling lam, each solve from the state of the one before, and a criterion.

rho is no second axis: it sets the speed of a solve and not its solution.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kspike import door
from kspike.solver import TVSolver

__all__ = ["CRITERIA", "Tuned", "path", "tune"]

CRITERIA = ("truth", "discrepancy", "sure")
CENTRE, BELOW, ABOVE = 0.14, 5, 4  # of the default path: lam / (noise max|A*y|), and steps of sqrt(2) to either side
PRECISE = 1e-4  # how well SURE wants its solves, for it counts jumps
MAX_ITERATIONS = 2000


@dataclass(frozen=True, eq=False)
class Tuned:
    """What `tune` found: the lam with the least value of the criterion, and the curve it was read from."""

    lam: float
    criterion: str
    lams: Any = field(repr=False)
    """The path, falling: (count,)."""
    curve: Any = field(repr=False)
    """The criterion at each lam, the mean over the images: (count,)."""
    values: Any = field(repr=False)
    """The same for each image: (images, count). What they are is said in `tune`."""
    pairs: int
    """FFT + inverse FFT pairs of all solves of all images."""


def path(lam, below=BELOW, above=ABOVE):
    """The falling path lam sqrt(2)^k, k = above ... -below."""
    return door.number("lam", lam, 0) * math.sqrt(2) ** np.arange(above, -below - 1, -1.0)


def tune(y, mask, *, criterion="truth", truth=None, noise=None, lams=None, tol=3e-3, progress=None, **options):
    """Choose lam for samples y of one image (m,) or several (images, m); a `Tuned`.

    With x = recTV(y), eta = noise ||y|| the size ||e||_2 of the noise in y, the criterion is the least mean of

        truth           ||x - truth||_2 / ||truth||_2
        discrepancy     |log(||A x - y||_2 / eta)|, the discrepancy principle of Morozov
        sure            (||A x - y||^2 - eta^2 + eta^2 / m df) / ||y||^2, for white noise an unbiased estimate of
                        ||A (x - truth)||^2 / ||y||^2 (Stein 1981); df = div_y A x is the number of regions of x
                        (Tibshirani and Taylor 2012), what a Monte Carlo estimate by `Jacobian.tangent` tends to; for a
                        joint norm it is that estimate, from one random vector

    Parameters
    ----------
    y : samples, complex64 or complex128, which is then the precision of the solves
    mask : bool (rows, cols), centred
    criterion : "truth", "discrepancy" or "sure"
    truth : (images, rows, cols), or (rows, cols) for one image, for "truth"
    noise : ||e|| / ||y||, for "discrepancy" and "sure", and for the default path
    lams : what to try; default 0.14 noise max|A*y| sqrt(2)^k, k = 4 ... -5
    tol : of the solves, as in `TVSolver.solve`; at most 1e-4 for "sure". The minimum is flat: 1e-3 finds the same
    progress : called as progress(lams done, lams)
    options : of `TVSolver`: backend, threads, norm, relax

    Warns where the best lam is at an end of the path, and where a solve did not converge.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion: expected one of {', '.join(CRITERIA)}, got {criterion!r}")
    door.array("y", y, ("m",))
    if y.ndim > 2 or not y.size:
        raise ValueError(f"y: expected the samples of one image (m,) or of several (images, m), got {y.shape}")
    y = door.batched(y, 1)
    if noise is not None:
        noise = door.number("noise", noise, 0)
    if criterion == "truth" and truth is None:
        raise TypeError("truth: expected the images, for criterion='truth'")
    if noise is None and (criterion != "truth" or lams is None):
        raise TypeError("noise: expected ||e|| / ||y||, for this criterion and for the default lams")
    if truth is not None and (truth.shape[-2:] != mask.shape or truth.shape[:-2] not in ((len(y),), ())):
        raise ValueError(f"truth: expected shape {(len(y), *mask.shape)}, got {truth.shape}")
    if lams is None:
        first = TVSolver(mask, 1.0, dtype=y.dtype, **options)
        lams = path(CENTRE * noise * float(np.abs(first.A.adjoint(y)).max()))
    lams = np.sort([door.number("lams", lam, 0) for lam in lams])[::-1]
    if not len(lams):
        raise ValueError("lams: expected at least one, got none")

    values, pairs, info, slow = [], 0, None, []
    for done, lam in enumerate(lams, 1):
        tv = TVSolver(mask, lam, dtype=y.dtype, **options)
        aim = min(tol, PRECISE) if criterion == "sure" else tol
        info = tv.solve(y, MAX_ITERATIONS, aim, state=info)
        pairs += int(info.iterations.sum())
        if not info.converged.all():
            slow.append(lam)
        values.append(_value(criterion, info, y, truth, noise))
        if progress is not None:
            progress(done, len(lams))
    if slow:
        warnings.warn(
            f"{MAX_ITERATIONS} iterations did not converge for lam = {', '.join(f'{lam:g}' for lam in slow)}",
            UserWarning,
            stacklevel=2,
        )
    values = np.array(values).T
    curve = values.mean(0)
    best = int(curve.argmin())
    if len(lams) > 1 and best in (0, len(lams) - 1):
        warnings.warn(
            f"the best lam, {lams[best]:.3g}, is at an end of the path: give lams that go on", UserWarning, stacklevel=2
        )
    return Tuned(float(lams[best]), criterion, lams, curve, values, pairs)


def _value(criterion, info, y, truth, noise):
    """The criterion for each image: (images,), float64."""
    x, A = info.x, info._solver.A
    if criterion == "truth":
        return _size(x - truth, 2) / _size(np.broadcast_to(truth, x.shape), 2)
    misfit, size = _size(A(x) - y, 1), _size(y, 1)
    if criterion == "discrepancy":
        return np.abs(np.log(np.maximum(misfit, np.finfo(float).tiny) / (noise * size)))
    return (misfit / size) ** 2 - noise**2 + noise**2 / A.samples * _degrees(info)


def _degrees(info):
    """div_y A x for each image: (images,). For a joint norm <b, A J A* b> of one vector b of random signs."""
    J = info.jacobian()
    if info._solver.norm == "separable":
        return np.array(J.regions)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (2, *info._y.shape))
    b = (signs[0] + 1j * signs[1]).astype(info._y.dtype)
    return (b.conj() * info._solver.A(J.tangent(b))).real.sum(-1)


def _size(a, inner):
    """l2 norms over the last `inner` dimensions, on the host."""
    norms = np.sqrt((np.abs(a).astype(float) ** 2).sum(tuple(range(-inner, 0))))
    return np.array(norms.tolist())
