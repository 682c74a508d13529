# SPDX-License-Identifier: MIT
"""Sparse recovery with any sparsifier Psi, penalised or constrained, as the paper's section 2 has it:

    lam:  min_x 1/2 ||A x - y||^2 + lam ||Psi x||_1           eta:  min_x ||Psi x||_1  subject to  ||A x - y||_2 <= eta

Psi is the gradient, the identity or an orthogonal wavelet transform, of images (rows, cols) or of signals (n,); eta = 0
is exact recovery. The loops are Python's, over an engine's transforms: for the gradient of images with lam
`kspike.TVSolver` solves the same problem many times faster.
"""

from __future__ import annotations

import copy
import functools
import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kspike import door, exact, reference
from kspike.certificate import NORMS, Certificate, feasible, magnitude
from kspike.operators import Gradient, MaskedFourier
from kspike.solver import Residuals
from kspike.sparsifiers import Identity, Wavelet, clip, slope, sparsifier, support

__all__ = ["Found", "Identity", "Iterative", "SparseSolver", "State", "Wavelet"]

CHECK = 10  # iterations between two looks at the stopping rule
GUESS, LATER = 20, 1.4  # with eta = 0: the iteration of the first guess at the support, and of each next to that


@dataclass(frozen=True, eq=False)
class Found:
    """What a method found; a number per image, or an array over the leading dimensions of y. See `solver.Solution`."""

    x: Any = field(repr=False)
    """The reconstruction (..., rows, cols)."""
    iterations: Any
    """How many iterations the image took, of one FFT and one inverse FFT each."""
    converged: Any
    """Whether the stopping rule was met; always False for tol = 0, where none is asked for."""
    pairs: Any
    """FFT + inverse FFT pairs: the iterations, and what guesses at the support took beside them."""
    state: Any = field(repr=False)
    """The `State`, to go on from."""
    history: Any = field(repr=False)
    """For each image, if asked for: float array (iterations, 2) of pairs spent and objective. Else None."""
    _solver: Any = field(repr=False)
    _y: Any = field(repr=False)
    _change: Any = field(repr=False)

    @property
    def _lead(self):
        return self.x.shape[: self.x.ndim - len(self._solver.shape)]

    @functools.cached_property
    def objective(self):
        """See `Iterative.objective`."""
        return self._solver.objective(self.x, self._y)

    @functools.cached_property
    def residuals(self):
        """The `Residuals`, in double precision, of x and the method's own dual variable."""
        return self._solver._residuals(self)

    @functools.cached_property
    def certificate(self):
        """The `Certificate`, in double precision: with eta, how much shorter the Psi x of any feasible x could be."""
        return self._solver._certificate(self)


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

    Parameters
    ----------
    mask : bool array (rows, cols), centred; (n,) for signals
    psi : "gradient", "identity", the name of an orthogonal wavelet, or an object with __call__, adjoint, shape and
        `tight`, that Psi*Psi = Psi Psi* = I
    lam, eta : exactly one of the two, the penalty or the radius of the constraint
    norm : "separable" or "modulus"; for the gradient of images also "isotropic". See `TVSolver`
    dtype, backend, threads : as for `TVSolver`; for signals the backend is "numpy", and None stands for it
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
        """The default rho of ADMM for these data."""
        share = self.samples / math.prod(self.shape)
        if self.lam is not None:
            return 8.6 * math.sqrt(self.lam * share) or 1.0
        if exact.Coefficients.fit(self.A, self.psi):
            B = exact.Coefficients(self.A, self.psi)
            return math.sqrt(share) / (0.3 * float(np.abs(B.adjoint(B.data(y))).max(initial=0)) or 1.0)
        return 1 / (0.03 * float(np.abs(self.A.adjoint(y)).max(initial=0)) or 1.0)

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
        count, converged, pairs, change = (_plain(a.reshape(lead)) for a in (count, converged, pairs, change))
        x, y = x.reshape(*lead, *self.shape), y.reshape(*lead, self.samples)
        return Found(x, count, converged, pairs, state, ways if history else None, self, y, change)

    def _guess(self, s, y):
        """The solution, if its support is known already and it can be proven, else None; and the pairs that took."""
        return None, 0

    def objective(self, x, y):
        """lam: 1/2 ||A x - y||^2 + lam ||Psi x||_1; eta: ||Psi x||_1, whether or not x is feasible. In double."""
        x, y = x.astype("complex128"), y.astype("complex128")
        total = self._length(self.psi(x))
        if self.eta is None:
            total = 0.5 * (np.abs(self._double(x) - y) ** 2).sum(-1) + self.lam * total
        return _plain(np.asarray(total))

    def _length(self, c):
        """||c||_1, a number for each image."""
        if self._fields:
            return magnitude(c, self.norm).sum((-3, -2, -1))
        moduli = np.abs(c) if self.norm == "modulus" else np.abs(c.real) + np.abs(c.imag)
        return moduli.sum(tuple(range(-len(self.shape), 0)))

    def _residuals(self, info):
        found = np.array([self._residual(*a) for a in self._images(info)]).reshape(*info._lead, 2)
        primal, dual = (_plain(found[..., k]) for k in range(2))
        return Residuals(info._change, primal, dual)

    def _residual(self, s, x, y):
        """The two residuals of one image. With eta: primal counts what sticks out of the constraint too."""
        w, rho = self._dual(s, x, y)
        x, y, w = (a.astype("complex128") for a in (x, y, w))
        u = clip(w, self._weight / rho, self.norm)
        z, p, misfit = w - u, rho * self.psi.adjoint(u), self._double(x) - y
        primal, size = _norm(self.psi(x) - z) / (_norm(z) or 1), _norm(y) or 1
        if self.eta is None:
            return primal, _norm(self._double.adjoint(misfit) + p) / size
        # At a minimiser Psi*p = -A*q, with q a positive multiple of the misfit, zero inside; for eta = 0 it is any.
        q = -self._double(p)
        outside = max(_norm(misfit) - self.eta, 0) / size
        if self.eta:
            multiple = max(float(np.vdot(misfit, q).real), 0) / (_norm(misfit) ** 2 or 1)
            q = multiple * misfit if _norm(misfit) > 0.99 * self.eta else 0 * q
        return max(primal, outside), _norm(p + self._double.adjoint(q)) / (_norm(p) or 1)

    def _certificate(self, info):
        found = [self._bounds(*a) for a in self._images(info)]
        gap, objective, samples, p = (np.array(a) for a in zip(*found, strict=True)) if found else [np.zeros(0)] * 4
        numbers = (_plain(a.reshape(info._lead)) for a in (gap, objective, samples))
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
            outside = max(_norm(misfit) - self.eta, 0.0)
            gap = length - float(np.vdot(q, y).real) + self.eta * _norm(q)
            return max(gap, 0.0), length, 2 * self.eta + outside, p
        gap = 0.5 * _norm(misfit + q) ** 2 + max(length - float(np.vdot(p, c).real), 0.0)
        return gap, 0.5 * _norm(misfit) ** 2 + length, math.sqrt(2 * gap), p

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


class SparseSolver(Iterative):
    """Over-relaxed ADMM with an exact x-update, for both problems; see `Iterative` for the parameters.

        x = argmin rho/2 ||Psi x - w + 2 u||^2 + the data term,   u = clip(w, t)
        w <- w + relax (Psi x - (w - u))

    The data term is 1/2 ||A x - y||^2, t = lam / rho; or that ||A x - y|| <= eta, t = 1 / rho. On the spectrum the
    x-update is a diagonal, with one multiplier for the ball: see `_update`.

    With eta = 0 the solution is exact as soon as its support shows, if Psi is orthogonal or the gradient of a signal:
    at iteration 20 and then every 1.4 times later `kspike.exact` solves on the largest entries and proves the result.

    Parameters
    ----------
    rho : the penalty, which sets the speed and not the solution. The default for lam, 8.6 sqrt(lam m / n^2), suits
        images of scale about 1; for eta it is set from the data: 1 / rho = 0.3 sqrt(n / m) max|B*v| for n numbers, with
        B and v of `kspike.exact`, and 0.03 max|A*y| for the gradient of images
    relax : over-relaxation, in (0, 2)
    """

    def __init__(
        self,
        mask,
        psi="gradient",
        *,
        lam=None,
        eta=None,
        norm="separable",
        rho=None,
        relax=1.8,
        dtype="complex64",
        backend=None,
        threads=1,
    ):
        super().__init__(mask, psi, lam, eta, norm, dtype, backend, threads)
        self.rho = None if rho is None else door.number("rho", rho, 0)
        self.relax = door.number("relax", relax, 0, 2)
        self._spectrum = MaskedFourier(np.ones(self.shape, bool), dtype=dtype, backend=backend, threads=threads)
        at, k = self.A.mask.ravel(), np.ones(math.prod(self.shape))
        if self._gradient:
            k = reference.symbol((1, *self.shape)[-2:]).ravel()
        precision = np.empty(0, self.dtype).real.dtype
        self._at, self._symbol = np.flatnonzero(at), k[at].astype(precision)
        # psi*psi inverted off the samples; the zero frequency, which no gradient has, stays 0 there
        self._inverse = np.divide(1, k, out=np.zeros_like(k), where=~at & (k > 0)).astype(precision)

    def _start(self, y):
        return {"rho": self.rho or self._penalty(y), "w": np.zeros_like(self.psi(np.zeros_like(y, shape=self.shape)))}

    def _step(self, s, y, tape=None):
        rho, w = s["rho"], s["w"]
        t = self._weight / rho
        u = clip(w, t, self.norm)
        x, ball = self._update(self.psi.adjoint(w - 2 * u), y, rho)
        if tape is not None:
            tape.append((support(w, t, self.norm), ball))
        s["w"] = w + self.relax * (self.psi(x) - (w - u))
        return x

    def _update(self, c, y, rho):
        """The x-update from c = Psi*(w - 2 u), and what the ball's derivative needs: (K + mu, r), or None inside it.

        With K the symbol of Psi*Psi, x^ = c^ / K where nothing is sampled. At the samples, lam: (y + rho c^) / (1 + rho
        K); eta: c^ / K if that is in the ball, else (c^ + mu y) / (K + mu) with mu such that r = x^ - y has size eta.
        """
        k = self._spectrum(c)
        known, symbol, ball = k[self._at], self._symbol, None
        k *= self._inverse
        if self.eta is None:
            known = (y + rho * known) / (1 + rho * symbol)
        elif self.eta:
            mu, r = self._multiplier(known - symbol * y)
            ball = (symbol + mu, r) if mu else None
            known = y + r
        else:
            known = y
        k[self._at] = known
        return self._spectrum.adjoint(k), ball

    def _multiplier(self, d):
        """mu >= 0 and r = d / (K + mu) with ||r|| = eta, or mu = 0 where r is smaller: Newton's method on 1 / ||r||."""
        symbol, mu = self._symbol, 0.0
        inverse = np.divide(1, symbol, out=np.zeros_like(symbol), where=symbol > 0)
        squares = np.abs(d).astype(float) ** 2
        for _ in range(50):
            r = d * inverse
            size = math.sqrt(float((squares * inverse.astype(float) ** 2).sum()))
            if size <= self.eta * (1 + 4 * np.finfo(symbol.dtype).eps):
                break
            mu += (size - self.eta) / self.eta * size**2 / float((squares * inverse.astype(float) ** 3).sum())
            inverse = 1 / (symbol + symbol.dtype.type(mu))
        return mu, r

    def _update_adjoint(self, image, rho, ball):
        """The cotangents of c, as an image, and of y, from that of x."""
        k = self._spectrum(image)
        known, symbol = k[self._at], self._symbol
        k *= self._inverse
        if self.eta is None:
            data = known / (1 + rho * symbol)
            k[self._at] = rho * data
        elif not self.eta:
            data, k[self._at] = known, 0
        elif ball is None:
            data, inner = np.zeros_like(known), np.divide(known, symbol, out=np.zeros_like(known), where=symbol > 0)
            k[self._at] = inner
        else:
            inner, n = known / ball[0], ball[1] / ball[0]
            inner = inner - n * (float(np.vdot(n, known).real) / float(np.vdot(n, ball[1]).real))
            data, k[self._at] = known - symbol * inner, inner
        return self._spectrum.adjoint(k), data

    def _guess(self, s, y):
        if self.eta != 0 or not exact.Coefficients.fit(self.A, self.psi):
            return None, 0
        t = 1 / s["rho"]
        u = clip(s["w"], t, self.norm)
        y, z, p = (a.astype("complex128") for a in (y, s["w"] - u, u / t))
        c, p, spent = exact.recover(self._atoms, self._atoms.data(y), z, p, self.norm)
        if c is None:
            return None, spent
        s["w"] = (c + t * p).astype(self.dtype)  # where the iteration stays
        return self._atoms.image(c, y).astype(self.dtype), spent

    def _dual(self, s, x, y):
        return s["w"], s["rho"]

    def vjp(self, y, *, iterations=None):
        """The pair of x and its pullback dL/dx -> dL/dy, the exact derivative of the iteration that was run, unrolled.

        Runs `iterations` from the start if given, else as a call; rho counts as a constant. Memory, for each iteration:
        4 bits per pixel for the gradient, 2 for images, a field for norms that are not separable; with eta also 2 m.
        """
        y, lead = self._samples(y)
        tapes, state = [[] for _ in y], State([None] * len(y))
        if iterations is None:
            info = self._solve(y, lead, state, 2000, 1e-4, tapes=tapes)
            self._warn(info)
        else:
            info = self._solve(y, lead, state, door.whole("iterations", iterations, 1), 0.0, tapes=tapes)

        def pullback(g):
            door.array("g", g, self.shape, (self.dtype,))
            if g.shape[: g.ndim - len(self.shape)] != lead:
                raise ValueError(f"g: expected shape {(*lead, *self.shape)}, got {g.shape}")
            out = np.empty_like(y)
            for i, image in enumerate(door.batched(g, len(self.shape))):
                out[i] = self._reverse(tapes[i], state.images[i]["rho"], image)
            return out.reshape(*lead, self.samples)

        return info.x, pullback

    def _reverse(self, tape, rho, image):
        """The cotangent of y (m,) from that of the last x, step by step, lw that of w; see `reference.Plan.reverse`."""
        lw, total = np.zeros_like(self.psi(image)), 0
        for s, ball in reversed(tape):
            image, data = self._update_adjoint(image, rho, ball)
            total = total + data
            d = self.psi(image)
            lw = lw - d + slope(s, 2 * d - self.relax * lw, self.norm)
            image = self.relax * self.psi.adjoint(lw)
        return total


def _norm(a):
    return float(np.linalg.norm(np.ravel(a)))


def _plain(a):
    """A Python number for a single image, the array for a batch."""
    return a.item() if a.ndim == 0 else a
