# SPDX-License-Identifier: MIT
"""Sparse recovery with any sparsifier Psi, penalised or constrained, as the paper's section 2 has it:

    lam:  min_x 1/2 ||A x - y||^2 + lam ||Psi x||_1           eta:  min_x ||Psi x||_1  subject to  ||A x - y||_2 <= eta

Psi is the gradient, the identity or an orthogonal wavelet transform, of images (rows, cols) or of signals (n,); eta = 0
is exact recovery. The loops are Python's, over an engine's transforms: for the gradient of images with lam
`kspike.TVSolver` solves the same problem many times faster.
"""

from __future__ import annotations

import math

import numpy as np

from kspike import door, exact, reference
from kspike.iterative import Found, Iterative, State
from kspike.norms import clip, slope, support
from kspike.operators import MaskedFourier
from kspike.sparsifiers import Identity, Wavelet

__all__ = ["Found", "Identity", "Iterative", "SparseSolver", "State", "Wavelet"]


class SparseSolver(Iterative):
    """Over-relaxed ADMM with an exact x-update, for both problems.

        x = argmin rho/2 ||Psi x - w + 2 u||^2 + the data term,   u = clip(w, t)
        w <- w + relax (Psi x - (w - u))

    The data term is 1/2 ||A x - y||^2, t = lam / rho; or that ||A x - y|| <= eta, t = 1 / rho. On the spectrum the
    x-update is a diagonal, with one multiplier for the ball.

    With eta = 0 the solution is exact as soon as its support shows, if Psi is orthogonal or the gradient of a signal:
    at iteration 20 and then every 1.4 times later `kspike.exact` solves on the largest entries and proves the result.

    Parameters
    ----------
    mask : bool array (rows, cols), centred; (n,) for signals
    psi : "gradient", "identity", the name of an orthogonal wavelet, as "haar" or "db4", or an object with __call__,
        adjoint, shape and `tight`, that Psi*Psi = Psi Psi* = I
    lam, eta : exactly one of the two, the weight or the radius of the constraint
    norm : "separable" or "modulus"; for the gradient of images also "isotropic". See `TVSolver`
    dtype, backend, threads : as for `TVSolver`; for signals the backend is "numpy", and None stands for it
    rho : the penalty, which sets the speed and not the solution. The default for lam is that of `TVSolver`, for images
        of scale about 1, and a tenth of it for the gradient of signals. For eta it is set from the data: 1 / rho = 0.06
        sqrt(n / m) max|B*v| for n numbers, five times that for eta = 0, with B and v of `kspike.exact`; and 0.03
        max|A*y| for the gradient of images
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
