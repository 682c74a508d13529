# SPDX-License-Identifier: MIT
"""Other methods for the problems of `kspike.sparse`, on the same transforms, to be measured beside ADMM.

PDHG solves all of them. FISTA needs a smooth data term, so lam, not eta, and the proximal map of lam ||Psi x||_1: exact
for an orthogonal Psi; for the gradient an inner FGP on the dual, which is the whole solve where all is sampled.
"""

from __future__ import annotations

import math

import numpy as np

from kspike import door
from kspike.iterative import Iterative, size
from kspike.norms import clip

__all__ = ["FISTA", "PDHG"]


class PDHG(Iterative):
    """Primal-dual hybrid gradient (Chambolle and Pock 2011, algorithm 1), over-relaxed (Condat 2013); lam or eta.

        x+ = prox(x - tau Psi*p),   p+ = clip(p + sigma Psi(2 x+ - x), lam)
        (x, p) <- (x, p) + relax ((x+, p+) - (x, p))

    with tau sigma ||Psi||^2 = 1, lam = 1 in the second problem, and prox that of the data term, which is exact:
    (I + tau A*A)^-1 (v + tau A*y), or the projection onto ||A x - y|| <= eta.

    Parameters are those of `SparseSolver`, but for
    step : sigma. Default: as 1 / rho is the step of ADMM, sigma = rho / ||Psi|| with its default rho
    relax : in (0, 2)
    """

    def __init__(
        self,
        mask,
        psi="gradient",
        *,
        lam=None,
        eta=None,
        norm="separable",
        step=None,
        relax=1.8,
        dtype="complex64",
        backend=None,
        threads=1,
    ):
        super().__init__(mask, psi, lam, eta, norm, dtype, backend, threads)
        self.step = None if step is None else door.number("step", step, 0)
        self.relax = door.number("relax", relax, 0, 2)

    def _start(self, y):
        x = self.A.adjoint(y)
        step = self.step or self._penalty(y) / math.sqrt(self._bound or 1)
        return {"x": x, "p": np.zeros_like(self.psi(x)), "step": step}

    def _step(self, s, y):
        x, p, sigma = s["x"], s["p"], s["step"]
        tau = 1 / (sigma * (self._bound or 1))
        now = self._prox(x - tau * self.psi.adjoint(p), tau, y)
        ahead = clip(p + sigma * self.psi(2 * now - x), self._weight, self.norm)
        s["x"], s["p"] = x + self.relax * (now - x), p + self.relax * (ahead - p)
        s["dual"] = ahead
        return now

    def _prox(self, v, tau, y):
        """argmin over x of 1/2 ||x - v||^2 + tau times the data term."""
        misfit = self.A(v) - y
        if self.eta is None:
            return v - tau / (1 + tau) * self.A.adjoint(misfit)
        return v - max(1 - self.eta / (size(misfit) or 1), 0) * self.A.adjoint(misfit)

    def _dual(self, s, x, y):
        return self.psi(x) + s["dual"] / s["step"], s["step"]


class FISTA(Iterative):
    """Accelerated proximal gradient (Beck and Teboulle 2009) of step 1 = 1 / ||A||^2, restarted when it overshoots.

        x+ = prox(v - A*(A v - y)),   v = x+ + (theta - 1) / theta+ (x+ - x),   theta+ = (1 + sqrt(1 + 4 theta^2)) / 2

    prox(b) = argmin 1/2 ||x - b||^2 + lam ||Psi x||_1 is Psi* shrink(Psi b, lam) where Psi*Psi = I = Psi Psi*. For the
    gradient it is x = b - D*p, with p from `inner` steps, after that of the last call, of FGP: the same acceleration on

        p <- clip(p + D(b - D*p) / ||D||^2, lam),   the dual min ||b - D*p||^2 over |p| <= lam.

    Restart: theta = 1 when Re <v - x+, x+ - x> > 0 (O'Donoghue and Candes 2015). Parameters as for `PDHG`, without eta.
    """

    def __init__(
        self,
        mask,
        psi="gradient",
        *,
        lam,
        norm="separable",
        inner=20,
        dtype="complex64",
        backend=None,
        threads=1,
    ):
        super().__init__(mask, psi, lam, None, norm, dtype, backend, threads)
        self.inner = door.whole("inner", inner, 1)

    def _start(self, y):
        x = self.A.adjoint(y)
        s = {"x": x, "v": x, "theta": 1.0}
        return s if self._tight else s | {"p": np.zeros_like(self.psi(x))}

    def _step(self, s, y):
        x, v = s["x"], s["v"]
        b = v - self.A.adjoint(self.A(v) - y)
        if self._tight:
            c = self.psi(b)
            now = self.psi.adjoint(c - clip(c, self.lam, self.norm))
        else:
            now = self._denoise(s, b)
        s["x"] = now
        s["v"], s["theta"] = _ahead(x, v, now, s["theta"])
        return now

    def _denoise(self, s, b):
        """The proximal map of lam ||D x||_1 by FGP from the last dual field."""
        p = q = s["p"]
        theta = 1.0
        for _ in range(self.inner):
            now = clip(q + self.psi(b - self.psi.adjoint(q)) / (self._bound or 1), self.lam, self.norm)
            q, theta = _ahead(p, q, now, theta)
            p = now
        s["p"] = p
        return b - self.psi.adjoint(p)

    def _dual(self, s, x, y):
        p = s["p"] if self._gradient else clip(self.psi(self.A.adjoint(y - self.A(x))), self.lam, self.norm)
        rho = self.lam / (float(np.abs(x).max(initial=0)) or 1.0) or 1.0
        return self.psi(x) + p / rho, rho


def _ahead(x, v, now, theta):
    """The extrapolated point and the new theta after a step from v, with x before it."""
    if float(np.vdot(v - now, now - x).real) > 0:
        return now, 1.0
    following = (1 + math.sqrt(1 + 4 * theta**2)) / 2
    return now + (theta - 1) / following * (now - x), following
