# SPDX-License-Identifier: MIT
"""The Numba engine: no compiler needed. Stencils are jitted loops, transforms are SciPy's.

The loops see a complex image as a real one of twice the columns, (rows, 2 cols), real and imaginary parts in turn: a
neighbour along the columns is two away, and all loops are real. Those of the separable norm act on the parts alone and
vectorise; those of the norms whose parts shrink together are the `_joint` ones, whose first argument says which norm.
What each kernel means is said in `kspike.reference`.
"""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import math
import threading
import warnings

import numba
import numpy as np
import scipy.fft

from kspike import reference

__all__ = [
    "Plan",
    "clip",
    "grad",
    "grad_adjoint",
    "reflect",
    "reflect_tangent",
    "shrink",
    "shrink_update",
    "shrink_update_adjoint",
    "shrink_update_tangent",
    "support",
]


def _jit(function):
    """Compile on first use and keep the result on disk: beside this file, else in the user's cache directory."""
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        warnings.warn("Numba compiles anew in each process: set NUMBA_CACHE_DIR to a writable directory", stacklevel=1)
        return numba.njit(nogil=True, error_model="numpy")(function)


# --- one number ------------------------------------------------------------------------------------------------------


@_jit
def _clipped(v, t):
    return t if v > t else (-t if v < -t else v)


@_jit
def _kept(bits, bit, v):
    """S v of one number: itself where the bit is set, else the zero of its own type, so that nothing turns double."""
    return v if bits >> bit & 1 else v - v


# --- one row: of an image or of a channel (2 cols); of bits (cols), whose pair at `shift` is the channel's ------------


@_jit
def _copy_row(x, out):
    """The row x into out; a loop, because Numba takes seconds to compile `out[:] = x` and its error message."""
    for j in range(x.size):
        out[j] = x[j]


@_jit
def _grad_row(x, below, d):
    """The row of D x into d (2, 2 cols), where `below` is the next row of the image."""
    n = x.size
    for j in range(n):
        d[0, j] = below[j] - x[j]
    for j in range(n - 2):
        d[1, j] = x[j + 2] - x[j]
    for j in range(2):
        d[1, n - 2 + j] = x[j] - x[n - 2 + j]


@_jit
def _grad_adjoint_row(above, d0, d1, out):
    """The row of D* d into out, where `above` is channel 0 of the row before."""
    n = out.size
    for j in range(2):
        out[j] = above[j] - d0[j] + d1[n - 2 + j] - d1[j]
    for j in range(n - 2):
        out[j + 2] = above[j + 2] - d0[j + 2] + d1[j] - d1[j + 2]


@_jit
def _reflect_row(w, t, out):
    for j in range(w.size):
        c = _clipped(w[j], t)
        out[j] = w[j] - c - c


@_jit
def _reflect_tangent_row(dw, bits, shift, out):
    for j in range(bits.size):
        for p in range(2):
            v = dw[2 * j + p]
            out[2 * j + p] = _kept(bits[j], shift + p, v + v) - v


@_jit
def _step_row(w, d, t, relax):
    """The new w, and over d its reflection w - 2 clip(w, t). In place: with an output apart the loop stays scalar."""
    for j in range(w.size):
        v = w[j] + relax * (d[j] - (w[j] - _clipped(w[j], t)))
        w[j] = v
        c = _clipped(v, t)
        d[j] = v - c - c


@_jit
def _step_tangent_row(dw, d, bits, shift, relax):
    """The new dw, and over d its reflection (2 S - 1) dw."""
    for j in range(bits.size):
        for p in range(2):
            v = dw[2 * j + p] + relax * (d[2 * j + p] - _kept(bits[j], shift + p, dw[2 * j + p]))
            dw[2 * j + p] = v
            d[2 * j + p] = _kept(bits[j], shift + p, v + v) - v


@_jit
def _step_adjoint_row(g, d, bits, shift, relax, rho):
    """The new g = g - relax S g + rho (2 S - 1) d."""
    for j in range(bits.size):
        for p in range(2):
            v, r = g[2 * j + p], rho * d[2 * j + p]
            g[2 * j + p] = v - r + _kept(bits[j], shift + p, r + r - relax * v)


@_jit
def _support_row(w0, w1, t, shift, bits):
    """Set the four bits of each pixel, `shift` places up, in bits that were clear there."""
    for j in range(bits.size):
        a, b, c, d = abs(w0[2 * j]) > t, abs(w0[2 * j + 1]) > t, abs(w1[2 * j]) > t, abs(w1[2 * j + 1]) > t
        bits[j] |= np.uint8((a | b << 1 | c << 2 | d << 3) << shift)


# --- the kernels -----------------------------------------------------------------------------------------------------


@_jit
def _grad(x, out):
    for i in range(x.shape[0]):
        for r in range(x.shape[1]):
            _grad_row(x[i, r], x[i, (r + 1) % x.shape[1]], out[i, :, r])


@_jit
def _grad_adjoint(d, out):
    for i in range(out.shape[0]):
        for r in range(out.shape[1]):
            _grad_adjoint_row(d[i, 0, r - 1], d[i, 0, r], d[i, 1, r], out[i, r])


@_jit
def _clip(v, t, out):
    for j in range(v.size):
        out[j] = _clipped(v[j], t)


@_jit
def _shrink(v, t, out):
    for j in range(v.size):
        out[j] = v[j] - _clipped(v[j], t)


@_jit
def _support(w, t, shift, out):
    for i in range(out.shape[0]):
        for r in range(out.shape[1]):
            _support_row(w[i, 0, r], w[i, 1, r], t, shift, out[i, r])


@_jit
def _reflect(w, t, rows, out):
    for i in range(out.shape[0]):
        above, q0, q1 = rows[0], rows[1], rows[2]
        _reflect_row(w[i, 0, -1], t, above)
        for r in range(out.shape[1]):
            _reflect_row(w[i, 0, r], t, q0)
            _reflect_row(w[i, 1, r], t, q1)
            _grad_adjoint_row(above, q0, q1, out[i, r])
            above, q0 = q0, above


@_jit
def _reflect_tangent(dw, bits, shift, rows, out):
    for i in range(out.shape[0]):
        above, q0, q1 = rows[0], rows[1], rows[2]
        _reflect_tangent_row(dw[i, 0, -1], bits[i, -1], shift, above)
        for r in range(out.shape[1]):
            _reflect_tangent_row(dw[i, 0, r], bits[i, r], shift, q0)
            _reflect_tangent_row(dw[i, 1, r], bits[i, r], shift + 2, q1)
            _grad_adjoint_row(above, q0, q1, out[i, r])
            above, q0 = q0, above


@_jit
def _shrink_update(w, x, t, relax, d):
    for i in range(x.shape[0]):
        for r in range(x.shape[1]):
            _grad_row(x[i, r], x[i, (r + 1) % x.shape[1]], d)
            for c in range(2):
                _step_row(w[i, c, r], d[c], t, relax)


@_jit
def _shrink_update_tangent(dw, dx, bits, relax, d):
    for i in range(dx.shape[0]):
        for r in range(dx.shape[1]):
            _grad_row(dx[i, r], dx[i, (r + 1) % dx.shape[1]], d)
            for c in range(2):
                _step_tangent_row(dw[i, c, r], d[c], bits[i, r], 2 * c, relax)


@_jit
def _shrink_update_adjoint(g, x, bits, relax, rho, d):
    for i in range(x.shape[0]):
        for r in range(x.shape[1]):
            _grad_row(x[i, r], x[i, (r + 1) % x.shape[1]], d)
            for c in range(2):
                _step_adjoint_row(g[i, c, r], d[c], bits[i, r], 2 * c, relax, rho)


def _parts(a):
    """The real view of a complex array, (..., cols) -> (..., 2 cols)."""
    return a.view(a.real.dtype)


def _rows(image, count):
    """Scratch rows for one image or a batch."""
    return np.empty((count, 2 * image.shape[-1]), image.real.dtype)


def _scalars(array, *values):
    """The values in the real type of the array, so that nothing is promoted."""
    return [array.real.dtype.type(v) for v in values]


def grad(x, out):
    """See reference.grad."""
    _grad(_parts(x), _parts(out))
    return out


def grad_adjoint(d, out):
    """See reference.grad_adjoint."""
    _grad_adjoint(_parts(d), _parts(out))
    return out


def clip(v, t, out):
    """See reference.clip."""
    _clip(_parts(v).reshape(-1), *_scalars(v, t), _parts(out).reshape(-1))
    return out


def shrink(v, t, out):
    """See reference.shrink."""
    _shrink(_parts(v).reshape(-1), *_scalars(v, t), _parts(out).reshape(-1))
    return out


def support(w, t, out):
    """See reference.support."""
    out[...] = 0
    _support(_parts(w), *_scalars(w, t), 0, out)
    return out


def reflect(w, t, out):
    """See reference.reflect."""
    _reflect(_parts(w), *_scalars(w, t), _rows(w, 3), _parts(out))
    return out


def reflect_tangent(dw, bits, out):
    """See reference.reflect_tangent."""
    _reflect_tangent(_parts(dw), bits, 0, _rows(dw, 3), _parts(out))
    return out


def shrink_update(w, x, t, relax, out):
    """See reference.shrink_update."""
    out[...] = w
    _shrink_update(_parts(out), _parts(x), *_scalars(w, t, relax), _rows(w, 2))
    return out


def shrink_update_tangent(dw, dx, bits, relax, out):
    """See reference.shrink_update_tangent."""
    out[...] = dw
    _shrink_update_tangent(_parts(out), _parts(dx), bits, *_scalars(dw, relax), _rows(dw, 2))
    return out


def shrink_update_adjoint(g, r, bits, relax, rho, out):
    """See reference.shrink_update_adjoint."""
    out[...] = g
    _shrink_update_adjoint(_parts(out), _parts(r), bits, *_scalars(g, relax, rho), _rows(g, 2))
    return out


# --- the iteration: one pass over the image between two transforms ---------------------------------------------------
#
# A pass turns x into the image that the next x-update transforms, in place and row by row: d <- D x of the row, the
# step on the rows of w and d, D* d over the row of x, which nobody needs any more - but for the first row, which the
# difference of the last needs, and the d of the last, which D* of the first needs: both are worked out beforehand.


@_jit
def _pass(w, x, t, relax, bits, shift, rows):
    """The w after shrink_update(w, x, t, relax), reflect(w, t) over x; support(w, t) to bits, unless they are empty."""
    first, above, d = rows[0], rows[1], rows[2:]
    last = x.shape[0] - 1
    _copy_row(x[0], first)
    _grad_row(x[last], first, d)
    _copy_row(w[0, last], above)
    _step_row(above, d[0], t, relax)
    _copy_row(d[0], above)
    for r in range(last + 1):
        _grad_row(x[r], x[r + 1] if r < last else first, d)
        for c in range(2):
            _step_row(w[c, r], d[c], t, relax)
        if bits.size:
            _support_row(w[0, r], w[1, r], t, shift, bits[r])
        _grad_adjoint_row(above, d[0], d[1], x[r])
        _copy_row(d[0], above)


@_jit
def _pass_tangent(dw, dx, bits, shift, relax, rows):
    """The dw after shrink_update_tangent(dw, dx, S, relax), and reflect_tangent(dw, S) over dx; S = bits >> shift."""
    first, above, d = rows[0], rows[1], rows[2:]
    last = dx.shape[0] - 1
    _copy_row(dx[0], first)
    _grad_row(dx[last], first, d)
    _copy_row(dw[0, last], above)
    _step_tangent_row(above, d[0], bits[last], shift, relax)
    _copy_row(d[0], above)
    for r in range(last + 1):
        _grad_row(dx[r], dx[r + 1] if r < last else first, d)
        for c in range(2):
            _step_tangent_row(dw[c, r], d[c], bits[r], shift + 2 * c, relax)
        _grad_adjoint_row(above, d[0], d[1], dx[r])
        _copy_row(d[0], above)


@_jit
def _pass_adjoint(g, x, bits, shift, relax, rho, rows):
    """The g after shrink_update_adjoint(g, x, S, relax, rho), and relax D* g over x; S = bits >> shift."""
    first, above, d = rows[0], rows[1], rows[2:]
    last = x.shape[0] - 1
    _copy_row(x[0], first)
    _grad_row(x[last], first, d)
    _copy_row(g[0, last], above)
    _step_adjoint_row(above, d[0], bits[last], shift, relax, rho)
    for r in range(last + 1):
        _grad_row(x[r], x[r + 1] if r < last else first, d)
        for c in range(2):
            _step_adjoint_row(g[c, r], d[c], bits[r], shift + 2 * c, relax, rho)
        _grad_adjoint_row(above if r == 0 else g[0, r - 1], g[0, r], g[1, r], x[r])
        for j in range(x.shape[1]):
            x[r, j] *= relax


# --- the same for parts that shrink together; the support s = shrink(w, t) / |w| is a field ---------------------------
#
# A constant in a formula would turn single precision into double: zero and one are of the arrays' type.


@_jit
def _joint_squares(isotropic, a, b, c, d):
    """|v|^2 of the groups that the parts a, b of channel 0 and c, d of channel 1 belong to."""
    first, second = a * a + b * b, c * c + d * d
    both = first + second
    return (both, both) if isotropic else (first, second)


@_jit
def _joint_factor(squared, t, one):
    """clip(v, t) over v."""
    return t / math.sqrt(squared) if squared > t * t else one


@_jit
def _joint_weight(inner, squared, zero):
    """(1 - |s|) / |s|^2 <s, v>: what the derivative takes of s."""
    return inner / squared - inner / math.sqrt(squared) if squared > zero else zero


@_jit
def _joint_slope_rows(isotropic, s, v, out):
    """S v = |s| v + (1 - |s|) / |s|^2 <s, v> s."""
    zero = v.dtype.type(0)
    for j in range(v.shape[1] // 2):
        a, b, c, d = s[0, 2 * j], s[0, 2 * j + 1], s[1, 2 * j], s[1, 2 * j + 1]
        e, f, g, h = v[0, 2 * j], v[0, 2 * j + 1], v[1, 2 * j], v[1, 2 * j + 1]
        m, n = _joint_squares(isotropic, a, b, c, d)
        inner0, inner1 = a * e + b * f, c * g + d * h
        if isotropic:
            inner0 = inner1 = inner0 + inner1
        along0, along1 = _joint_weight(inner0, m, zero), _joint_weight(inner1, n, zero)
        length0, length1 = math.sqrt(m), math.sqrt(n)
        out[0, 2 * j], out[0, 2 * j + 1] = length0 * e + along0 * a, length0 * f + along0 * b
        out[1, 2 * j], out[1, 2 * j + 1] = length1 * g + along1 * c, length1 * h + along1 * d


@_jit
def _joint_support_rows(isotropic, w, t, s):
    """The row of the support, shrink(w, t) / |w|."""
    one = w.dtype.type(1)
    for j in range(w.shape[1] // 2):
        a, b, c, d = w[0, 2 * j], w[0, 2 * j + 1], w[1, 2 * j], w[1, 2 * j + 1]
        m, n = _joint_squares(isotropic, a, b, c, d)
        p = (one - t / math.sqrt(m)) / math.sqrt(m) if m > t * t else one - one
        q = (one - t / math.sqrt(n)) / math.sqrt(n) if n > t * t else one - one
        s[0, 2 * j], s[0, 2 * j + 1], s[1, 2 * j], s[1, 2 * j + 1] = p * a, p * b, q * c, q * d


@_jit
def _joint_reflect_rows(isotropic, w, t, out):
    """The rows of w - 2 clip(w, t)."""
    one = w.dtype.type(1)
    for j in range(w.shape[1] // 2):
        a, b, c, d = w[0, 2 * j], w[0, 2 * j + 1], w[1, 2 * j], w[1, 2 * j + 1]
        m, n = _joint_squares(isotropic, a, b, c, d)
        p, q = _joint_factor(m, t, one), _joint_factor(n, t, one)
        p, q = one - p - p, one - q - q
        out[0, 2 * j], out[0, 2 * j + 1], out[1, 2 * j], out[1, 2 * j + 1] = p * a, p * b, q * c, q * d


@_jit
def _joint_step_rows(isotropic, w, d, t, relax):
    """The new w, and over d its reflection w - 2 clip(w, t)."""
    one = w.dtype.type(1)
    for j in range(w.shape[1] // 2):
        a, b, c, e = w[0, 2 * j], w[0, 2 * j + 1], w[1, 2 * j], w[1, 2 * j + 1]
        m, n = _joint_squares(isotropic, a, b, c, e)
        p, q = one - _joint_factor(m, t, one), one - _joint_factor(n, t, one)
        w[0, 2 * j] = a + relax * (d[0, 2 * j] - p * a)
        w[0, 2 * j + 1] = b + relax * (d[0, 2 * j + 1] - p * b)
        w[1, 2 * j] = c + relax * (d[1, 2 * j] - q * c)
        w[1, 2 * j + 1] = e + relax * (d[1, 2 * j + 1] - q * e)
    _joint_reflect_rows(isotropic, w, t, d)


@_jit
def _joint_step_tangent_rows(isotropic, dw, d, s, relax, sv):
    """The new dw, and over d its reflection (2 S - 1) dw."""
    _joint_slope_rows(isotropic, s, dw, sv)
    for c in range(2):
        for j in range(dw.shape[1]):
            dw[c, j] += relax * (d[c, j] - sv[c, j])
    _joint_slope_rows(isotropic, s, dw, sv)
    for c in range(2):
        for j in range(dw.shape[1]):
            d[c, j] = sv[c, j] + sv[c, j] - dw[c, j]


@_jit
def _joint_step_adjoint_rows(isotropic, g, d, s, relax, rho, sv):
    """The new g = g - relax S g + rho (2 S - 1) d, d = D r, which is used up."""
    for c in range(2):
        for j in range(g.shape[1]):
            r, v = rho * d[c, j], g[c, j]
            g[c, j] = v - r
            d[c, j] = r + r - relax * v
    _joint_slope_rows(isotropic, s, d, sv)
    for c in range(2):
        for j in range(g.shape[1]):
            g[c, j] += sv[c, j]


@_jit
def _joint_support(isotropic, w, t, shift, s):
    for i in range(w.shape[0]):
        for r in range(w.shape[2]):
            _joint_support_rows(isotropic, w[i, :, r], t, s[i, :, r])


@_jit
def _joint_reflect(isotropic, w, t, rows, out):
    for i in range(out.shape[0]):
        above, q = rows[0], rows[1:3]
        _joint_reflect_rows(isotropic, w[i, :, -1], t, q)
        for r in range(out.shape[1]):
            _copy_row(q[0], above)
            _joint_reflect_rows(isotropic, w[i, :, r], t, q)
            _grad_adjoint_row(above, q[0], q[1], out[i, r])


@_jit
def _joint_reflect_tangent(isotropic, dw, s, shift, rows, out):
    for i in range(out.shape[0]):
        above, q = rows[0], rows[1:3]
        for r in range(-1, out.shape[1]):
            _copy_row(q[0], above)
            _joint_slope_rows(isotropic, s[i, :, r], dw[i, :, r], q)
            for c in range(2):
                for j in range(q.shape[1]):
                    q[c, j] += q[c, j] - dw[i, c, r, j]
            if r >= 0:
                _grad_adjoint_row(above, q[0], q[1], out[i, r])


@_jit
def _joint_pass(isotropic, w, x, t, relax, s, shift, rows):
    """The w after shrink_update(w, x, t, relax), reflect(w, t) over x; support(w, t) to s, unless it is empty."""
    first, above, d, kept = rows[0], rows[1], rows[2:4], rows[4:6]
    last = x.shape[0] - 1
    _copy_row(x[0], first)
    _grad_row(x[last], first, d)
    for c in range(2):
        _copy_row(w[c, last], kept[c])
    _joint_step_rows(isotropic, kept, d, t, relax)
    _copy_row(d[0], above)
    for r in range(last + 1):
        _grad_row(x[r], x[r + 1] if r < last else first, d)
        _joint_step_rows(isotropic, w[:, r], d, t, relax)
        if s.size:
            _joint_support_rows(isotropic, w[:, r], t, s[:, r])
        _grad_adjoint_row(above, d[0], d[1], x[r])
        _copy_row(d[0], above)


@_jit
def _joint_pass_tangent(isotropic, dw, dx, s, shift, relax, rows):
    """The dw after shrink_update_tangent(dw, dx, S, relax), and reflect_tangent(dw, S) over dx."""
    first, above, d, kept, sv = rows[0], rows[1], rows[2:4], rows[4:6], rows[6:8]
    last = dx.shape[0] - 1
    _copy_row(dx[0], first)
    _grad_row(dx[last], first, d)
    for c in range(2):
        _copy_row(dw[c, last], kept[c])
    _joint_step_tangent_rows(isotropic, kept, d, s[:, last], relax, sv)
    _copy_row(d[0], above)
    for r in range(last + 1):
        _grad_row(dx[r], dx[r + 1] if r < last else first, d)
        _joint_step_tangent_rows(isotropic, dw[:, r], d, s[:, r], relax, sv)
        _grad_adjoint_row(above, d[0], d[1], dx[r])
        _copy_row(d[0], above)


@_jit
def _joint_pass_adjoint(isotropic, g, x, s, shift, relax, rho, rows):
    """The g after shrink_update_adjoint(g, x, S, relax, rho), and relax D* g over x."""
    first, d, kept, sv = rows[0], rows[2:4], rows[4:6], rows[6:8]
    last = x.shape[0] - 1
    _copy_row(x[0], first)
    _grad_row(x[last], first, d)
    for c in range(2):
        _copy_row(g[c, last], kept[c])
    _joint_step_adjoint_rows(isotropic, kept, d, s[:, last], relax, rho, sv)
    for r in range(last + 1):
        _grad_row(x[r], x[r + 1] if r < last else first, d)
        _joint_step_adjoint_rows(isotropic, g[:, r], d, s[:, r], relax, rho, sv)
        _grad_adjoint_row(kept[0] if r == 0 else g[0, r - 1], g[0, r], g[1, r], x[r])
        for j in range(x.shape[1]):
            x[r, j] *= relax


_SEPARABLE = _support, _reflect, _pass, _reflect_tangent, _pass_tangent, _pass_adjoint
_JOINT = _joint_support, _joint_reflect, _joint_pass, _joint_reflect_tangent, _joint_pass_tangent, _joint_pass_adjoint


# --- the plan --------------------------------------------------------------------------------------------------------


@_jit
def _filter(k, gain, data):
    """The x-update on all frequencies in a row, gain k + data over k."""
    for j in range(gain.size):
        k[2 * j] = gain[j] * k[2 * j] + data[2 * j]
        k[2 * j + 1] = gain[j] * k[2 * j + 1] + data[2 * j + 1]


@_jit
def _scale(k, gain):
    """The resolvent on all frequencies in a row, gain k over k."""
    for j in range(gain.size):
        k[2 * j] *= gain[j]
        k[2 * j + 1] *= gain[j]


@_jit
def _look(x, seen):
    """The largest |x - seen| of all parts, NaN if there is one; x over seen."""
    change = x[0] - x[0]
    for j in range(x.size):
        d = abs(x[j] - seen[j])
        if d > change or d != d:
            change = d
        seen[j] = x[j]
    return change


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
    """For each image its supports, one (page, shift) an iteration: 4 bits per pixel, two on a page, or a field.

    nowhere: an empty page, of bits (0, 0) or of the numbers of a field (0, 0, 0).
    """

    def __init__(self, batch, shape, nowhere):
        self.steps = [[] for _ in range(batch)]
        self.shape, self.nowhere = shape, nowhere

    def slot(self, i):
        """Room for the next support of image i: a page whose bits from `shift` on are clear."""
        steps = self.steps[i]
        if self.nowhere.ndim == 3:
            rows, cols = self.shape
            steps.append((np.empty((2, rows, 2 * cols), self.nowhere.dtype), 0))
            return steps[-1]
        steps.append((steps[-1][0], 4) if len(steps) % 2 else (np.zeros(self.shape, np.uint8), 0))
        return steps[-1]


class Plan:
    """See reference.Plan. Spectra are kept as fft2 leaves them; the centring is a phase on each sample.

    F = fftshift fft2 ifftshift, and ifftshift of the image multiplies fft2 by exp(2 pi i k (n // 2) / n) on each axis.
    """

    CHECK = 10

    def __init__(self, mask, dtype="complex64", threads=1, norm="separable"):
        self.shape, self.pixels, self.threads, self.norm = mask.shape, mask.size, threads, norm
        self.dtype = np.dtype(dtype)
        self.real = np.empty(0, self.dtype).real.dtype
        self.mask = np.fft.ifftshift(mask)
        frequencies = [np.arange(n) - n // 2 for n in self.shape]
        turns = [k * (n // 2) % n / n for k, n in zip(frequencies, self.shape, strict=True)]
        phase = reference.root(turns[0][:, None] + turns[1])[mask]
        self.to_samples = (phase / np.sqrt(self.pixels)).astype(self.dtype)
        self.index = np.fft.fftshift(np.arange(self.pixels).reshape(self.shape))[mask]
        self.symbol = np.fft.ifftshift(reference.symbol(self.shape))
        self.inverse = None, None
        if norm == "separable":
            kernels, self.nowhere = _SEPARABLE, np.empty((0, 0), np.uint8)
        else:
            kernels = [functools.partial(kernel, norm == "isotropic") for kernel in _JOINT]
            self.nowhere = np.empty((0, 0, 0), self.real)
        self._support, self._reflect, self._pass, self._reflect_tangent, self._pass_tangent, self._pass_adjoint = (
            kernels
        )

    def _inverse(self, rho):
        """1 / (pixels (M + rho K)), or 0: the resolvent in the order of fft2, for an inverse without a factor."""
        last, inverse = self.inverse
        if rho != last:
            s = self.mask + rho * self.symbol
            inverse = np.divide(1 / self.pixels, s, out=np.zeros_like(s), where=s > 0).astype(self.real).reshape(-1)
            self.inverse = rho, inverse
        return inverse

    def _each(self, batch, body):
        """body(i, FFT threads) for each image: the threads share out the images, or one image's transforms.

        A body that takes long yields between its steps: there it is left once this call has been interrupted.
        """
        interrupted = threading.Event()

        def run(i, threads):
            for _ in body(i, threads) or ():
                if interrupted.is_set():
                    return

        if self.threads > 1 and batch > 1:
            with concurrent.futures.ThreadPoolExecutor(min(self.threads, batch)) as pool:
                try:
                    list(pool.map(run, range(batch), itertools.repeat(1)))
                except BaseException:
                    interrupted.set()
                    raise
        else:
            for i in range(batch):
                run(i, self.threads)

    def _solve(self, k, filter, threads, *diagonal):
        """The x-update of the image k, which is used up: fft2, a diagonal on the spectrum, the inverse."""
        k = scipy.fft.fft2(k, overwrite_x=True, workers=threads)
        filter(_parts(k).reshape(-1), *diagonal)
        return scipy.fft.ifft2(k, norm="forward", overwrite_x=True, workers=threads)

    def forward(self, x, out):
        """See reference.Plan.forward."""

        def body(i, threads):
            k = scipy.fft.fft2(x[i], workers=threads)
            np.multiply(k.reshape(-1)[self.index], self.to_samples, out=out[i])

        self._each(len(x), body)
        return out

    def adjoint(self, y, out):
        """See reference.Plan.adjoint."""

        def body(i, threads):
            k = np.zeros(self.shape, self.dtype)
            k.reshape(-1)[self.index] = self.to_samples.conj() * y[i]
            out[i] = scipy.fft.ifft2(k, norm="forward", overwrite_x=True, workers=threads)

        self._each(len(y), body)
        return out

    def resolvent(self, b, rho, out):
        """See reference.Plan.resolvent."""
        inverse = self._inverse(rho)

        def body(i, threads):
            out[i] = self._solve(b[i].copy(), _scale, threads, inverse)

        self._each(len(b), body)
        return out

    def state(self, w):
        """See reference.Plan.state."""
        return State(np.array(w, self.dtype, order="C"))

    def rescale(self, state, t, to):
        """See reference.Plan.rescale."""
        state.w += self.real.type(to / t - 1) * reference.clip(state.w, t, self.norm)

    def tape(self, batch):
        """See reference.Plan.tape."""
        return Tape(batch, self.shape, self.nowhere)

    def iterate(self, state, y, x, t, rho, relax, iterations, stop=None, tape=None, rhs=None):
        """See reference.Plan.iterate."""
        count, change = np.zeros(state.batch, np.int64), np.full(state.batch, np.inf)
        inverse = self._inverse(rho)
        gain = inverse * self.real.type(rho)
        t, relax = self.real.type(t), self.real.type(relax)

        def body(i, threads):
            w = _parts(state.w[i])
            data = np.zeros(self.pixels, self.dtype)
            data[self.index] = self.to_samples.conj() * y[i] * (self.pixels * inverse[self.index])
            if rhs is not None:
                data += inverse * scipy.fft.fft2(rhs[i], workers=threads).reshape(-1)
            data, seen = _parts(data), _parts(np.empty(self.pixels, self.dtype))
            rows = _rows(x, 8)
            k = np.empty(self.shape, self.dtype)
            self._reflect(w[None], t, rows, _parts(k)[None])
            if tape is not None:
                page, shift = tape.slot(i)
                self._support(w[None], t, shift, page[None])
            for n in range(1, iterations + 1):
                k = self._solve(k, _filter, threads, gain, data)
                count[i] = n
                if stop is not None and n % self.CHECK == 0:
                    difference = _look(_parts(k).reshape(-1), seen)
                    change[i] = difference if n > self.CHECK else np.inf
                last = n == iterations or (stop is not None and n % self.CHECK == 0 and change[i] <= stop[i])
                if last:
                    x[i] = k
                page, shift = (self.nowhere, 0) if last or tape is None else tape.slot(i)
                self._pass(w, _parts(k), t, relax, page, shift, rows)
                if last:
                    break
                yield

        if iterations:
            self._each(state.batch, body)
        return count, change

    def freeze(self, state, t):
        """See reference.Plan.freeze."""
        tape = self.tape(state.batch)
        for i in range(state.batch):
            page, shift = tape.slot(i)
            self._support(_parts(state.w[i : i + 1]), self.real.type(t), shift, page[None])
        return tape

    def tangent(self, state, tape, g, dx, rho, relax, iterations):
        """See reference.Plan.tangent."""
        inverse = self._inverse(rho)
        gain = inverse * self.real.type(rho)
        relax = self.real.type(relax)

        def body(i, threads):
            page, shift = tape.steps[i][-1]
            dw, rows = _parts(state.w[i]), _rows(dx, 8)
            data = _parts(scipy.fft.fft2(g[i], workers=threads)).reshape(-1)
            _scale(data, inverse)
            k = np.empty(self.shape, self.dtype)
            self._reflect_tangent(dw[None], page[None], shift, rows, _parts(k)[None])
            for n in range(1, iterations + 1):
                k = self._solve(k, _filter, threads, gain, data)
                if n == iterations:
                    dx[i] = k
                self._pass_tangent(dw, _parts(k), page, shift, relax, rows)
                yield

        if iterations:
            self._each(state.batch, body)

    def reverse(self, tape, g, y, w, rho, relax):
        """See reference.Plan.reverse."""
        inverse = self._inverse(rho)
        rho, relax = self.real.type(rho), self.real.type(relax)

        def body(i, threads):
            lw, rows = _parts(w[i]), _rows(g, 8)
            lw[...] = 0
            total = np.zeros(self.index.size, self.dtype)
            k = g[i].copy()
            for page, shift in reversed(tape.steps[i]):
                k = scipy.fft.fft2(k, overwrite_x=True, workers=threads)
                _scale(_parts(k).reshape(-1), inverse)
                total += k.reshape(-1)[self.index]
                k = scipy.fft.ifft2(k, norm="forward", overwrite_x=True, workers=threads)
                self._pass_adjoint(lw, _parts(k), page, shift, relax, rho, rows)
                yield
            y[i] = self.pixels * self.to_samples * total

        self._each(len(g), body)
