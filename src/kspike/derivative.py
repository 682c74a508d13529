# SPDX-License-Identifier: MIT
"""The derivative of recTV at a solution, from the solution alone: no tape, and as exact as asked for.

Near y the solution moves only within V, the images that have D v = 0 wherever D x = 0, in real and imaginary part
separately: those that are constant on each region that the jumps of x bound. There

    J g = argmin over v in V of 1/2 ||A v||^2 - Re <g, v>,

which is linear and symmetric in g: J is the Jacobian of A*y -> x. So dL/dy = A J g for g = dL/dx, dx = J A* dy, and
dx/dlam = -J D* sign(D x), from A*(A x - y) + D*p = 0 with p = lam sign(D x) on the jumps.

In the norms "modulus" and "isotropic" the parts that shrink together jump together, so that the real and the imaginary
part have the same regions, and a jump d = D x of a group also turns: its length |d| has the second derivative
(I - n n^T) / |d|, n = d / |d|. To 1/2 ||A v||^2 then comes lam/2 sum (|D v|^2 - <n, D v>^2) / |d| over the jumps, and
sign(D x) is n.

At a kink, data at which a jump appears or vanishes, x has one-sided derivatives only; J is then the derivative along
the side that the support of the state w stands for. The dual is often degenerate, |w| = t where D x = 0 all around; one
such edge inside a region changes nothing here, because a region ends only where edges enclose it.
"""

from __future__ import annotations

import math
import warnings

import numpy as np

from kspike import door, kernels
from kspike.norms import magnitude, support
from kspike.outcome import plain

__all__ = ["METHODS", "Jacobian"]

METHODS = ("cg", "fixed-point")
BLOCK = 20  # iterations of the fixed point between two looks at the residual


class Jacobian:
    """J at the state of a solve. `J(g)` is the pullback A J g: (..., rows, cols) -> (..., m), as `TVSolver.vjp` has it.

    The equation in V is Q*(A*A + C) Q a = Q*g, with v = Q a, an orthonormal basis Q of V, a vector for each region, and
    the curvature C of a joint norm, 0 in the separable one. The conjugate gradients work on it directly, preconditioned
    where jumps are small and C is large; the fixed point is that of the linearised ADMM iteration.

    Parameters
    ----------
    solver : the TVSolver
    w : the field of the final state (batch, 2, rows, cols)
    lead : the leading dimensions of y
    tol : the relative residual ||Q*(g - A*A v - C v)||_2 / ||Q*g||_2 to reach; measured, A v is about as accurate.
        For a joint norm both sizes are those of the preconditioner, 1 / (1 + diag Q*C Q)
    max_pairs : transforms there and back that one call may take for each image; a warning says if they were too few
    method : "cg" or "fixed-point"
    warm : False; True, to start each call from the answer of the last; or an earlier Jacobian, itself warm, of data
        nearby and by the same method, from whose last answer the first call starts

    Attributes, numbers or arrays over the batch: `regions`, how many V has, `residual`, the one that the last call
    reached, recomputed from its answer, and `pairs`, spent so far.
    """

    def __init__(self, solver, w, lead, *, tol=1e-6, max_pairs=1000, method="cg", warm=False):
        if method not in METHODS:
            raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
        self.tol, self.max_pairs = door.number("tol", tol, 0), door.whole("max_pairs", max_pairs, 1)
        self.method, self._solver, self._lead, self._w = method, solver, lead, w
        if solver.norm == "separable":
            supports = kernels.support(w, solver._t, backend=solver.backend)
        else:
            supports = support(w, solver._t, solver.norm)
        supports = supports.get() if door.device(supports) == "cuda" else supports
        self._spaces = [_Space(_joined(s, solver.norm), w) for s in supports]
        self._curvatures = [None] * len(w)
        if solver.norm != "separable":
            pairs = zip(supports, self._spaces, strict=True)
            self._curvatures = [_Curvature(s, space, solver, w) for s, space in pairs]
        self._easy = [1.0 if c is None else 1 / (1 + c.diagonal) for c in self._curvatures]
        self._warm, self._last, self._tangents = bool(warm), None, None
        if isinstance(warm, Jacobian):
            if (warm.method, warm._lead, warm._w.shape) != (method, lead, w.shape):
                raise ValueError(f"warm: expected a Jacobian of {(method, lead)}, got one of {warm.method, warm._lead}")
            self._last, self._tangents = warm._last, warm._tangents and [s.copy() for s in warm._tangents]
        row, col = (n // 2 for n in solver.shape)
        self._mean = bool(solver.A.mask[row, col])
        self._residual, self._pairs = np.full(len(w), np.nan), np.zeros(len(w), np.int64)

    @property
    def regions(self):
        """How many regions, of the real and the imaginary part together: the dimension of V."""
        return plain(np.array([s.size for s in self._spaces]).reshape(self._lead))

    @property
    def residual(self):
        """What the last call reached, ||Q*(g - A*A v)||_2 / ||Q*g||_2; NaN before the first."""
        return plain(self._residual.reshape(self._lead))

    @property
    def pairs(self):
        """FFT + inverse FFT pairs of all calls so far."""
        return plain(self._pairs.reshape(self._lead))

    def __call__(self, g):
        """A J g, the gradient dL/dy of dL/dx = g: (..., rows, cols) -> (..., m)."""
        return self._solver.A(self._apply(g))

    def image(self, g):
        """J g: (..., rows, cols) -> (..., rows, cols)."""
        return self._apply(g)

    def tangent(self, dy):
        """dx = J A* dy, the directional derivative: (..., m) -> (..., rows, cols)."""
        return self._apply(self._solver.A.adjoint(dy))

    def lam(self):
        """dx/dlam = -J D* sign(D x): (..., rows, cols)."""
        solver, w = self._solver, self._w
        if solver.norm == "separable":
            parts = w.view(w.real.dtype)
            jumps = (np.sign(parts) * (np.abs(parts) > solver._t)).view(w.dtype)
        else:
            jumps = np.stack([c.directions for c in self._curvatures]) if len(w) else np.zeros_like(w)
        g = -kernels.grad_adjoint(jumps, backend=solver.backend)
        return self._apply(g.reshape(*self._lead, *solver.shape))

    def _apply(self, g):
        self._solver._image("g", g, self._lead)
        flat = door.batched(g, 2)
        v = np.empty_like(flat)
        solve = self._cg if self.method == "cg" else self._fixed_point
        for i, space in enumerate(self._spaces):
            b = space.restrict(flat[i] if self._mean else flat[i] - flat[i].mean())
            size = _norm(b, self._easy[i])
            if size:
                v[i], self._residual[i] = solve(i, space, flat[i], b, size)
            else:
                v[i], self._residual[i] = 0, 0.0
        self._last = v.copy() if self._warm else None
        worst = self._residual.max(initial=0)
        if not worst <= self.tol:
            warnings.warn(
                f"the implicit derivative reached a relative residual of {worst:.1e}, not tol = {self.tol:.1e}: raise "
                "max_pairs, set dtype='complex128', or ask for a larger tol.",
                UserWarning,
                stacklevel=3,
            )
        return v.reshape(g.shape)

    def _normal(self, i, space, a):
        """Q*(A*A + C) Q a, a pair."""
        A, v, curvature = self._solver.A, space.extend(a), self._curvatures[i]
        self._pairs[i] += 1
        image = A.adjoint(A(v))
        return space.restrict(image if curvature is None else image + curvature(v))

    def _cg(self, i, space, _, b, size):
        """Conjugate gradients (Hestenes and Stiefel 1952), begun again from the true residual until that is small."""
        spent, easy = self._pairs[i], self._easy[i]
        a = np.zeros_like(b) if self._last is None else space.restrict(self._last[i])
        r = b - self._normal(i, space, a) if self._last is not None else b.copy()
        reached = _norm(r, easy)
        while reached > self.tol * size and self._pairs[i] - spent < self.max_pairs - 1:
            start, best, p = a.copy(), reached, easy * r
            rr = float(r @ p)
            while rr > (0.5 * self.tol * size) ** 2 and self._pairs[i] - spent < self.max_pairs - 1:
                q = self._normal(i, space, p)
                bend = float(p @ q)
                if not bend > 0:  # A vanishes on what is left of V
                    break
                a += (rr / bend) * p
                r -= (rr / bend) * q
                rr, before = float(r @ (easy * r)), rr
                p = easy * r + (rr / before) * p
            r = b - self._normal(i, space, a)
            reached = _norm(r, easy)
            if not reached < 0.5 * best:  # at the precision of the transforms
                a, reached = (a, reached) if reached < best else (start, best)
                break
        return space.extend(a), reached / size

    def _fixed_point(self, i, space, g, b, size):
        """dx = (A*A + rho D*D)^-1 (g + rho D*((2 S - 1) dw)), dw <- dw + relax (D dx - S dw), projected onto V."""
        solver, plan = self._solver, self._solver._plan
        if self._tangents is None:
            self._tangents = [plan.state(np.zeros_like(self._w[:1])) for _ in self._spaces]
        if not self._warm:
            self._tangents[i] = plan.state(np.zeros_like(self._w[:1]))
        tape, dx, reached = plan.freeze(plan.state(self._w[i : i + 1]), solver._t), np.empty_like(g[None]), math.inf
        for _ in range(max(1, self.max_pairs // (BLOCK + 1))):
            plan.tangent(self._tangents[i], tape, g[None], dx, solver.rho, solver.relax, BLOCK)
            self._pairs[i] += BLOCK
            a = space.restrict(dx[0])
            reached = _norm(b - self._normal(i, space, a), self._easy[i])
            if reached <= self.tol * size:
                break
        return space.extend(a), reached / size


class _Space:
    """V by the neighbours that `joined` (part, component, rows, cols) sets equal, and its orthonormal basis Q.

    Q is the indicators of the regions over sqrt(pixels).
    """

    def __init__(self, joined, like):
        self.shape, self.dtype = joined.shape[2:], like.dtype
        labels, self.size = [], 0
        for down, right in joined:
            found = np.unique_inverse(_regions(down, right))
            labels.append(found.inverse_indices.ravel() + self.size)
            self.size += len(found.values)
        pixels = np.bincount(np.concatenate(labels), minlength=self.size)
        self.labels, self.pixels = [part.reshape(self.shape) for part in labels], pixels
        self._labels = [np.asarray(part, like=like) for part in labels]
        self._scale = np.asarray(1 / np.sqrt(pixels), like=like)

    def restrict(self, g):
        """Q*g: (rows, cols) -> (regions,), float64."""
        sums = [
            np.bincount(labels, part.ravel(), minlength=self.size)
            for labels, part in zip(self._labels, (g.real, g.imag), strict=True)
        ]
        return (sums[0] + sums[1]) * self._scale

    def extend(self, a):
        """Q a: (regions,) -> (rows, cols)."""
        values = a * self._scale
        v = values[self._labels[0]] + 1j * values[self._labels[1]]
        return v.reshape(self.shape).astype(self.dtype)


class _Curvature:
    """C v = lam D*((D v - n <n, D v>) / |d|) on the jumps d = |d| n of one image, for a norm whose parts are joined."""

    def __init__(self, s, space, solver, like):
        """s = shrink(w, t) / |w|, so that |d| = t |s| / (1 - |s|); see `kspike.reference.support`."""
        self._norm, self._backend = solver.norm, solver.backend
        length = magnitude(s, solver.norm)
        inverse = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
        directions, weight = s * inverse, solver.rho * (1 - length) * inverse
        self.directions, self._weight = np.asarray(directions, like=like), np.asarray(weight, like=like)
        self.diagonal = np.asarray(_diagonal(directions, weight, space), like=like)

    def __call__(self, v):
        """C v: (rows, cols) -> (rows, cols)."""
        d, n = kernels.grad(v, backend=self._backend), self.directions
        inner = (n.conj() * d).real
        if self._norm == "isotropic":
            inner = inner.sum(0, keepdims=True)
        return kernels.grad_adjoint((self._weight * (d - n * inner)).astype(d.dtype), backend=self._backend)


def _diagonal(directions, weight, space):
    """That of Q*C Q, but for the products of two components: (regions,), float64."""
    out = np.zeros(space.size)
    for labels, n in zip(space.labels, (directions.real, directions.imag), strict=True):
        for component, axis in enumerate((0, 1)):
            stiff = np.broadcast_to(weight, n.shape)[component] * (1 - n[component] ** 2)
            other = np.roll(labels, -1, axis)
            stiff = np.where(labels == other, 0, stiff)
            for side in (labels, other):
                out += np.bincount(side.ravel(), stiff.ravel(), minlength=space.size)
    return out / space.pixels


def _joined(support, norm):
    """Where D v = 0 is asked for, (part, component, rows, cols), from the support of one image; see `reference`."""
    if norm == "separable":
        return np.array([[(support >> (2 * c + part) & 1) == 0 for c in range(2)] for part in range(2)])
    off = np.broadcast_to(magnitude(support, norm) == 0, support.shape)
    return np.stack([off, off])


def _regions(down, right):
    """The smallest index of the region that each pixel of a torus belongs to, (rows, cols); True joins two neighbours.

    Each round hangs the larger of two joined roots below the smaller and then lets all pixels point at their root.
    """
    index = np.arange(down.size).reshape(down.shape)
    root = index.ravel().copy()
    a = np.concatenate([index[down], index[right]])
    b = np.concatenate([np.roll(index, -1, 0)[down], np.roll(index, -1, 1)[right]])
    while True:
        low, high = np.minimum(root[a], root[b]), np.maximum(root[a], root[b])
        apart = low < high
        if not apart.any():
            return root.reshape(down.shape)
        a, b = a[apart], b[apart]
        np.minimum.at(root, high[apart], low[apart])
        while not np.array_equal(above := root[root], root):
            root = above


def _norm(a, weight):
    return math.sqrt(float(a @ (weight * a)))
