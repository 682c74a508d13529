# SPDX-License-Identifier: MIT
"""Laws that an operator, a proximal map or a derivative obeys, whoever wrote it, and dense twins to hold them against.

Each law takes functions and points and asserts; `tol` is relative to the norms named in its docstring, never to an
inner product, which may vanish. The inner product is Re <a, b>, the one that belongs to separable functionals.
"""

import numpy as np


def inner(a, b):
    """Re <a, b>."""
    return float(np.vdot(a, b).real)


def norm(a):
    return float(np.linalg.norm(np.ravel(a)))


# --- linear operators ------------------------------------------------------------------------------------------------


def adjointness(A, adjoint, x, y, tol):
    """Re <A x, y> = Re <x, A* y>, relative to ||A x|| ||y|| + ||x|| ||A* y||."""
    Ax, Ay = A(x), adjoint(y)
    assert abs(inner(Ax, y) - inner(x, Ay)) <= tol * (norm(Ax) * norm(y) + norm(x) * norm(Ay))


def linearity(A, x, y, scalars, tol):
    """A(a x + b y) = a A x + b A y, relative to the norm of the right-hand side's terms."""
    a, b = scalars
    left, first, second = A(a * x + b * y), a * A(x), b * A(y)
    assert norm(left - first - second) <= tol * (norm(first) + norm(second))


def isometry(A, x, tol):
    """||A x|| = ||x||, relative to ||x||."""
    assert abs(norm(A(x)) - norm(x)) <= tol * norm(x)


def inverse(A, B, x, tol):
    """B(A x) = x, relative to ||x||."""
    assert norm(B(A(x)) - x) <= tol * norm(x)


# --- proximal maps ---------------------------------------------------------------------------------------------------


def moreau(prox, projection, v, tol):
    """prox_f(v) + prox_f*(v) = v, relative to ||v||; for a norm, prox_f* projects onto the ball of the dual norm."""
    assert norm(prox(v) + projection(v) - v) <= tol * norm(v)


def nonexpansiveness(f, v, w, tol):
    """||f(v) - f(w)||^2 <= Re <f(v) - f(w), v - w>, as for all proximal maps; relative to ||v - w||^2."""
    d = f(v) - f(w)
    assert norm(d) ** 2 <= inner(d, v - w) + tol * norm(v - w) ** 2


def prox_optimality(prox, functional, v, others, tol):
    """p = prox(v) minimises 1/2 ||p - v||^2 + functional(p): no other point is lower; relative to the minimum."""
    p = prox(v)
    least = 0.5 * norm(p - v) ** 2 + functional(p)
    for q in others:
        assert 0.5 * norm(q - v) ** 2 + functional(q) >= least * (1 - tol)


# --- derivatives -----------------------------------------------------------------------------------------------------


def derivative(f, tangent, x, dx, tol):
    """f(x + dx) - f(x) = tangent(dx), for f affine between x and x + dx; relative to ||f(x)|| + ||f(x + dx)||."""
    a, b = f(x), f(x + dx)
    assert norm(b - a - tangent(dx)) <= tol * (norm(a) + norm(b))


# --- dense twins: matrices on stacked real and imaginary parts -------------------------------------------------------


def stack(a):
    """Complex array -> real vector: all real parts, then all imaginary parts."""
    return np.concatenate([np.ravel(a).real, np.ravel(a).imag])


def unstack(v, shape):
    """The inverse of `stack`."""
    re, im = np.split(v, 2)
    return (re + 1j * im).reshape(shape)


def _stacked(matrix):
    """A complex matrix as a real one on stacked parts."""
    return np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])


def dense_fourier(mask):
    """A as a matrix, by the definition of the DFT with both origins at n // 2, rows of the samples in C order."""
    factors = []
    for n in mask.shape:
        k = np.arange(n) - n // 2
        factors.append(np.exp(-2j * np.pi * np.outer(k, k) / n) / np.sqrt(n))
    return _stacked(np.kron(*factors)[mask.ravel()])


def dense_grad(shape):
    """D as a matrix, entry by entry: each row has -1 at a pixel and +1 at its periodic neighbour."""
    rows, cols = shape
    D = np.zeros((2, rows, cols, rows, cols))
    for r in range(rows):
        for c in range(cols):
            D[0, r, c, r, c] -= 1
            D[0, r, c, (r + 1) % rows, c] += 1
            D[1, r, c, r, c] -= 1
            D[1, r, c, r, (c + 1) % cols] += 1
    return _stacked(D.reshape(2 * rows * cols, rows * cols))


class DenseADMM:
    """Over-relaxed ADMM on three variables with dense matrices, and its derivative by the chain rule, step by step.

    The start is the field w = z + u with u = clip(w, t): moving w moves z where |w| > t, and u where not. After `run`:
    x and w; Jx, the derivative of x in the stacked y and then the stacked w of the start; margin, how close any part of
    w came to the threshold before an iteration.
    """

    def __init__(self, mask, t, rho, relax):
        self.A, self.D = dense_fourier(mask), dense_grad(mask.shape)
        self.R = np.linalg.inv(self.A.T @ self.A + rho * self.D.T @ self.D)
        self.shape, self.t, self.rho, self.relax = mask.shape, t, rho, relax

    def run(self, y, w, iterations):
        m, field = self.A.shape[0], self.D.shape[0]
        y, w = stack(y), stack(w)
        Jy, Jw = np.eye(m, m + field), np.eye(field, m + field, m)
        self.margin = np.inf
        for _ in range(iterations):
            self.margin = min(self.margin, np.abs(np.abs(w) - self.t).min())
            s = (np.abs(w) > self.t)[:, None]
            z = np.sign(w) * np.maximum(np.abs(w) - self.t, 0)
            u = w - z
            Jz = s * Jw
            Ju = Jw - Jz
            x = self.R @ (self.A.T @ y + self.rho * self.D.T @ (z - u))
            self.Jx = self.R @ (self.A.T @ Jy + self.rho * self.D.T @ (Jz - Ju))
            w = u + self.relax * self.D @ x + (1 - self.relax) * z
            Jw = Ju + self.relax * self.D @ self.Jx + (1 - self.relax) * Jz
        self.x, self.w = unstack(x, self.shape), unstack(w, (2, *self.shape))
        return self
