# SPDX-License-Identifier: MIT
"""Total variation, recTV(y) = argmin_x 1/2 ||A x - y||^2 + lam ||D x||_1: solved, differentiated, kept warm.

The modulus in ||.||_1 is separable, |a + ib|_1 = |a| + |b|, unless `norm` says otherwise. The iteration is over-relaxed
ADMM on the one field w = D x + u and runs inside the engine; `kspike.reference` has its formulas.
"""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kspike import door, kernels, reference
from kspike._backends import select
from kspike.certificate import certify
from kspike.derivative import Jacobian
from kspike.norms import NORMS, magnitude
from kspike.objectives import inside
from kspike.operators import Gradient, MaskedFourier
from kspike.outcome import MOST, TOL, Outcome, Residuals, plain
from kspike.unrolled import Unrolled
from kspike.warm import Warm

__all__ = ["Residuals", "Solution", "TVSolver", "Warm", "penalty"]

# A solve ends at iteration k when k / 10 times the last change of x over ten iterations is at most SHARE times the
# error aimed at: what is left to go if x goes on like 1 / k. The engine takes one bound for many iterations: k is
# rounded up. With turns (below) k counts as at least BEFORE until the first. After a turn ten iterations say less: k
# counts as AFTER only, and x must have moved by at most MOVED times the error aimed at since the turn began. A turn
# says more: if x moved m' in the one before and m < m' in this, m^2 / (m' - m) is what is left if it goes on like that,
# and at most LEFT times the error aimed at where a turn may end a solve.
CHECK = 10
SHARE = 0.65  # of the aim
LOOK = 100
BEFORE, AFTER, MOVED, LEFT = 325, 120, 1.0, 0.7
ROUNDING = {"complex64": 16, "complex128": 128}  # times `_gain` eps max|A*y|: a change of x within this is none
# Where rho is the default a solve opens with others, (iterations, share of rho): little, for jumps to grow fast; then
# much, for the dual field to spread fast over the flat parts. How much goes by what has grown: an image is tall if it
# has come to more than TALL times max|A*y|, or else low. After that it is REST, which mends the jumps, and from
# iteration `first` on it takes turns: a PART of each of the growing legs between two looks is run with much again,
# times (k / first)^grows at iteration k, and the rest of it with REST; not if max_iterations leaves less than LEAST of
# it. Flat parts grow with the image: with r times SIDE pixels a side, r > 1, much is r times as much, in turns r^size
# times, REST and the counts of the opening are sqrt(r) times as large, and first r^0.75 times.
OPENINGS = {  # from where: little; size; for low images, and for tall ones: much, and of turns (first, times, grows)
    "cold": ((20, 0.25), 1.0, ((10, 8.0), (70, 8.0, 1.5)), ((20, 25.0), (130, 3.0, 2.0))),
    "state": ((20, 0.18), 0.5, ((10, 8.0), (70, 4.0, 1.5)), ((20, 7.0), (130, 4.0, 1.5))),
    "lifted": ((5, 0.7), 0.5, ((10, 8.0), (70, 4.0, 1.5)), ((10, 7.0), (90, 4.0, 1.5))),
}
SIDE, TALL = 256, 1.5
REST = (1.0, 0.7)  # of low images, of tall ones
PART, LEAST = 0.5, 0.75
PRECISE = 3e-5  # the aim of a solve that is differentiated at its solution
DERIVATIVES = ("unrolled", "implicit")


@dataclass(frozen=True, eq=False)
class Solution(Outcome):
    """What `TVSolver.solve` found: an `Outcome` that can be differentiated."""

    _age: Any = field(repr=False)

    def jacobian(self, *, tol=1e-6, max_pairs=1000, method="cg", warm=False):
        """The `Jacobian` of recTV here, with J(g) = dL/dy, J.tangent(dy) = dx and J.lam() = dx/dlam: implicit, no tape.

        It is the derivative at a solution: solve to a small tol, or it is that of the support of the state.
        """
        w = self.state.field()
        return Jacobian(self._solver, w, self._lead, tol=tol, max_pairs=max_pairs, method=method, warm=warm)


class TVSolver:
    """recTV for one mask and one lam: a plan, called on samples y of shape (..., m).

    Parameters
    ----------
    mask : bool array (rows, cols), centred
    lam : weight of ||D x||_1 in 1/2 ||A x - y||^2 + lam ||D x||_1; the paper's lambda is twice this
    rho : the ADMM penalty, which sets the speed and not the solution. The default, 20 lam^0.65 (m / n^2)^0.45 with n^2
        pixels, suits images of scale about 1; for scale s give 20 (lam / s)^0.65 (m / n^2)^0.45. Without a rho given,
        `solve` opens with a quarter of it for 20 iterations, where large jumps grow fast, and goes on with 8 times as
        much for 10, where the dual field spreads over the flat parts of the image, with 25 times for 20 where x has by
        then risen to more than 1.5 max|A*y|; less of both from a state. From iteration 70 on, or 130, it takes turns,
        of much for the dual field, ever more, and of it, or 0.7 times it, for the jumps. Above 256 x 256 all this takes
        longer, with more. A rho given is kept throughout.
    relax : over-relaxation, in (0, 2)
    dtype : "complex64" or "complex128", of samples and images
    backend : None (KSPIKE_BACKEND, or the fastest engine installed), "cpp", "numba", "cupy" or "reference"
    threads : how many threads the engine may use
    norm : which parts of the gradient of a pixel shrink together: "separable", none, the paper's code; "modulus", real
        and imaginary part of a component, ||D x||_1 = sum |d0| + |d1|; "isotropic", all four, sum sqrt(|d0|^2 + |d1|^2)

    Attributes: `shape`, `samples`, `lam`, `rho`, `relax`, `dtype`, `backend`, `threads`, `norm`, and `A`, the
    `MaskedFourier`.
    """

    def __init__(self, mask, lam, *, rho=None, relax=1.9, dtype="complex64", backend=None, threads=1, norm="separable"):
        if norm not in NORMS:
            raise ValueError(f"norm: expected one of {', '.join(NORMS)}, got {norm!r}")
        door.mask(mask)
        self.A = MaskedFourier(mask, dtype=dtype, backend=backend, threads=threads)
        self.shape, self.samples, self.dtype = self.A.shape, self.A.samples, self.A.dtype
        self.backend, self.threads = self.A.backend, self.A.threads
        self.lam = door.number("lam", lam, 0, closed=True)
        self.relax = door.number("relax", relax, 0, 2)
        self._opens = rho is None
        self.rho = penalty(self.lam, self.A) if rho is None else door.number("rho", rho, 0)
        low, high = door.SCALE[self.dtype]
        door.number("rho" if rho is not None else "lam: its default rho", self.rho, low, high)
        self._t = self.lam / self.rho
        self.norm, self._plan = norm, self.A._plan
        if norm != "separable":
            self._plan = self.A._engine.Plan(self.A.mask, self.dtype, self.threads, norm)

    def __reduce__(self):
        """See `MaskedFourier`."""
        options = {"rho": None if self._opens else self.rho, "relax": self.relax, "dtype": self.dtype.name}
        options |= {"backend": self.backend, "threads": self.threads, "norm": self.norm}
        return functools.partial(type(self), **options), (self.A.mask, self.lam)

    def __repr__(self):
        isa = getattr(select(self.backend), "ISA", None)
        return (
            f"TVSolver({self.shape}, lam={self.lam:g}, rho={self.rho:g}, relax={self.relax:g}, samples={self.samples}, "
            f"norm={self.norm}, dtype={self.dtype.name}, backend={self.backend}{f' ({isa})' if isa else ''}, "
            f"threads={self.threads})"
        )

    def __call__(self, y):
        """recTV(y): (..., m) -> (..., rows, cols). Warns if 4000 iterations did not reach the default tolerance."""
        info = self.solve(y)
        self._warn(info)
        return info.x

    def solve(self, y, max_iterations=MOST, tol=TOL, *, state=None, spike=None):
        """Solve to an aimed error ||x - x*||_inf of tol max|A*y|, each image of the batch for itself; a `Solution`.

        An image ends after k iterations when k / 10 times the last change of x over ten of them, in real or imaginary
        part, is at most 0.65 tol max|A*y|; k counts as at least 100, rounded up to the next of 100 1.5^j. Where the
        default rho takes turns, k counts as at least 325 before the first of them and as 120 after, and x must have
        moved by at most tol max|A*y| since the last one began. A turn in which x moved m, at most that far and less
        than the m' of the one before, ends it too if m^2 / (m' - m), the rest of a geometric series, is at most 0.7 tol
        max|A*y|. A rule, and no guarantee as `.certificate` is one. No change of x is seen below its rounding, which
        grows with the image, see docs/solver.md, so that complex64 is not for tol below 1e-3. tol = 0 runs exactly
        max_iterations.

        state : start from there and not from w = 0: the `Solution` of as many images by this solver or one with another
            lam or rho, or its `.state` if it is of this one, or `self.state(w)`; left unchanged
        spike : ((row, col), height), where and how high x will rise above the state: see `lift`
        """
        y, lead = self._samples(y)
        tol = door.number("tol", tol, 0, closed=True)
        max_iterations = door.whole("max_iterations", max_iterations, 1)
        age, start = 0, "cold" if state is None else "state" if spike is None else "lifted"
        if isinstance(state, Solution):
            age = state._age if state._solver.lam == self.lam else 0
            state = self._adopt(state)
        elif state is not None:
            state = state.copy()
        else:
            state = self._zero(y)
        if state.batch != len(y):
            raise ValueError(f"state: expected one of {len(y)} images, got {state.batch}")
        if spike is not None:
            state = self.lift(state, *spike)
        return self._solve(y, lead, state, max_iterations, tol, courses=self._courses(start), age=age)

    def state(self, w):
        """The state with the field w = D x + u, (..., 2, rows, cols), as `info.state.field()` gave it; w is copied."""
        door.array("w", w, (2, *self.shape), (self.dtype,))
        door.resident("w", w, self.A._engine)
        door.finite("w", w)
        return self._plan.state(door.batched(w, 3))

    def spike_height(self, eta):
        """eta sqrt(n^2 / m) - 4 lam n^2 / m, at least 0: how high recTV(y + e) rises where e = kspike.spike(A, ., eta).

        A spike of height h adds h to four differences, so that A*A (h delta) differs from A*e by 4 lam at its place, or
        by 2 + sqrt(2) times lam for the isotropic norm, where two of the four are one.
        """
        factor = math.prod(self.shape) / self.samples
        return max(door.number("eta", eta) * math.sqrt(factor) - self._pull * factor, 0.0)

    def _courses(self, start):
        """`_legs`' (opening, turns) for this size, of low images and of tall ones; or one, empty, if rho was given."""
        if not (self._opens and self.lam):
            return (((), None),)
        r = max(1.0, math.sqrt(math.prod(self.shape)) / SIDE)
        root = math.sqrt(r)
        (count, little), size, *rows = OPENINGS[start]
        return tuple(
            (
                ((round(root * count), little), (round(root * spread), r * much)),
                (CHECK * round(r**0.75 * first / CHECK), r**size * times, grows, root * rest),
            )
            for ((spread, much), (first, times, grows)), rest in zip(rows, REST, strict=True)
        )

    @functools.cached_property
    def _gain(self):
        """How much of the rounding of a transform x keeps: it is white, and at unsampled frequencies x divides by K."""
        k = reference.symbol(self.shape)[~self.A.mask]
        return max(0.5, math.sqrt((1 / k[k > 0] ** 2).sum() / math.prod(self.shape)))

    @property
    def _pull(self):
        """What the penalty takes from A*e at the place of a spike."""
        return self.lam * (2 + math.sqrt(2) if self.norm == "isotropic" else 4)

    def lift(self, state, location, height):
        """A copy of the state with a spike put in: z + D (height delta), and u at full length t where that is not zero.

        To solve for y + e from the solution for y where the answer is known to rise by about `height`, real or complex,
        at location (row, col): ADMM can raise a jump by about t = lam / rho in an iteration only.
        """
        place = inside(location, self.shape)
        if not np.isfinite(complex(height)):
            raise ValueError(f"height: expected a finite number, got {height!r}")
        w = state.field()
        for image in w:
            self._raise(image, place, complex(height))
        return self._plan.state(w)

    def _raise(self, w, location, height):
        """`lift` of one field (2, rows, cols), in place: it touches the four differences that see the pixel."""
        row, col = location
        rows, cols = [row - 1, row, row], [col, col - 1, col]  # the pixel last, should it be its own neighbour
        jumps = height * (np.array([[1, 0, -1], [0, 1, -1]]) * (np.array([self.shape]).T > 1))
        jumps, old = np.asarray(jumps[..., None], w.dtype, like=w), w[:, rows, cols][..., None]
        u = reference.clip(old, self._t, self.norm)
        z = old - u + jumps
        new = z + reference.clip(u + 1e12 * z, self._t, self.norm)
        w[:, rows, cols] = np.where((jumps != 0) | (self.norm == "isotropic"), new, old)[..., 0]

    def vjp(self, y, *, derivative="unrolled", iterations=None, tol=1e-6, max_pairs=1000):
        """The pair of x = recTV(y) and its pullback, dL/dx = dL/dRe x + i dL/dIm x -> dL/dy: (..., m).

        "unrolled": the exact derivative of the iteration that was run, at 4 bits per pixel and iteration. Runs
        `iterations` from w = 0 if given, else as `tv(y)` with one rho. "implicit": the derivative at the solution, by a
        `Jacobian`: that is the pullback, and has `.residual`, what it reached of tol in at most max_pairs,
        `.tangent(dy)` and `.lam()`. Either pullback may be called again.
        """
        if derivative not in DERIVATIVES:
            raise ValueError(f"derivative: expected one of {', '.join(DERIVATIVES)}, got {derivative!r}")
        if derivative == "implicit":
            if iterations is not None:
                raise TypeError("iterations: expected none for derivative='implicit', which is that at the solution")
            info = self.solve(y, max_iterations=2 * MOST, tol=PRECISE)
            self._warn(info)
            return info.x, info.jacobian(tol=tol, max_pairs=max_pairs)
        y, lead = self._samples(y)
        x = self._like(y, (*lead, *self.shape))
        parts = [slice(0, len(y))] if iterations is not None else [slice(i, i + 1) for i in range(len(y))]
        tapes = [self._plan.tape(part.stop - part.start) for part in parts]
        run, slow = (MOST, TOL) if iterations is None else (door.whole("iterations", iterations, 1), 0.0), None
        for part, tape in zip(parts, tapes, strict=True):
            info = self._solve(y[part], (part.stop - part.start,), self._zero(y[part]), *run, tape=tape)
            door.batched(x, 2)[part] = info.x
            slow = slow if info.converged.all() else info
        if slow is not None and iterations is None:
            self._warn(slow)

        def pullback(g):
            self._image("g", g, lead)
            out = self._like(y, (*lead, self.samples))
            for part, tape in zip(parts, tapes, strict=True):
                w = self._like(y, (part.stop - part.start, 2, *self.shape))
                cotangents = door.batched(g, 2)[part], door.batched(out, 1)[part], w
                self._plan.reverse(tape, *cotangents, self.rho, self.relax)
            return out

        return x, pullback

    def warm(self, y, *, forward=3, backward=3, tol=1e-3):
        """A `Warm`: recTV that starts each solve where the last one ended, solved at y (..., m) to tol to begin with.

        Where rho is the default it goes on with 8.6 sqrt(lam m / n^2), which is smaller: jumps follow the data faster.
        """
        forward, backward = door.whole("forward", forward, 1), door.whole("backward", backward, 1)
        info = self.solve(y, tol=tol)
        self._warn(info)
        follower = self
        if self._opens and self.lam:
            follower = object.__new__(TVSolver)  # on the same plan
            rho = self._following
            vars(follower).update(vars(self) | {"rho": rho, "_t": self.lam / rho, "_opens": False})
        return Warm(follower, info.x, follower._adopt(info), forward, backward)

    @property
    def _following(self):
        """The default rho of a solve that follows jumps which are there already."""
        return 8.6 * math.sqrt(self.lam * self.samples / math.prod(self.shape))

    def unrolled(self, y, **counts):
        """The reconstruction as the paper's code attacks it, around samples y of one image; an `Unrolled`."""
        return Unrolled(self, y, **counts)

    def objective(self, x, y):
        """1/2 ||A x - y||^2 + lam ||D x||_1 in double precision: a float, or an array over the leading dimensions."""
        A, D = self._double
        x, y = x.astype("complex128"), y.astype("complex128")
        d = D(x)
        tv = magnitude(d, self.norm).sum((-3, -2, -1))
        return plain(0.5 * _norm(A(x) - y, 1) ** 2 + self.lam * tv)

    def _certificate(self, info):
        lead = info.x.shape[:-2]
        w = info.state.field().astype("complex128").reshape(*lead, 2, *self.shape)
        p = self.rho * kernels.clip(w, self._t, norm=self.norm, backend=self.backend)
        return certify(self._double[0], self.lam, info.x, info._y, p, norm=self.norm)

    def _residuals(self, info):
        A, D = self._double
        lead = info.x.shape[:-2]
        x, y = info.x.astype("complex128"), info._y.astype("complex128")
        w = info.state.field().astype("complex128").reshape(*lead, 2, *self.shape)
        u = kernels.clip(w, self._t, norm=self.norm, backend=self.backend)
        z = w - u
        primal = _ratio(_norm(D(x) - z, 3), _norm(z, 3))
        dual = _ratio(_norm(A.adjoint(A(x) - y) + self.rho * D.adjoint(u), 2), _norm(y, 1))
        return Residuals(info._change, plain(primal), plain(dual))

    @functools.cached_property
    def _double(self):
        """A and D in double precision, for what is reported."""
        A = self.A
        if self.dtype != np.complex128:
            A = MaskedFourier(A.mask, dtype="complex128", backend=self.backend, threads=self.threads)
        return A, Gradient(self.shape, backend=self.backend)

    def _samples(self, y, finite=True):
        """Check y and view it as (batch, m); also the leading dimensions."""
        door.array("y", y, (self.samples,), (self.dtype,))
        door.resident("y", y, self.A._engine)
        if finite:
            door.scale("y", y)
        return door.batched(y, 1), y.shape[:-1]

    def _image(self, name, x, lead):
        """Check an image of the batch that y had."""
        door.array(name, x, self.shape, (self.dtype,))
        if x.shape[:-2] != lead:
            raise ValueError(f"{name}: expected shape {(*lead, *self.shape)}, got {x.shape}")

    def _like(self, y, shape):
        return np.empty_like(y, shape=shape)

    def _zero(self, y):
        return self._plan.state(np.zeros_like(y, shape=(len(y), 2, *self.shape)))

    def _adopt(self, info):
        """The state of a solution by a solver of the same kind: z stays, u keeps its share of the box of the dual."""
        other = info._solver
        if (other.shape, other.dtype, other.norm, other.backend) != (self.shape, self.dtype, self.norm, self.backend):
            raise ValueError(f"state: expected the solution of a solver like {self}, got one of {other}")
        state = self._plan.state(info.state.field())
        if other._t not in (0, self._t):
            self._plan.rescale(state, other._t, self._t)
        return state

    def _solve(self, y, lead, state, max_iterations, tol, tape=None, courses=(((), None),), age=0):
        """`solve`, after the door. age: iterations that each image has behind it. tape: for one image, or tol = 0."""
        x = self._like(y, (len(y), *self.shape))
        aim = floor = np.full(len(y), -1.0)  # below every change: the rule is never met
        if tol or len(courses) > 1:
            self._plan.adjoint(y, out=x)
            size = _top(x)
        if tol:
            aim, floor = SHARE * tol * size, ROUNDING[self.dtype.name] * self._gain * np.finfo(self.dtype).eps * size
        age = np.broadcast_to(np.reshape(age, -1), len(y))
        count, change, met = np.zeros(len(y), np.int64), np.full(len(y), np.inf), np.zeros(len(y), bool)
        turn, previous = np.zeros((2, len(y)))  # how far x moved in the last turn, and in the one before it
        # Images that go on together, their threshold, x when their last turn began, and their legs; and those that end.
        # Both courses begin with the same leg; after it each image takes its own.
        forks = [list(_legs(max_iterations, tol > 0, *course)) for course in courses]
        groups, ended = [(np.arange(len(y)), (state, y, x), self._t, None, forks[0])], []
        while groups:
            on, part, t, before, ((iterations, share, look), *legs) = groups.pop()
            if look < 0 and tol:
                before, previous[on] = part[2].copy(), turn[on]
            stop = np.maximum(aim[on] * CHECK / (look + age[on]), floor[on]) if look > 0 else np.full(len(on), -1.0)
            if self._t / share != t:
                self._plan.rescale(part[0], t, self._t / share)
                t = self._t / share
            scalars = t, share * self.rho, self.relax, iterations
            ran, moved = self._plan.iterate(*part, *scalars, stop=stop, tape=tape)
            if np.isnan(moved).any():
                raise ValueError(f"y, lam, rho: expected what {self.dtype} holds on the way, got more: scale them")
            coming, forks = [fork[1:] for fork in forks] or [legs], []
            count[on] += ran
            change[on] = np.where(np.isfinite(moved) & (look > 0), moved, change[on])
            done = moved <= stop
            if before is not None and look > 0:
                m = _top(part[2] - before)
                near = m <= np.maximum(MOVED / SHARE * aim[on], floor[on])
                geometric = m * m <= LEFT / SHARE * aim[on] * (previous[on] - m)
                done = near & (done | geometric)
                turn[on], previous[on[ran == iterations]] = m, 0  # what may follow a turn's end is none
            met[on] = done
            left = np.where(done, -1, iterations - ran)  # more than 0 where x was too far: the leg goes on
            tall = _top(part[2]) > TALL * size[on] if len(coming) > 1 else np.zeros(len(on), bool)
            for n, fork in sorted(set(zip(left.tolist(), tall.tolist(), strict=True))):
                chosen = (left == n) & (tall == fork)
                ahead = [(n, share, look)] * (n > 0) + coming[fork] * (n >= 0)
                group = on[chosen], self._some(part, chosen), t
                if ahead:
                    start = before if before is None or chosen.all() else before[np.flatnonzero(chosen).tolist()]
                    groups.append((*group, start, ahead))
                else:
                    ended.append(group)
        state = self._whole(ended, x)
        iterations, converged, change, age = (plain(a.reshape(lead)) for a in (count, met, change, count + age))
        x, y = x.reshape(*lead, *self.shape), y.reshape(*lead, self.samples)
        return Solution(x, iterations, converged, state, self, y, change, age)

    def _some(self, part, chosen):
        """The images `chosen` of (state, y, x), copies unless that is all of them."""
        if chosen.all():
            return part
        state, y, x = part
        chosen = np.flatnonzero(chosen).tolist()
        return self._plan.state(state.field()[chosen]), y[chosen], x[chosen]

    def _whole(self, parts, x):
        """The state of a batch, and its x in place, from parts (which images, (state, y, x), threshold)."""
        for _, (state, _, _), t in parts:
            if t != self._t:
                self._plan.rescale(state, t, self._t)
        if len(parts) == 1:
            return parts[0][1][0]
        w = self._like(x, (len(x), 2, *self.shape))
        for on, (state, _, image), _ in parts:
            w[on.tolist()], x[on.tolist()] = state.field(), image
        return self._plan.state(w)

    def _warn(self, info):
        if not np.all(info.converged):
            warnings.warn(
                f"recTV did not converge: ||x_k - x_(k-10)||_inf is still {np.max(info.residuals.change):.1e} after "
                f"{np.max(info.iterations)} iterations. Set rho for the scale of the image, dtype='complex128', "
                "or call solve(y, max_iterations=..., tol=...), which reports instead of warning.",
                UserWarning,
                stacklevel=3,
            )


def penalty(lam, A):
    """The default rho of ADMM for the gradient, 20 lam^0.65 (m / n^2)^0.45; 1 for lam = 0, where any will do."""
    return 20 * lam**0.65 * (A.samples / math.prod(A.shape)) ** 0.45 or 1.0


def _legs(max_iterations, looks, opening=(), turns=None):
    """How a solve is divided: (iterations, share of rho, the k of the stopping rule) until max_iterations are run.

    turns: when they begin, their share of much then, the power of k with which it grows, and the share of the rest. No
    leg with much may end a solve, x hardly moves then: k = 0, or -1 in a turn. A turn of which max_iterations leaves
    too little is not begun.
    """
    done, turned = 0, False
    first, much, grows, rest = turns or (LOOK, 1.0, 0.0, 1.0)
    for n, (iterations, share) in enumerate(opening):
        iterations = min(iterations, max_iterations - done)
        if iterations:
            yield iterations, share, 0 if n else max(first, BEFORE)
        done += iterations
    look = first
    while done < max_iterations:
        whole = max(look - done, 2 * CHECK) if looks or turns else max_iterations
        last = min(done + whole, max_iterations)
        if turns and first <= done and last - done >= LEAST * whole:
            part = int(PART * (last - done))
            yield part, much * (done / first) ** grows, -1
            done, turned = done + part, True
        yield last - done, rest, AFTER if turned else max(look, BEFORE) if turns else look
        done, look = last, CHECK * math.ceil(1.5 * look / CHECK)


def _top(x):
    """The largest modulus of each image, on the host."""
    return np.array(np.abs(x).max((-2, -1)).tolist())


def _norm(x, inner):
    """l2 norm over the last `inner` dimensions."""
    return np.sqrt((np.abs(x) ** 2).sum(tuple(range(-inner, 0))))


def _ratio(a, b):
    """The ratio a / b, or a where b = 0."""
    return a / np.where(b > 0, b, 1)
