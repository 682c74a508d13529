# SPDX-License-Identifier: MIT
"""What the methods for sparse recovery share: the problem, the loop over images, the stopping rule, the measures."""

from __future__ import annotations

import copy
import functools
import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kspike import door, exact
from kspike.certificate import Certificate, feasible
from kspike.norms import NORMS, clip, magnitude
from kspike.operators import Gradient, MaskedFourier
from kspike.outcome import Outcome, Residuals, plain
from kspike.solver import penalty
from kspike.sparsifiers import sparsifier

__all__ = ["Found", "Iterative", "State", "size"]

CHECK = 10  # iterations between two looks at the stopping rule
GUESS, LATER = 20, 1.4  # with eta = 0: the iteration of the first guess at the support, and of each next to that


@dataclass(frozen=True, eq=False)
class Found(Outcome):
    """What a method found: an `Outcome`, with its cost and, if asked for, its course."""

    pairs: Any
    """FFT + inverse FFT pairs: the iterations, and what guesses at the support took beside them."""
    history: Any = field(repr=False)
    """For each image, if asked for: float array (iterations, 2) of pairs spent and objective. Else None."""


class State:
    """What a method keeps of each image of a batch: `images`, a dict of arrays and numbers each."""

    def __init__(self, images):
        self.images = images

    @property
    def batch(self):
        """How many images."""
        return len(self.images)

    def copy(self):
        """An independent state with the same contents."""
        return State(copy.deepcopy(self.images))


class Iterative:
    """What the methods share: the problem, the loop over images and iterations, the stopping rule, the measures.

    A method has `_start(y)`, the state of an image as a dict; `_step(s, y)`, which advances it by a pair of transforms
    and returns x; and `_dual(s, x, y)`, a field w and a rho with rho clip(w, lam / rho) near a dual solution.

    The parameters are those of `SparseSolver`.
    """

    def __init__(self, mask, psi, lam, eta, norm, dtype, backend, threads):
        self.A = MaskedFourier(mask, dtype=dtype, backend=backend, threads=threads)
        self.shape, self.samples, self.dtype = self.A.shape, self.A.samples, self.A.dtype
        self.backend, self.threads = self.A.backend, self.A.threads
        if (lam is None) == (eta is None):
            raise TypeError(f"lam, eta: expected exactly one of the two, got lam={lam!r}, eta={eta!r}")
        self.lam = None if lam is None else door.number("lam", lam, 0, closed=True)
        self.eta = None if eta is None else door.number("eta", eta, 0, closed=True)
        self.psi = sparsifier(psi, self.shape, self.backend)
        self._gradient, self._weight = isinstance(self.psi, Gradient), 1.0 if lam is None else self.lam
        self._fields = self._gradient and len(self.shape) == 2
        allowed = NORMS if self._fields else NORMS[:2]
        if norm not in allowed:
            raise ValueError(f"norm: expected one of {', '.join(allowed)} for {self.psi}, got {norm!r}")
        self.norm = norm
        self._tight = getattr(self.psi, "tight", False)
        if not (self._tight or self._gradient):
            raise ValueError(f"psi: expected the gradient or an orthogonal transform, tight = True, got {self.psi}")
        self._bound = sum(4 if n > 1 else 0 for n in self.shape) if self._gradient else 1.0

    def _penalty(self, y):
        """The default rho of ADMM for these data, by measurement; see `SparseSolver`."""
        if self.lam is not None:
            return penalty(self.lam, self.A) * (0.1 if self._gradient and not self._fields else 1.0)
        if self._fields:
            step = 0.03 * float(np.abs(self.A.adjoint(y)).max(initial=0))
        else:
            B = exact.Coefficients(self.A, self.psi)
            peak = float(np.abs(B.adjoint(B.data(y))).max(initial=0))
            step = (0.06 if self.eta else 0.3) * math.sqrt(math.prod(self.shape) / self.samples) * peak
        return 1 / (step or 1.0)

    def __repr__(self):
        weight = f"lam={self.lam:g}" if self.eta is None else f"eta={self.eta:g}"
        return (
            f"{type(self).__name__}({self.shape}, {self.psi}, {weight}, samples={self.samples}, norm={self.norm}, "
            f"dtype={self.dtype.name}, backend={self.backend})"
        )

    def __call__(self, y):
        """x: (..., m) -> (..., rows, cols) or (..., n). Warns if 2000 iterations did not reach the default aim."""
        info = self.solve(y)
        self._warn(info)
        return info.x

    def solve(self, y, max_iterations=2000, tol=1e-4, *, state=None, history=False):
        """Solve to an aimed error of tol max|A*y|, each image for itself; a `Found`.

        An image ends at iteration k when k / 10 times the last change of x in ten iterations is at most the aim: what
        is left if x goes on like 1 / k, and no guarantee - `.residuals` is measured. tol = 0 runs exactly
        max_iterations. Starts anew, or from the state of an earlier `Found` of as many images, left unchanged.
        history: keep the objective of every iteration, evaluated in double.
        """
        y, lead = self._samples(y)
        tol = door.number("tol", tol, 0, closed=True)
        max_iterations = door.whole("max_iterations", max_iterations, 1)
        if state is not None and state.batch != len(y):
            raise ValueError(f"state: expected one of {len(y)} images, got {state.batch}")
        state = State([None] * len(y)) if state is None else state.copy()
        return self._solve(y, lead, state, max_iterations, tol, history)

    def _solve(self, y, lead, state, max_iterations, tol, history=False, tapes=None):
        x = np.empty_like(y, shape=(len(y), *self.shape))
        count, change, converged = np.zeros(len(y), np.int64), np.full(len(y), np.inf), np.zeros(len(y), bool)
        pairs, ways = np.zeros(len(y), np.int64), []
        for i, yi in enumerate(y):
            if state.images[i] is None:
                state.images[i] = self._start(yi)
            s, seen, way = state.images[i], None, []
            aim = tol * float(np.abs(self.A.adjoint(yi)).max(initial=0)) if tol else -1.0  # never met
            guess = GUESS
            for k in range(1, max_iterations + 1):
                now = self._step(s, yi, *(() if tapes is None else (tapes[i],)))
                count[i], pairs[i] = k, pairs[i] + 1
                if history:
                    way.append((pairs[i], self.objective(now, yi)))
                if tol and tapes is None and k == guess:
                    guess = math.ceil(LATER * guess)
                    proven, spent = self._guess(s, yi)
                    pairs[i] += spent
                    if proven is not None:
                        now, change[i], converged[i] = proven, 0.0, True
                        break
                if k % CHECK == 0:
                    if seen is not None:
                        change[i] = float(np.abs((now - seen).view(now.real.dtype)).max(initial=0))
                    seen = now
                    converged[i] = k / CHECK * change[i] <= aim
                    if converged[i]:
                        break
            x[i] = now
            ways.append(np.array(way))
        count, converged, pairs, change = (plain(a.reshape(lead)) for a in (count, converged, pairs, change))
        x, y = x.reshape(*lead, *self.shape), y.reshape(*lead, self.samples)
        return Found(x, count, converged, state, self, y, change, pairs, ways if history else None)

    def _guess(self, s, y):
        """The solution, if its support is known already and it can be proven, else None; and the pairs that took."""
        return None, 0

    def objective(self, x, y):
        """lam: 1/2 ||A x - y||^2 + lam ||Psi x||_1; eta: ||Psi x||_1, whether or not x is feasible. In double."""
        x, y = x.astype("complex128"), y.astype("complex128")
        total = self._length(self.psi(x))
        if self.eta is None:
            total = 0.5 * (np.abs(self._double(x) - y) ** 2).sum(-1) + self.lam * total
        return plain(np.asarray(total))

    def _length(self, c):
        """||c||_1, a number for each image."""
        if self._fields:
            return magnitude(c, self.norm).sum((-3, -2, -1))
        moduli = np.abs(c) if self.norm == "modulus" else np.abs(c.real) + np.abs(c.imag)
        return moduli.sum(tuple(range(-len(self.shape), 0)))

    def _residuals(self, info):
        found = np.array([self._residual(*a) for a in self._images(info)]).reshape(*info._lead, 2)
        primal, dual = (plain(found[..., k]) for k in range(2))
        return Residuals(info._change, primal, dual)

    def _residual(self, s, x, y):
        """The two residuals of one image. With eta: primal counts what sticks out of the constraint too."""
        w, rho = self._dual(s, x, y)
        x, y, w = (a.astype("complex128") for a in (x, y, w))
        u = clip(w, self._weight / rho, self.norm)
        z, p, misfit = w - u, rho * self.psi.adjoint(u), self._double(x) - y
        primal, scale = size(self.psi(x) - z) / (size(z) or 1), size(y) or 1
        if self.eta is None:
            return primal, size(self._double.adjoint(misfit) + p) / scale
        # At a minimiser Psi*p = -A*q, with q a positive multiple of the misfit, zero inside; for eta = 0 it is any.
        q = -self._double(p)
        outside = max(size(misfit) - self.eta, 0) / scale
        if self.eta:
            multiple = max(float(np.vdot(misfit, q).real), 0) / (size(misfit) ** 2 or 1)
            q = multiple * misfit if size(misfit) > 0.99 * self.eta else 0 * q
        return max(primal, outside), size(p + self._double.adjoint(q)) / (size(p) or 1)

    def _certificate(self, info):
        found = [self._bounds(*a) for a in self._images(info)]
        gap, objective, samples, p = (np.array(a) for a in zip(*found, strict=True)) if found else [np.zeros(0)] * 4
        numbers = (plain(a.reshape(info._lead)) for a in (gap, objective, samples))
        return Certificate(*numbers, p.reshape(*info._lead, *p.shape[1:]))

    def _bounds(self, s, x, y):
        """The gap, objective, bound in the samples, and dual field of one image; see `Certificate`.

        For p with |p| <= weight and Psi*p = A*q: ||Psi x|| >= Re <p, Psi x> = Re <q, A x>, of which the least value is
        Re <q, y> - eta ||q|| where ||A x - y|| <= eta.
        """
        w, rho = self._dual(s, x, y)
        p, x, y = (a.astype("complex128") for a in (rho * clip(w, self._weight / rho, self.norm), x, y))
        if self._fields:
            p = feasible(self._double, self._weight, p, self.norm)
        else:
            p = self._atoms.adjoint(self._atoms(p))
            largest = np.abs(p if self.norm == "modulus" else p.view(float)).max(initial=0)
            p = p * (self._weight / max(largest, self._weight) if self._weight else 0.0)
        c, misfit, q = self.psi(x), self._double(x) - y, self._double(self.psi.adjoint(p))
        length = self._weight * float(self._length(c))
        if self.eta is not None:
            outside = max(size(misfit) - self.eta, 0.0)
            gap = length - float(np.vdot(q, y).real) + self.eta * size(q)
            return max(gap, 0.0), length, 2 * self.eta + outside, p
        gap = 0.5 * size(misfit + q) ** 2 + max(length - float(np.vdot(p, c).real), 0.0)
        return gap, 0.5 * size(misfit) ** 2 + length, math.sqrt(2 * gap), p

    def _images(self, info):
        """(state, x, y) of each image."""
        return zip(info.state.images, door.batched(info.x, len(self.shape)), door.batched(info._y, 1), strict=True)

    @functools.cached_property
    def _double(self):
        A = self.A
        if self.dtype != np.complex128:
            A = MaskedFourier(A.mask, dtype="complex128", backend=self.backend, threads=self.threads)
        return A

    @functools.cached_property
    def _atoms(self):
        return exact.Coefficients(self._double, self.psi)

    def _samples(self, y):
        door.array("y", y, (self.samples,), (self.dtype,))
        if door.device(y) != "cpu":
            raise TypeError("y: expected a NumPy array, got a CuPy one: the sparsifiers here run on the CPU")
        door.finite("y", y)
        return door.batched(y, 1), y.shape[:-1]

    def _warn(self, info):
        if not np.all(info.converged):
            warnings.warn(
                f"{type(self).__name__} did not converge: x still moved by {np.max(info._change):.1e} in ten of "
                f"{np.max(info.iterations)} iterations. Set dtype='complex128' or call solve(y, max_iterations=..., "
                "tol=...), which reports instead of warning.",
                UserWarning,
                stacklevel=3,
            )


def size(a):
    """||a||_2 of all of a."""
    return float(np.linalg.norm(np.ravel(a)))
