# SPDX-License-Identifier: MIT
"""Where a step of an attack goes: the balls that hold a perturbation e, and the optimisers that move it.

Perturbations and gradients are (batch, m), complex; a norm of them is one per row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kspike import door

__all__ = ["PGD", "Adam", "Ball", "Power", "scaled"]

BALLS = ("l2", "linf", "l1", "real")


@dataclass(frozen=True)
class Ball:
    """The perturbations with ||e|| <= eta.

    norm: "l2"; "linf" and "l1", of the moduli of the samples; "real", l2 and e = A r of a real image r, for a masked
    Fourier transform. cap: hold ||A* e||_inf near cap times that of the plain spike, eta sqrt(m / n^2), by `rounds` of
    {clip |A* e|, apply A, rescale to eta (not after the last)}, of one FFT pair each.
    """

    norm: str = "l2"
    cap: float | None = None
    rounds: int = 4

    def __post_init__(self):
        if self.norm not in BALLS:
            raise ValueError(f"ball: expected one of {', '.join(BALLS)}, got {self.norm!r}")
        if self.cap is not None:
            door.number("cap", self.cap, 0)
            door.whole("rounds", self.rounds, 1)
            if self.norm not in ("l2", "real"):
                raise ValueError(f"cap: expected the ball 'l2' or 'real', got {self.norm!r}")

    @property
    def pairs(self):
        """FFT pairs that one step spends here."""
        return (self.rounds if self.cap is not None else 0) + (4 if self.norm == "real" else 0)

    def size(self, e):
        """||e||, (batch, 1)."""
        if self.norm == "linf":
            return np.abs(e).max(-1, keepdims=True)
        return np.abs(e).sum(-1, keepdims=True) if self.norm == "l1" else _norm(e)

    def fill(self, A, e, eta):
        """Scale e to the border, ||e|| = eta; with a cap, also under it."""
        if self.norm == "real":
            e = _real(A, e)
        e = _times(e, eta / _nonzero(self.size(e)))
        return e if self.cap is None else self._capped(A, e, eta)

    def extreme(self, A, d, eta):
        """The e of the ball with the largest Re <d, e>."""
        if self.norm == "linf":
            return _times(d, eta / _nonzero(np.abs(d)))
        if self.norm == "l1":
            e, most = np.zeros_like(d), np.abs(d).argmax(-1)[:, None]
            peak = np.take_along_axis(d, most, -1)
            np.put_along_axis(e, most, _times(peak, eta / _nonzero(np.abs(peak))), -1)
            return e
        return scaled(_real(A, d) if self.norm == "real" else d, eta)

    def project(self, A, e, eta):
        """The nearest point of the ball; with a cap, then under it."""
        if self.norm == "linf":
            return _times(e, np.minimum(1, eta / _nonzero(np.abs(e))))
        if self.norm == "l1":
            moduli = np.abs(e)
            return _times(e, np.maximum(moduli - _l1_threshold(moduli, eta), 0) / _nonzero(moduli))
        if self.norm == "real":
            e = _real(A, e)
        e = _times(e, np.minimum(1, eta / _nonzero(_norm(e))))
        return e if self.cap is None else self._capped(A, e, eta)

    def settle(self, A, e, eta):
        """A convex combination of points of the ball, in it: on its border where the ball is round."""
        return self.fill(A, e, eta) if self.norm in ("l2", "real") else e

    def _capped(self, A, e, eta):
        top = self.cap * eta * math.sqrt(e.shape[-1] / math.prod(A.shape))
        for left in reversed(range(self.rounds)):
            r = A.adjoint(e)
            e = A(_times(r, np.minimum(1, top / _nonzero(np.abs(r)))))
            if left:
                e = scaled(e, eta)
        return _times(e, np.minimum(1, eta / _nonzero(_norm(e))))


@dataclass(frozen=True)
class Power:
    """The power iteration e <- fill((1 - s) e + s extreme(gradient)); on flat balls Frank and Wolfe's.

    s falls from `step` to nothing in a straight line: recTV is piecewise linear, so that gradients jump from one piece
    to the next, and steps of one size end by hopping about the optimum.
    """

    step: float = 0.6

    def __post_init__(self):
        if not 0 < door.number("step", self.step, 0) <= 1:
            raise ValueError(f"step: expected a number in (0, 1], got {self.step!r}")

    def moves(self, A, ball, eta):
        """A function (e, gradient, share of the ascent that is left) -> the next e."""

        def move(e, d, left):
            s = self.step * left
            return ball.settle(A, (1 - s) * e + s * ball.extreme(A, d, eta), eta)

        return move


@dataclass(frozen=True)
class Adam:
    """Adam on real and imaginary parts, projected after each step; the paper's has lr = 5, eps = 1e-5."""

    lr: float = 5.0
    eps: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self):
        door.number("lr", self.lr, 0)
        door.number("eps", self.eps, 0)

    def moves(self, A, ball, eta):
        """A function (e, gradient, share of the ascent that is left) -> the next e."""
        (b1, b2), k, mean, square = self.betas, 0, 0.0, 0.0

        def move(e, d, left):
            nonlocal k, mean, square
            k += 1
            d = d.view(d.real.dtype)
            mean, square = b1 * mean + (1 - b1) * d, b2 * square + (1 - b2) * d * d
            step = mean * (self.lr / (1 - b1**k)) / (np.sqrt(square) / math.sqrt(1 - b2**k) + self.eps)
            return ball.project(A, e + step.view(e.dtype), eta)

        return move


@dataclass(frozen=True)
class PGD:
    """Projected gradient ascent e <- project(e + step gradient); normalised: step eta gradient / ||gradient||."""

    step: float = 0.5
    normalised: bool = True

    def __post_init__(self):
        door.number("step", self.step, 0)

    def moves(self, A, ball, eta):
        """A function (e, gradient, share of the ascent that is left) -> the next e."""

        def move(e, d, left):
            return ball.project(A, e + (scaled(d, self.step * eta) if self.normalised else self.step * d), eta)

        return move


def scaled(v, size):
    """Scale: size v / ||v|| for each row; a row of zeros stays."""
    return _times(v, size / _nonzero(_norm(v)))


def _times(v, factor):
    """Scale v by a real factor in its own precision."""
    real = v.real.dtype
    return v * (factor.astype(real) if hasattr(factor, "astype") else real.type(factor))


def _norm(v):
    """||v||_2 of each row, in double: squares of single precision overflow from 1e19 on."""
    return np.sqrt(np.square(v.view(v.real.dtype).astype(np.float64)).sum(-1, keepdims=True))


def _nonzero(size):
    """Sizes fit to divide by: 1 in place of 0."""
    return np.where(size > 0, size, 1)


def _real(A, e):
    """The projection onto {A r : r real}, 3 T - 2 T^2, as T = A Re A* has eigenvalues 0, 1 and 1/2 (-k not sampled)."""

    def T(v):
        return A(A.adjoint(v).real.astype(v.dtype))

    once = T(e)
    return 3 * once - 2 * T(once)


def _l1_threshold(moduli, eta):
    """The threshold whose shrinking leaves a sum of eta, or 0 where the sum is below it: (batch, 1)."""
    ordered = -np.sort(-moduli, axis=-1)
    excess = np.cumsum(ordered, axis=-1) - eta
    counts = np.arange(1, moduli.shape[-1] + 1, like=moduli)
    last = np.maximum((ordered * counts > excess).sum(-1, keepdims=True), 1)
    return np.maximum(np.take_along_axis(excess, last - 1, -1) / last, 0)
