# SPDX-License-Identifier: MIT
"""How strong any attack can be: a certified upper bound on the artifact of recTV at a pixel, by weak duality.

Let x0 be the reconstruction of y with dual p0, |p0| <= lam in each part, v0 = D x0, and for any ||e|| <= eta let x1 be
the minimiser for y + e with dual p1; a = x1 - x0, q = p1 - p0, g = A a. The optimality conditions say D*q = A*(e - g),
so with h = e - g and G(a) = lam ||v0 + D a||_1 - lam ||v0||_1 - Re<p0, D a> >= 0

    G(a) - Re<q, v0> + 1/4 ||g - h||^2 = 1/4 ||e||^2,   ||g + h|| <= eta,   D*q = A*h,   |p0 + q| <= lam

(the first from Re<q, D a> = Re<g, h>). With "R2" the second relation and q are dropped, leaving G(a) + ||g||^2 <= eta
||g||; "R3" keeps all. Both are convex, and their Lagrangian dual bounds Re<delta, a>: for mu > 0, w = mu q with
|p0 + q| <= lam, any image z, and b = A(delta - D*w) where delta - D*w lies in the range of A*,

    U = mu eta^2/4 + ||b + mu A z||^2/(4 mu) + eta/2 ||b - mu A z|| - Re<w, v0> + mu G(z)    (z = 0 for R2).

The third term is eta ||c||, c = (b - mu A z)/2, the largest Re<c, e>. Where ||A*e||_inf is capped at kappa, that is at
most eta ||c - A psi|| + kappa ||psi||_1 for any image psi, which takes its place.

Every such point is a bound; recTV's own iteration, at other data weights and right-hand sides, finds good ones. What
keeps the numbers honest in floating point: x0 need not be exact (its residual joins b, its gap joins G), and what
delta - D*w lacks of the range of A* is moved into w, whose excess over the box is paid with a bound on ||D x1||_1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kspike import door, kernels
from kspike._backends import select
from kspike.norms import clip
from kspike.objectives import inside

__all__ = ["Bound", "certify"]

ROUNDING = 1e-9  # relative: the sums are of n^2 terms in double precision
INNER = {"R2": 20, "R3": 10}  # iterations of each problem between two looks
DAMPING, MIXING = 0.8, 0.3  # of theta = 1 / mu and of kappa, which would else chase each other
SMOOTH = 0.06  # ||c|| tends to 0: eta ||c|| is searched for as a square that has its slope at ||c|| = SMOOTH mu eta / 2
CAPPED = 5  # steps of psi for each of w and z
PHASES = 8  # of a bound on the modulus, around the circle
RELAX = 1.9
BEGIN = 200  # pairs for R2, with which R3 begins


@dataclass(frozen=True, eq=False)
class Bound:
    """No ||e||_2 <= eta makes Re(conj(phase) (rec(y + e) - clean)) at the location larger than `bound`.

    rec is the exact minimiser; `clean` the reconstruction of y that was computed. Without a phase, its modulus is
    bounded; with a cap, only the e with ||A*e||_inf <= cap eta sqrt(m / n^2) are.
    """

    bound: float
    units: float
    """bound / (eta sqrt(n^2 / m))."""
    location: tuple[int, int]
    phase: complex | None
    eta: float
    cap: float | None
    relaxation: str
    pairs: int
    """FFT + inverse FFT pairs that the search took, the clean solution not included."""
    residual: float
    """The part of the bound that pays for inexact duals."""
    clean: Any = field(repr=False)
    """The reconstruction of y that artifacts are measured from, (rows, cols), complex128."""


def certify(tv, y, eta, location, phase=None, *, cap=None, relaxation="R3", pairs=2000, clean_pairs=2000):
    """Bound the artifact of every attack ||e||_2 <= eta on the reconstruction of y at a pixel; a `Bound`.

    Parameters
    ----------
    tv : a TVSolver of the separable functional, on the CPU, with the zero frequency sampled
    y : samples (m,), complex
    eta : the budget
    location : (row, col)
    phase : of the artifact, a complex number of modulus 1; or None for the modulus: the farthest corner of the octagon
        that the bounds of eight phases make, each with its own search
    cap : bound only the attacks with ||A*e||_inf <= cap eta sqrt(m / n^2), cap times that of the plain spike, as `Ball`
    relaxation : "R2", good after 500 pairs, or "R3", tighter, which begins with R2
    pairs : how many FFT pairs the search of each phase may take
    clean_pairs : how many iterations solve for x0
    """
    if tv.backend == "cupy":
        raise NotImplementedError("certify: expected a solver on the CPU, got backend 'cupy': give one, and y.get()")
    door.array("y", y, (tv.samples,))
    door.finite("y", y)
    eta, location = door.number("eta", eta, 0), inside(location, tv.shape)
    if relaxation not in INNER:
        raise ValueError(f"relaxation: expected 'R2' or 'R3', got {relaxation!r}")
    if cap is not None:
        cap = door.number("cap", cap, 0)
        if relaxation != "R3":
            raise ValueError(f"cap: expected relaxation 'R3', got {relaxation!r}")
    pairs, clean_pairs = door.whole("pairs", pairs, 1), door.whole("clean_pairs", clean_pairs, 1)
    if tv.lam <= 0:
        raise ValueError("tv: expected lam > 0, got 0: recTV is then no minimiser of its own")
    if not tv.A.mask[tv.shape[0] // 2, tv.shape[1] // 2]:
        raise ValueError("tv: expected the zero frequency to be sampled: without it no artifact is bounded")
    if phase is not None and not math.isclose(abs(phase), 1, rel_tol=1e-6):
        raise ValueError(f"phase: expected a complex number of modulus 1, got {phase!r}")
    problem = _Problem(tv, y.astype(complex), eta, clean_pairs)
    phases = np.exp(2j * np.pi * np.arange(PHASES) / PHASES) if phase is None else (phase / abs(phase),)
    found = [_Search(problem, location, p, relaxation, cap).run(pairs) for p in phases]
    bound = found[0].best if phase is not None else _farthest([search.best for search in found])
    return Bound(
        bound=float(bound),
        units=float(bound) / eta * math.sqrt(tv.samples / math.prod(tv.shape)),
        location=location,
        phase=phase,
        eta=eta,
        cap=cap,
        relaxation=relaxation,
        pairs=sum(search.spent for search in found),
        residual=max(search.residual for search in found),
        clean=problem.x,
    )


class _Problem:
    """recTV at y in double precision, solved: x0, p0, v0, what they lack of optimality, and the ways to iterate."""

    def __init__(self, tv, y, eta, iterations):
        self.shape, self.samples, self.backend = tv.shape, tv.samples, tv.backend
        self.lam, self.rho, self.t, self.eta = tv.lam, tv.rho, tv.lam / tv.rho, eta
        self.plan = select(tv.backend).Plan(tv.A.mask, np.dtype(complex), tv.threads)
        self.state = self.plan.state(np.zeros((1, 2, *self.shape), complex))
        self.x = self.iterate(self.state, 1.0, y, None, iterations)
        self.p = self.dual(self.state)
        self.v, self.Ax = self.D(self.x), self.A(self.x)
        self.rest = y - self.Ax
        self.residual = self.A_adjoint(self.rest) - self.D_adjoint(self.p)
        self.total = _l1(self.v)
        self.gap = self.lam * self.total - _inner(self.p, self.v)
        self.largest_total = self.total + (_norm(self.rest) + eta) ** 2 / (2 * self.lam)  # at least ||D x1||_1

    def A(self, x):
        return self.plan.forward(x[None], out=np.empty((1, self.samples), complex))[0]

    def A_adjoint(self, y):
        return self.plan.adjoint(y[None], out=np.empty((1, *self.shape), complex))[0]

    def D(self, x):
        return kernels.grad(x, backend=self.backend)

    def D_adjoint(self, d):
        return kernels.grad_adjoint(d, backend=self.backend)

    def iterate(self, state, kappa, y, image, iterations):
        """x of argmin kappa/2 ||A x||^2 - Re<y, A x> - Re<image, x> + lam ||D x||_1, after more iterations of `state`.

        kappa M + rho K = kappa (M + (rho / kappa) K): the same engine and, with t = lam / rho kept, the same state.
        """
        x = np.empty((1, *self.shape), complex)
        rhs = None if image is None else image[None] / kappa
        self.plan.iterate(state, y[None] / kappa, x, self.t, self.rho / kappa, RELAX, iterations, rhs=rhs)
        return x[0]

    def dual(self, state):
        """p = rho clip(w, t), in the box by construction."""
        return self.rho * kernels.clip(state.field()[0], self.t, backend=self.backend)

    def lift(self, image):
        """t = D (D*D)^-1 image, so that D*t = image, for an image in the kernel of A, where the resolvent is D*D's."""
        out = self.plan.resolvent(image[None], self.rho, out=np.empty((1, *self.shape), complex))[0]
        return self.D(self.rho * out)

    def G(self, z, Dz):
        """G(z) = lam ||v0 + D z||_1 - Re<p0, v0 + D z>, the gap of the pair (x0, p0) included; never negative."""
        return self.lam * _l1(self.v + Dz) - _inner(self.p, self.v + Dz)


class _Search:
    """The search for a good dual point of one pixel and phase; `best` is the smallest bound seen."""

    def __init__(self, problem, location, phase, relaxation, cap=None):
        self.problem, self.relaxation = problem, relaxation
        self.delta = np.zeros(problem.shape, complex)
        self.delta[location] = phase
        self.best, self.residual, self.spent = math.inf, math.inf, 0
        self.state, self.other = problem.state.copy(), problem.state.copy()
        self.z = self.Dz = np.zeros_like(problem.x)
        self.Dz, self.Az, self.Gz = np.zeros_like(problem.v), np.zeros_like(problem.rest), problem.gap
        # psi is kept as psi / mu, and 2 A psi with it; both stay zero without a cap
        self.psi, self.pull = np.zeros_like(problem.x), np.zeros_like(problem.rest)
        self.cap = cap and cap * problem.eta * math.sqrt(problem.samples / math.prod(problem.shape))
        # For a lone spike G = 4 lam |a| and s = |a| sqrt(m) / n: what theta lifts it to s = 0.93 eta?
        self.kappa, root = 2 - 1 / 0.93, math.sqrt(problem.samples / math.prod(problem.shape))
        self.theta = 4 * problem.lam + self.kappa * 0.93 * problem.eta * root

    def run(self, pairs):
        """Search until so many pairs are spent."""
        first = min(pairs, BEGIN) if self.relaxation == "R3" else pairs
        while self.spent < first:
            self._step_r2(INNER["R2"])
        while self.spent < pairs:
            self._step_r3(INNER["R3"])
        return self

    def _step_r2(self, iterations):
        """G + s^2 <= s eta, linearised at the last s: data weight kappa = 2 - eta / s."""
        problem = self.problem
        y = self.kappa * problem.Ax + problem.rest
        x = problem.iterate(self.state, self.kappa, y, self.theta * self.delta, iterations)
        a = x - problem.x
        g = problem.A(a)
        s = _norm(g)
        self.spent += iterations + 1
        self._look(a, g)
        self.kappa += MIXING * (2 - problem.eta / min(max(s, 0.7 * problem.eta), problem.eta) - self.kappa)

    def _step_r3(self, iterations):
        """The bound with a square for eta ||c||, minimised in turn over psi, w and z."""
        problem, steep = self.problem, 0.5 + 0.5 / SMOOTH
        if self.cap is not None:
            self._step_psi()
        shift = (1 - steep) * self.Az - (steep - 0.5) * self.pull
        kappa = 1 / steep
        y = kappa * (problem.Ax + shift) + problem.rest
        x = problem.iterate(self.state, kappa, y, self.theta * self.delta, iterations)
        a = x - problem.x
        g = problem.A(a)
        beta = kappa * (g - shift)
        y = steep * problem.Ax + problem.rest - (1 - steep) * beta - (steep - 0.5) * self.pull
        self.z = problem.iterate(self.other, steep, y, None, iterations) - problem.x
        self.Dz, self.Az = problem.D(self.z), problem.A(self.z)
        self.Gz = problem.G(self.z, self.Dz)
        self.spent += 2 * iterations + 2
        self._look(a, g)

    def _step_psi(self):
        """psi <- shrink(psi + 1/2 A*(b - A z - 2 A psi), SMOOTH cap / 2), b and psi in shares of mu."""
        problem = self.problem
        for _ in range(CAPPED):
            psi = self.psi + problem.A_adjoint(self.theta * self.b - self.Az - self.pull) / 2
            self.psi = psi - clip(psi, SMOOTH * self.cap / 2, "modulus")
            self.pull = 2 * problem.A(self.psi)
        self.spent += CAPPED

    def _look(self, a, g):
        """The bound of the dual point as it stands; keep it if it is the smallest; move theta = 1 / mu downhill.

        The slope dU/dmu at fixed q has a term in a, the multiplier of the constraint on delta - mu D*q.
        """
        problem, mu, eta = self.problem, 1 / self.theta, self.problem.eta
        p = problem.dual(self.state)
        Dp = problem.D_adjoint(p)
        H = self.delta - mu * (Dp - problem.A_adjoint(problem.rest))  # delta - D*w + mu residual
        b = self.b = problem.A(H)
        missing = H - problem.A_adjoint(b)
        t = problem.lift(missing)
        p = p + self.theta * t  # now delta - D*w lies in the range of A*, to rounding
        rounding = np.abs((missing - problem.D_adjoint(t)).view(float)).sum()
        excess = max(0.0, float(np.abs(p.view(float)).max()) - problem.lam)
        q = p - problem.p
        plus, minus = b + mu * self.Az, b - mu * (self.Az + self.pull)
        residual = mu * excess * problem.largest_total
        residual += rounding * (problem.largest_total + problem.total)
        bound = (
            mu * eta**2 / 4
            + _norm(plus) ** 2 / (4 * mu)
            + eta / 2 * _norm(minus)
            - mu * _inner(q, problem.v)
            + mu * self.Gz
            - mu * _inner(self.z, problem.residual)
            + residual
        )
        if self.cap is not None:
            bound += mu * self.cap * float(np.abs(self.psi).sum())
        bound += ROUNDING * abs(bound)
        self.spent += 3
        if bound < self.best:
            self.best, self.residual = float(bound), float(residual)
        Dq = problem.D_adjoint(q)
        h = problem.A(Dq)
        slope = (
            eta**2 / 4
            + _inner(plus, self.Az - h) / (2 * mu)
            - _norm(plus) ** 2 / (4 * mu**2)
            - eta / 2 * _inner(minus, self.Az + h) / _norm(minus)
            - _inner(q, problem.v)
            + self.Gz
            - _inner(Dq, a)
            + _inner(h, g)
        )
        self.theta *= 1 + DAMPING * min(max(slope / eta**2, -0.1), 0.1)


def _farthest(bounds):
    """The largest modulus of an a with Re(conj(phase) a) <= bound, the phases spaced evenly around the circle.

    Between two phases at an angle t no such a is farther than the corner u, v: sqrt(u^2 + v^2 - 2 u v cos t) / sin t.
    """
    u, t = np.array(bounds), 2 * np.pi / len(bounds)
    v = np.roll(u, -1)
    return float(np.sqrt(u**2 + v**2 - 2 * u * v * np.cos(t)).max() / np.sin(t))


def _inner(a, b):
    """Re<a, b>; einsum and not BLAS, whose threads cost more than they give here."""
    return float(np.einsum("i,i", a.reshape(-1).view(float), b.reshape(-1).view(float)))


def _norm(a):
    return math.sqrt(_inner(a, a))


def _l1(d):
    """||d||_1 of real and imaginary parts."""
    return float(np.abs(d.view(float)).sum())
