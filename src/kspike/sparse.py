# SPDX-License-Identifier: MIT
"""Sparse recovery with any sparsifier Psi, penalised or constrained, as the paper's section 2 has it:

    lam:  min_x 1/2 ||A x - y||^2 + lam ||Psi x||_1           eta:  min_x ||Psi x||_1  subject to  ||A x - y||_2 <= eta

Psi is the gradient, the identity or an orthogonal wavelet transform; eta = 0 is exact recovery. Images are 2-D, signals
are images of one row, (1, n). The loops are Python's, over an engine's transforms: for the gradient with lam
`kspike.TVSolver` solves the same problem many times faster.
"""

from __future__ import annotations

import copy
import functools
import importlib
import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kspike import door
from kspike.certificate import NORMS, certify, magnitude
from kspike.operators import Gradient, MaskedFourier
from kspike.solver import Residuals

__all__ = ["Found", "Identity", "Iterative", "SparseSolver", "State", "Wavelet"]

CHECK = 10  # iterations between two looks at the stopping rule


# --- sparsifiers: __call__, adjoint, shape, and whether Psi*Psi = I --------------------------------------------------


class Identity:
    """Psi x = x: the image itself is sparse."""

    tight = True
    bound = 1.0  # of ||Psi||^2

    def __init__(self, shape):
        self.shape = door.shape2(shape)

    def __call__(self, x):
        """x, (..., rows, cols)."""
        return x

    def adjoint(self, c):
        """c, (..., rows, cols)."""
        return c

    def __repr__(self):
        return f"Identity({self.shape})"


class Wavelet:
    """Psi x, the periodic orthogonal wavelet transform: (..., rows, cols) -> the same shape, the coarsest scale first.

    Along an axis of n numbers, with the filters h and g[m] = (-1)^m h[len - 1 - m],

        coarse[k] = sum_m h[m] x[(2k + m) mod n],   detail[k] = sum_m g[m] x[(2k + m) mod n],   k < n / 2.

    Parameters
    ----------
    shape : (rows, cols); an axis of length 1 is left alone
    name : an orthogonal wavelet of PyWavelets, "haar", "db2", "sym4", ..., from which the filter is taken
    levels : how often the coarse part is transformed again; default as often as 2 divides all axes. 2^levels must
        divide them
    """

    tight = True
    bound = 1.0

    def __init__(self, shape, name="haar", levels=None):
        self.shape, self.name = door.shape2(shape), name
        self._axes = tuple(axis for axis, n in zip((-2, -1), self.shape, strict=True) if n > 1)
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


# --- shrinking of coefficients, in array operations ------------------------------------------------------------------


def _lengths(v, norm):
    """|v| for the groups of a block norm; see `reference`."""
    return np.abs(v) if norm == "modulus" else np.sqrt((np.abs(v) ** 2).sum(-3, keepdims=True))


def _clip(v, t, norm):
    """The projection onto the ball of radius t of the dual norm."""
    if norm == "separable":
        return np.clip(v.view(v.real.dtype), -t, t).view(v.dtype)
    length = _lengths(v, norm)
    return v * (t / np.where(length > t, length, t or 1))


def _support(w, t, norm):
    """What the derivative of shrinking at w consists of: packed bits, or s = shrink(w, t) / |w|."""
    if norm == "separable":
        return np.packbits(np.abs(w.view(w.real.dtype)) > t)
    length = _lengths(w, norm)
    length = np.where(length > t, length, np.inf)
    return w * ((1 - t / length) / length)


def _slope(s, v, norm):
    """S v; S is symmetric."""
    if norm == "separable":
        parts = v.view(v.real.dtype)
        return (parts * np.unpackbits(s, count=parts.size).reshape(parts.shape)).view(v.dtype)
    length = _lengths(s, norm)
    inner = (s.conj() * v).real
    if norm == "isotropic":
        inner = inner.sum(-3, keepdims=True)
    return length * v + s * ((1 - length) * inner / np.where(length > 0, length**2, np.inf))


# --- the iterations --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Found:
    """What a method found; a number per image, or an array over the leading dimensions of y. See `solver.Solution`."""

    x: Any = field(repr=False)
    """The reconstruction (..., rows, cols)."""
    iterations: Any
    """How many iterations the image took, of PAIRS FFT + inverse FFT pairs each."""
    converged: Any
    """Whether the stopping rule was met; always False for tol = 0, where none is asked for."""
    state: Any = field(repr=False)
    """The `State`, to go on from."""
    history: Any = field(repr=False)
    """For each image, if asked for: float array (iterations, 2) of pairs spent and objective. Else None."""
    _solver: Any = field(repr=False)
    _y: Any = field(repr=False)
    _change: Any = field(repr=False)

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
        """The `Certificate` of a solve for the gradient and lam, in double precision."""
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

    A method has `_start(y)`, the state of an image as a dict; `_step(s, y)`, which advances it and returns x;
    `_dual(s, x, y)`, the pair of a field w and a rho with rho clip(w, lam / rho) near a dual solution; and PAIRS, the
    FFT + inverse FFT pairs of a step.

    Parameters
    ----------
    mask : bool array (rows, cols), centred; (1, n) for a signal
    psi : "gradient", "identity", the name of an orthogonal wavelet, or an object with __call__, adjoint, shape, `tight`
        (Psi*Psi = I) and `bound`, of ||Psi||^2
    lam, eta : exactly one of the two, the penalty or the radius of the constraint
    norm : "separable" or "modulus"; for the gradient also "isotropic". See `TVSolver`
    dtype, backend, threads : as for `TVSolver`
    """

    PAIRS = 1

    def __init__(self, mask, psi, lam, eta, norm, dtype, backend, threads):
        self.A = MaskedFourier(mask, dtype=dtype, backend=backend, threads=threads)
        self.shape, self.samples, self.dtype = self.A.shape, self.A.samples, self.A.dtype
        self.backend, self.threads = self.A.backend, self.A.threads
        if (lam is None) == (eta is None):
            raise TypeError(f"lam, eta: expected exactly one of the two, got lam={lam!r}, eta={eta!r}")
        self.lam = None if lam is None else door.number("lam", lam, 0, closed=True)
        self.eta = None if eta is None else door.number("eta", eta, 0, closed=True)
        self.psi = self._sparsifier(psi)
        self._gradient = isinstance(self.psi, Gradient)
        allowed = NORMS if self._gradient else NORMS[:2]
        if norm not in allowed:
            raise ValueError(f"norm: expected one of {', '.join(allowed)} for {self.psi}, got {norm!r}")
        self.norm = norm
        self._tight = getattr(self.psi, "tight", False)
        self._bound = getattr(self.psi, "bound", sum(4 if n > 1 else 0 for n in self.shape))

    def _penalty(self, y):
        """The default rho of ADMM for these data."""
        if self.lam is not None:
            return 8.6 * math.sqrt(self.lam * self.samples / math.prod(self.shape)) or 1.0
        peak = float(np.abs(self.A.adjoint(y)).max(initial=0)) or 1.0
        return 1 / ((0.03 if self._gradient else 0.1) * peak)

    def _sparsifier(self, psi):
        if psi == "gradient":
            return Gradient(self.shape, backend=self.backend)
        if psi == "identity":
            return Identity(self.shape)
        psi = Wavelet(self.shape, psi) if isinstance(psi, str) else psi
        if psi.shape != self.shape:
            raise ValueError(f"psi: expected one of shape {self.shape}, like the mask, got {psi}")
        return psi

    def __repr__(self):
        weight = f"lam={self.lam:g}" if self.eta is None else f"eta={self.eta:g}"
        return (
            f"{type(self).__name__}({self.shape}, {self.psi}, {weight}, samples={self.samples}, norm={self.norm}, "
            f"dtype={self.dtype.name}, backend={self.backend})"
        )

    def __call__(self, y):
        """x: (..., m) -> (..., rows, cols). Warns if 2000 iterations did not reach the default tolerance."""
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
        ways = []
        for i, yi in enumerate(y):
            if state.images[i] is None:
                state.images[i] = self._start(yi)
            s, seen, way = state.images[i], None, []
            aim = tol * float(np.abs(self.A.adjoint(yi)).max(initial=0)) if tol else -1.0  # never met
            for k in range(1, max_iterations + 1):
                now = self._step(s, yi, *(() if tapes is None else (tapes[i],)))
                count[i] = k
                if history:
                    way.append((k * self.PAIRS, self.objective(now, yi)))
                if k % CHECK == 0:
                    if seen is not None:
                        change[i] = float(np.abs((now - seen).view(now.real.dtype)).max(initial=0))
                    seen = now
                    converged[i] = k / CHECK * change[i] <= aim
                    if converged[i]:
                        break
            x[i] = now
            ways.append(np.array(way))
        count, converged, change = (_plain(a.reshape(lead)) for a in (count, converged, change))
        x, y = x.reshape(*lead, *self.shape), y.reshape(*lead, self.samples)
        return Found(x, count, converged, state, ways if history else None, self, y, change)

    def objective(self, x, y):
        """lam: 1/2 ||A x - y||^2 + lam ||Psi x||_1; eta: ||Psi x||_1, whether or not x is feasible. In double."""
        x, y = x.astype("complex128"), y.astype("complex128")
        c = self.psi(x)
        total = magnitude(c, self.norm).sum((-3, -2, -1)) if self._gradient else _moduli(c, self.norm).sum((-2, -1))
        if self.eta is None:
            total = 0.5 * (np.abs(self._double(x) - y) ** 2).sum(-1) + self.lam * total
        return _plain(np.asarray(total))

    def _residuals(self, info):
        found = np.array([self._residual(*a) for a in self._images(info)]).reshape(*info.x.shape[:-2], 2)
        primal, dual = (_plain(found[..., k]) for k in range(2))
        return Residuals(info._change, primal, dual)

    def _residual(self, s, x, y):
        """The two residuals of one image. With eta: primal counts what sticks out of the constraint too."""
        w, rho = self._dual(s, x, y)
        x, y, w = (a.astype("complex128") for a in (x, y, w))
        u = _clip(w, (1 if self.lam is None else self.lam) / rho, self.norm)
        z, p, misfit = w - u, rho * self.psi.adjoint(u), self._double(x) - y
        primal, size = _norm(self.psi(x) - z) / (_norm(z) or 1), _norm(y) or 1
        if self.eta is None:
            return primal, _norm(self._double.adjoint(misfit) + p) / size
        # At a minimiser Psi*p = -A*q, with q a positive multiple of the misfit, zero inside; for eta = 0 it is any.
        q = -self._double(p)
        outside = max(_norm(misfit) - self.eta, 0) / size
        if self.eta:
            slope = max(float(np.vdot(misfit, q).real), 0) / (_norm(misfit) ** 2 or 1)
            q = slope * misfit if _norm(misfit) > 0.99 * self.eta else 0 * q
        return max(primal, outside), _norm(p + self._double.adjoint(q)) / (_norm(p) or 1)

    def _certificate(self, info):
        if not self._gradient or self.lam is None:
            raise NotImplementedError("the certificate is there for the gradient with lam; here are the residuals")
        fields = [rho * _clip(w, self.lam / rho, self.norm) for w, rho in (self._dual(*a) for a in self._images(info))]
        p = np.stack(fields).astype("complex128").reshape(*info.x.shape[:-2], 2, *self.shape)
        return certify(self._double, self.lam, info.x, info._y, p, norm=self.norm)

    def _images(self, info):
        """(state, x, y) of each image."""
        return zip(info.state.images, door.batched(info.x, 2), door.batched(info._y, 1), strict=True)

    @functools.cached_property
    def _double(self):
        A = self.A
        if self.dtype != np.complex128:
            A = MaskedFourier(A.mask, dtype="complex128", backend=self.backend, threads=self.threads)
        return A

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

    lam: x = (A*A + rho Psi*Psi)^-1 (A*y + rho Psi*(w - 2 clip(w, t))),   t = lam / rho
         w <- w + relax (Psi x - shrink(w, t))
    eta: v = A x is split off too, with its own field q and with ball(q) = y + (q - y) min(1, eta / ||q - y||):
         x = (sigma A*A + rho Psi*Psi)^-1 (rho Psi*(w - 2 clip(w, t)) + sigma A*(2 ball(q) - q)),   t = 1 / rho
         w as above;   q <- q + relax (A x - ball(q));   sigma = stiffness rho

    Parameters
    ----------
    rho : the penalty, which sets the speed and not the solution. The default for lam, 8.6 sqrt(lam m / n^2), suits
        images of scale about 1; for eta it is set from the data, 1 / rho = 0.1 max|A*y|, or 0.03 for the gradient
    relax : over-relaxation, in (0, 2)
    stiffness : for eta, sigma / rho. Default 10, and 100 for eta = 0
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
        stiffness=None,
        dtype="complex64",
        backend=None,
        threads=1,
    ):
        super().__init__(mask, psi, lam, eta, norm, dtype, backend, threads)
        self.rho = None if rho is None else door.number("rho", rho, 0)
        self.relax = door.number("relax", relax, 0, 2)
        self.stiffness = door.number("stiffness", (10 if self.eta else 100) if stiffness is None else stiffness, 0)
        self.PAIRS = 1 if self.eta is None or self._tight else 2

    def _start(self, y):
        rho = self.rho or self._penalty(y)
        s = {"rho": rho, "w": np.zeros_like(self.psi(np.zeros_like(y, shape=self.shape)))}
        if self.eta is not None:
            s["q"] = y.copy()
        return s

    def _resolvent(self, b, rho):
        """(A*A + rho Psi*Psi)^-1 b."""
        if self._tight:
            return (b - self.A.adjoint(self.A(b)) / (1 + rho)) / rho
        out = np.empty_like(b)
        self.A._plan.resolvent(b[None], rho, out=out[None])
        return out

    def _step(self, s, y, tape=None):
        rho, w, relax = s["rho"], s["w"], self.relax
        t = (1 if self.lam is None else self.lam) / rho
        if tape is not None:
            tape.append((_support(w, t, self.norm), None if self.eta is None else self._ball_support(s["q"], y)))
        u = _clip(w, t, self.norm)
        c = self.psi.adjoint(w - 2 * u)
        if self.eta is None:
            x = self._resolvent(self.A.adjoint(y) + rho * c, rho)
        else:
            v = self._ball(s["q"], y)
            x, seen = self._mix(c, 2 * v - s["q"])
            s["q"] = s["q"] + relax * (seen - v)
        s["w"] = w + relax * (self.psi(x) - (w - u))
        return x

    def _dual(self, s, x, y):
        return s["w"], s["rho"]

    def _mix(self, c, r):
        """x = (k A*A + Psi*Psi)^-1 (c + k A* r) with k the stiffness, and A x."""
        k = self.stiffness
        if self._tight:
            known = self.A(c)
            return c + k / (1 + k) * self.A.adjoint(r - known), (known + k * r) / (1 + k)
        x = self._resolvent(self.A.adjoint(r) + c / k, 1 / k)
        return x, self.A(x)

    def _ball(self, q, y):
        """The projection of q onto the ball of radius eta about y."""
        return y + (q - y) * (self.eta / max(_norm(q - y), self.eta) if self.eta else 0.0)

    def _ball_support(self, q, y):
        """The direction and the shrinkage eta / ||q - y|| of the projection where q lies outside; None inside."""
        size = _norm(q - y)
        return ((q - y) / size, self.eta / size) if size > self.eta else None

    def vjp(self, y, *, iterations=None):
        """The pair of x and its pullback dL/dx -> dL/dy, the exact derivative of the iteration that was run, unrolled.

        Runs `iterations` from the start if given, else as a call; rho counts as a constant. Memory, for each iteration:
        4 bits per pixel for the gradient, 2 for images, a field for norms that are not separable; with eta also y.
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
            if g.shape[:-2] != lead:
                raise ValueError(f"g: expected shape {(*lead, *self.shape)}, got {g.shape}")
            out = np.empty_like(y)
            for i, image in enumerate(door.batched(g, 2)):
                out[i] = self._reverse(tapes[i], state.images[i]["rho"], image)
            return out.reshape(*lead, self.samples)

        return info.x, pullback

    def _reverse(self, tape, rho, image):
        """The cotangent of y (m,) from that of the last x, step by step; see `reference.Plan.reverse`.

        lw, lq: the cotangents of w and q; B, symmetric, the derivative of ball(q) in q; I - B that in y.
        """
        lw, lq, relax = np.zeros_like(self.psi(image)), np.zeros_like(self.A(image)), self.relax
        total = np.zeros_like(lq)
        for s, outside in reversed(tape):
            if self.eta is None:
                r = self._resolvent(image, rho)
                total += self.A(r)
                r = rho * r
            else:
                r, seen = self._mix(image, np.zeros_like(lq))
                lv = 2 * self.stiffness * seen - relax * lq
                slope = self._ball_slope(outside, lv)
                total += lv - slope
                lq = lq - self.stiffness * seen + slope
            d = self.psi(r)
            lw = lw - d + _slope(s, 2 * d - relax * lw, self.norm)
            image = relax * self.psi.adjoint(lw)
            if self.eta is not None:
                image = image + relax * self.A.adjoint(lq)
        return total if self.eta is None else total + lq

    def _ball_slope(self, outside, g):
        """B g."""
        if outside is None:
            return g
        n, ratio = outside
        return ratio * (g - n * float(np.vdot(n, g).real))


def _moduli(c, norm):
    """What ||c||_1 sums, for coefficients shaped like an image."""
    return np.abs(c.real) + np.abs(c.imag) if norm == "separable" else np.abs(c)


def _norm(a):
    return float(np.linalg.norm(np.ravel(a)))


def _plain(a):
    """A Python number for a single image, the array for a batch."""
    return a.item() if a.ndim == 0 else a
