# SPDX-License-Identifier: MIT
"""The specification: every kernel and the ADMM loop in plain NumPy, as the paper writes them.

Each engine in `kspike._backends` holds the same functions under the same names and is tested against these, evaluated
in double precision. Nothing here is fast and nothing falls back to it; read it to learn what the kernels mean.

Shapes: image `(batch, rows, cols)`, field `(batch, 2, rows, cols)` with channel 0 along rows and 1 along columns,
samples `(batch, m)` in C order of the centred mask. The letters are the paper's and ADMM's: see docs/notation.md.

`norm` says which numbers of D x at a pixel shrink together, v in all that follows, and |v| is their Euclidean length:
    "separable"  each real and each imaginary part alone: ||D x||_1 = sum |Re| + |Im|, the paper's code
    "modulus"    the two parts of a complex component:    ||D x||_1 = sum |d0| + |d1|
    "isotropic"  all four parts of the pixel:             ||D x||_1 = sum sqrt(|d0|^2 + |d1|^2)
"""

from __future__ import annotations

import functools

import numpy as np

__all__ = [
    "NORMS",
    "Plan",
    "clip",
    "fourier",
    "fourier_adjoint",
    "grad",
    "grad_adjoint",
    "objective",
    "reflect",
    "reflect_tangent",
    "root",
    "shrink",
    "shrink_update",
    "shrink_update_adjoint",
    "shrink_update_tangent",
    "support",
    "textbook_admm",
]

AXES = (-2, -1)
NORMS = ("separable", "modulus", "isotropic")


def _kernel(function):
    """Give a formula the engines' last argument: write its value to `out`, or return it when there is none."""

    @functools.wraps(function)
    def kernel(*args, out=None, **options):
        value = function(*args, **options)
        if out is None:
            return value
        out[...] = value
        return out

    return kernel


# --- k-space ---------------------------------------------------------------------------------------------------------


def fourier(x):
    """F x: the centred orthonormal 2-D DFT. The zero frequency and the image origin are both at index n // 2."""
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x, AXES), norm="ortho"), AXES)


def fourier_adjoint(k):
    """F* k = F^-1 k."""
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(k, AXES), norm="ortho"), AXES)


def root(turns):
    """exp(2 pi i turns) in long double: half a turn, which is the centring of an even length, rounds to -1."""
    return np.exp(8j * np.arctan(np.longdouble(1)) * turns)


def symbol(shape):
    """K: the centred symbol of D*D, K(k) = sum over axes of 2 - 2 cos(2 pi k / n), so that F D*D x = K F x.

    As 4 sin(pi k / n)^2, which keeps its digits where K is small and x large.
    """
    rows, cols = (4 * np.sin(np.pi * (np.arange(n) - n // 2) / n) ** 2 for n in shape)
    return rows[:, None] + cols


# --- image space -----------------------------------------------------------------------------------------------------


@_kernel
def grad(x):
    """D x = (x[i+1, j] - x[i, j], x[i, j+1] - x[i, j]), indices on a torus."""
    return np.stack([np.roll(x, -1, -2) - x, np.roll(x, -1, -1) - x], axis=-3)


@_kernel
def grad_adjoint(d):
    """D* d = d0[i-1, j] - d0[i, j] + d1[i, j-1] - d1[i, j], indices on a torus."""
    d0, d1 = d[..., 0, :, :], d[..., 1, :, :]
    return np.roll(d0, 1, -2) - d0 + np.roll(d1, 1, -1) - d1


def _parts(f, *arrays):
    """Apply f to the real parts and to the imaginary parts: the separable functional of the paper's code."""
    return f(*(a.real for a in arrays)) + 1j * f(*(a.imag for a in arrays))


def _length(v, norm):
    """|v| for the groups of a block norm, in a shape that multiplies v."""
    return np.abs(v) if norm == "modulus" else np.linalg.norm(v, axis=-3, keepdims=True)


@_kernel
def clip(v, t, norm="separable"):
    """v min(1, t / |v|): the projection onto the dual norm's ball; with "separable", the parts clipped to [-t, t]."""
    if norm == "separable":
        return _parts(lambda a: np.clip(a, -t, t), v)
    length = _length(v, norm)
    outside = length > t
    return v * np.where(outside, t / np.where(outside, length, 1), 1)


@_kernel
def shrink(v, t, norm="separable"):
    """Soft thresholding v max(1 - t / |v|, 0), computed as v - clip(v, t)."""
    return v - clip(v, t, norm)


@_kernel
def support(w, t, norm="separable"):
    """What the derivative S of `shrink` at w consists of: one step of the tape.

    "separable": S is a 0/1 diagonal, 4 bits per pixel as uint8 (batch, rows, cols): bit 2c + p is set where part p
    (0 real, 1 imaginary) of w[c] has modulus above t.

    Else, with n = v / |v|: S = (1 - t / |v|) I + t / |v| n n^T where |v| > t, and 0 elsewhere. The field
    s = shrink(v, t) / |v|, (batch, 2, rows, cols), holds S = |s| I + (1 - |s|) n n^T, n = s / |s|, and 0 where s = 0.
    """
    if norm != "separable":
        length = _length(w, norm)
        length = np.where(length > t, length, np.inf)
        return w * ((1 - t / length) / length)  # not from w - clip(w, t), which has no direction left where it is small
    bits = np.zeros(w[..., 0, :, :].shape, np.uint8)
    for c in range(2):
        bits |= (np.abs(w[..., c, :, :].real) > t).astype(np.uint8) << (2 * c)
        bits |= (np.abs(w[..., c, :, :].imag) > t).astype(np.uint8) << (2 * c + 1)
    return bits


def _slope(s, v, norm):
    """S v for the field v, where s is the `support`."""
    if norm == "separable":
        on = np.stack([s & 1, s & 4], axis=-3) > 0, np.stack([s & 2, s & 8], axis=-3) > 0
        return on[0] * v.real + 1j * (on[1] * v.imag)
    length = _length(s, norm)
    inner = (s.conj() * v).real
    if norm == "isotropic":
        inner = inner.sum(-3, keepdims=True)
    return length * v + s * np.divide((1 - length) * inner, length**2, out=np.zeros_like(inner), where=length > 0)


@_kernel
def reflect(w, t, norm="separable"):
    """D*(z - u) = D*(w - 2 clip(w, t)): what the next x-update needs of the state w = D x + u."""
    return grad_adjoint(w - 2 * clip(w, t, norm))


@_kernel
def reflect_tangent(dw, bits, norm="separable"):
    """Derivative of `reflect` in direction dw where `bits = support(w, t)`: D*((2 S - 1) dw)."""
    return grad_adjoint(2 * _slope(bits, dw, norm) - dw)


@_kernel
def shrink_update(w, x, t, relax, norm="separable"):
    """w + relax (D x - shrink(w, t)): the z- and u-update of over-relaxed ADMM on the one field w = D x + u.

    With z = shrink(w, t), u = clip(w, t) this is u + relax D x + (1 - relax) z; its shrink and clip are the new z, u.
    """
    return w + relax * (grad(x) - shrink(w, t, norm))


@_kernel
def shrink_update_tangent(dw, dx, bits, relax, norm="separable"):
    """Derivative of `shrink_update` in direction (dw, dx): dw + relax (D dx - S dw)."""
    return dw + relax * (grad(dx) - _slope(bits, dw, norm))


@_kernel
def shrink_update_adjoint(g, r, bits, relax, rho, norm="separable"):
    """One step of the reverse sweep on the field: g - relax S g + rho (2 S - 1) D r.

    g is the cotangent of the new state, r the x-update of its image part, (A*A + rho D*D)^-1 relax D* g: the first term
    is the adjoint of `shrink_update_tangent`, the second that of rho `reflect_tangent`: S is symmetric.
    """
    d = grad(r)
    return g - relax * _slope(bits, g, norm) + rho * (2 * _slope(bits, d, norm) - d)


# --- the functional and its textbook solver --------------------------------------------------------------------------


def objective(x, y, mask, lam, norm="separable"):
    """1/2 ||A x - y||^2 + lam ||D x||_1; one number per image."""
    d = grad(x)
    lengths = np.abs(d.real) + np.abs(d.imag) if norm == "separable" else _length(d, norm)
    tv = lengths.sum((-3, -2, -1))
    return 0.5 * (np.abs(fourier(x)[..., mask] - y) ** 2).sum(-1) + lam * tv


def textbook_admm(y, mask, lam, rho, relax, iterations, z, u, norm="separable"):
    """Over-relaxed ADMM as Boyd et al. (2011) section 3.4.3 writes it, three variables and all: returns x, z, u.

    x = argmin 1/2 ||A x - y||^2 + rho/2 ||D x - z + u||^2;   h = relax D x + (1 - relax) z
    z = shrink(h + u, lam / rho);   u = u + h - z
    The engines run the same iteration on the single field w = h + u.
    """
    plan = Plan(mask)
    b = fourier_adjoint(plan.scatter(y))
    x = None
    for _ in range(iterations):
        x = plan.resolvent(b + rho * grad_adjoint(z - u), rho)
        h = relax * grad(x) + (1 - relax) * z
        z = shrink(h + u, lam / rho, norm)
        u = u + h - z
    return x, z, u


class State:
    """The ADMM state of a batch: the one field w, kept between calls."""

    def __init__(self, w):
        self.w = w

    @property
    def batch(self):
        """How many images."""
        return self.w.shape[0]

    def field(self):
        """A copy of w, (batch, 2, rows, cols)."""
        return self.w.copy()

    def copy(self):
        """An independent state with the same contents."""
        return State(self.w.copy())


class Tape:
    """The supports of the states before each iteration, for each image: what the derivatives need of a solve."""

    def __init__(self, batch):
        self.steps = [[] for _ in range(batch)]


class Plan:
    """The transforms and the iteration of one mask and norm. The engines' plans have these methods and arguments.

    `out` arrays are written in place. A real inner product Re<., .> defines every adjoint.
    """

    CHECK = 10  # iterations between two looks at the stopping rule

    def __init__(self, mask, dtype="complex128", threads=1, norm="separable"):
        self.mask, self.dtype, self.threads, self.norm = np.asarray(mask), np.dtype(dtype), threads, norm
        self.symbol = symbol(self.mask.shape)

    def scatter(self, y):
        """P* y: the zero-filled centred spectrum."""
        k = np.zeros(y.shape[:-1] + self.mask.shape, np.result_type(y, np.complex64))
        k[..., self.mask] = y
        return k

    def _write(self, value, out):
        if out is None:
            return value
        out[...] = value
        return out

    def forward(self, x, out=None):
        """A x = P F x."""
        return self._write(fourier(x)[..., self.mask], out)

    def adjoint(self, y, out=None):
        """A* y = F^-1 P* y."""
        return self._write(fourier_adjoint(self.scatter(y)), out)

    def resolvent(self, b, rho, out=None):
        """(A*A + rho D*D)^-1 b; where the symbol vanishes (zero frequency not sampled) the result has no component."""
        s = self.mask + rho * self.symbol
        inverse = np.divide(1, s, out=np.zeros_like(s), where=s > 0)
        return self._write(fourier_adjoint(inverse * fourier(b)), out)

    def state(self, w):
        """A state that starts from the field w (batch, 2, rows, cols); w is copied."""
        return State(w.astype(self.dtype))

    def rescale(self, state, t, to):
        """w <- w + (to / t - 1) clip(w, t), in place: the threshold becomes `to`, and z and the dual u / t stay."""
        state.w += (to / t - 1) * clip(state.w, t, self.norm)

    def tape(self, batch):
        """An empty tape."""
        return Tape(batch)

    def iterate(self, state, y, x, t, rho, relax, iterations, stop=None, tape=None, rhs=None):
        """Run ADMM on each image of the batch from `state`, which is advanced; write the last x.

        x = (A*A + rho D*D)^-1 (A*y + rhs + rho D*(w - 2 clip(w, t)));   w = shrink_update(w, x, t, relax)

        rhs: images (batch, rows, cols), 0 if not given: the solution then minimises 1/2 ||A x - y||^2 - Re<rhs, x> + ..
        stop: None, or one threshold per image: every CHECK iterations an image ends when no real or imaginary part of x
        has moved by more than this since the look before. tape: also append the support of w before each iteration.
        Returns how many iterations each image ran, and its last such change of x (inf if it was never measured).
        """
        count, change = np.zeros(state.batch, np.int64), np.full(state.batch, np.inf)
        for i in range(state.batch):
            b, w = self.adjoint(y[i]) + (0 if rhs is None else rhs[i]), state.w[i]
            seen = None
            for k in range(1, iterations + 1):
                if tape is not None:
                    tape.steps[i].append(support(w, t, self.norm))
                now = self.resolvent(b + rho * reflect(w, t, self.norm), rho)
                w = shrink_update(w, now, t, relax, self.norm)
                count[i] = k
                if stop is not None and k % self.CHECK == 0:
                    if seen is not None:
                        difference = now - seen
                        change[i] = max(np.abs(difference.real).max(), np.abs(difference.imag).max())
                    seen = now
                    if change[i] <= stop[i]:
                        break
            if iterations:
                state.w[i], x[i] = w, now
        return count, change

    def freeze(self, state, t):
        """A tape of one step: the support of the state as it stands."""
        tape = Tape(state.batch)
        for i in range(state.batch):
            tape.steps[i].append(support(state.w[i], t, self.norm))
        return tape

    def tangent(self, state, tape, g, dx, rho, relax, iterations):
        """The linearised iteration on the frozen support (last step of the tape) with right-hand side g, from `state`.

        dx = (A*A + rho D*D)^-1 (g + rho D*((2 S - 1) dw));   dw = shrink_update_tangent(dw, dx, S, relax)

        Its fixed point is dx = J g, where J is the symmetric Jacobian of A*y -> recTV(y) at the state that was frozen.
        """
        for i in range(state.batch):
            bits = tape.steps[i][-1]
            for _ in range(iterations):
                dw = state.w[i]
                dx[i] = self.resolvent(g[i] + rho * reflect_tangent(dw, bits, self.norm), rho)
                state.w[i] = shrink_update_tangent(dw, dx[i], bits, relax, self.norm)

    def reverse(self, tape, g, y, w, rho, relax):
        """Exact adjoint of the iterations on the tape: cotangent g of the last x to those of the data and the start.

        Writes y <- A sum_k r_k (batch, m) and w <- the cotangent of the first state (batch, 2, rows, cols).
        """
        for i, steps in enumerate(tape.steps):
            lw, total, image = np.zeros_like(w[i]), np.zeros_like(g[i]), g[i]
            for bits in reversed(steps):
                r = self.resolvent(image, rho)
                total = total + r
                lw = shrink_update_adjoint(lw, r, bits, relax, rho, self.norm)
                image = relax * grad_adjoint(lw)
            self.forward(total, out=y[i])
            w[i] = lw
